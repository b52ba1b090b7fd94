// Package report writes what a run found: results JSON, JUnit XML and lines for
// people. It starts no goroutine.
package report

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Result is the outcome of one scenario on one backend.
type Result struct {
	Scenario string        `json:"scenario"`
	File     string        `json:"file"`
	Backend  string        `json:"backend"`
	Covers   []string      `json:"covers,omitempty"`
	Started  time.Time     `json:"started"`
	Duration time.Duration `json:"duration_ns"`
	Passed   bool          `json:"passed"`
	Skipped  string        `json:"skipped,omitempty"` // why the backend could not run it
	Error    string        `json:"error,omitempty"`   // of start or teardown; steps have their own
	Steps    []Step        `json:"steps"`
}

// Step is the outcome of one step.
type Step struct {
	Name     string        `json:"name"`
	Verb     string        `json:"verb"`
	Line     int           `json:"line"`
	Duration time.Duration `json:"duration_ns"`
	Error    string        `json:"error,omitempty"`
	NotRun   bool          `json:"not_run,omitempty"` // an earlier step failed
}

// The files that Write makes.
const (
	resultsFile = "results.json"
	junitFile   = "junit.xml"
)

// Discard removes the verdict of an earlier run from dir, which must not pass for that
// of a run that is killed before Write.
func Discard(dir string) error {
	for _, name := range []string{resultsFile, junitFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("results of an earlier run: %w", err)
		}
	}
	return nil
}

// Write puts results.json and junit.xml into dir.
func Write(dir string, r *Result) error {
	out := *r
	if out.Steps == nil {
		out.Steps = []Step{} // readers expect a list
	}
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, resultsFile), append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	x, err := xml.MarshalIndent(junit(r), "", "  ")
	if err != nil {
		return fmt.Errorf("write JUnit report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, junitFile), append([]byte(xml.Header), append(x, '\n')...), 0o644); err != nil {
		return fmt.Errorf("write JUnit report: %w", err)
	}
	return nil
}

type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"`
	Stamp    string      `xml:"timestamp,attr"`
	Cases    []junitCase `xml:"testcase"`
	Err      string      `xml:"system-err,omitempty"`
}

type junitCase struct {
	Name    string     `xml:"name,attr"`
	Class   string     `xml:"classname,attr"`
	Time    string     `xml:"time,attr"`
	Failure *junitText `xml:"failure"`
	Skipped *junitText `xml:"skipped"`
}

type junitText struct {
	Message string `xml:"message,attr"`
}

// junit maps a scenario to a test suite with a test case per step, and one more
// for the topology when it failed outside every step.
func junit(r *Result) junitSuite {
	s := junitSuite{Name: r.Scenario + "/" + r.Backend, Time: seconds(r.Duration), Stamp: r.Started.UTC().Format("2006-01-02T15:04:05"), Err: r.Error}
	add := func(c junitCase) {
		s.Tests++
		if c.Failure != nil {
			s.Failures++
		}
		if c.Skipped != nil {
			s.Skipped++
		}
		s.Cases = append(s.Cases, c)
	}
	for i, st := range r.Steps {
		c := junitCase{Name: fmt.Sprintf("%02d %s", i+1, st.Name), Class: s.Name, Time: seconds(st.Duration)}
		switch {
		case st.NotRun:
			c.Skipped = &junitText{"an earlier step failed"}
		case st.Error != "":
			c.Failure = &junitText{st.Error}
		}
		add(c)
	}
	if r.Error != "" {
		add(junitCase{Name: "topology", Class: s.Name, Time: "0", Failure: &junitText{r.Error}})
	}
	if r.Skipped != "" {
		add(junitCase{Name: "scenario", Class: s.Name, Time: "0", Skipped: &junitText{r.Skipped}})
	}
	return s
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }

// Progress prints a run as it goes. With a terminal the running step is shown and
// then overwritten by its outcome; otherwise a line is printed per finished step.
type Progress struct {
	W        io.Writer
	Terminal bool
}

// Start announces a scenario.
func (p Progress) Start(r *Result, steps int) {
	noun := "steps"
	if steps == 1 {
		noun = "step"
	}
	fmt.Fprintf(p.W, "%s on %s: %d %s\n", r.Scenario, r.Backend, steps, noun)
}

// Running announces what is being done now.
func (p Progress) Running(what string) {
	if p.Terminal {
		fmt.Fprintf(p.W, "\r\033[K  ...  %s", printable(what, " "))
	}
}

// Step prints a finished step.
func (p Progress) Step(st Step) {
	p.clear()
	mark := "ok  "
	if st.Error != "" {
		mark = "FAIL"
	}
	fmt.Fprintf(p.W, "  %s %s (%s)\n", mark, printable(st.Name, " "), st.Duration.Round(time.Millisecond))
	if st.Error != "" {
		fmt.Fprintf(p.W, "       line %d: %s\n", st.Line, printable(st.Error, "\n       "))
	}
}

// End prints the verdict.
func (p Progress) End(r *Result) {
	p.clear()
	if r.Error != "" {
		fmt.Fprintf(p.W, "  FAIL %s\n", printable(r.Error, "\n       "))
	}
	if r.Skipped != "" {
		fmt.Fprintf(p.W, "%s on %s: SKIPPED: %s\n", r.Scenario, r.Backend, printable(r.Skipped, "\n       "))
		return
	}
	verdict := "FAILED"
	if r.Passed {
		verdict = "PASSED"
	}
	fmt.Fprintf(p.W, "%s on %s: %s in %s\n", r.Scenario, r.Backend, verdict, r.Duration.Round(time.Millisecond))
}

func (p Progress) clear() {
	if p.Terminal {
		fmt.Fprint(p.W, "\r\033[K")
	}
}

// printable makes text safe for a terminal: it may quote what a program printed.
// newline takes the place of each line break within it.
func printable(text, newline string) string {
	var b strings.Builder
	for _, r := range strings.TrimRight(text, "\n") {
		switch {
		case r == '\n':
			b.WriteString(newline)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}
