package scenariotest

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Tshark is one way of reading captures: options for every file, such as
// preferences ("-o", "udp.check_checksum:TRUE").
type Tshark struct {
	Options []string
}

// Severities of expert information, as tshark prints them.
const (
	severityWarning = 6291456
	severityError   = 8388608
)

// Remark is a warning or an error of tshark's experts about a frame.
type Remark struct {
	Frame, Protocols string
	Error            bool
	Text             string
}

func (r Remark) String() string {
	level := "warning"
	if r.Error {
		level = "error"
	}
	return fmt.Sprintf("frame %s (%s): %s: %s", r.Frame, r.Protocols, level, r.Text)
}

// Remarks returns what tshark's experts say about a capture from warnings up, and
// the number of frames. A malformed frame is a remark too.
func (w Tshark) Remarks(t testing.TB, file string) (remarks []Remark, frames int) {
	t.Helper()
	out := w.run(t, file, "-T", "fields", "-E", "separator=/t", "-E", "aggregator=|",
		"-e", "frame.number", "-e", "frame.protocols", "-e", "_ws.malformed", "-e", "_ws.expert.severity", "-e", "_ws.expert.message")
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) != 5 {
			t.Fatalf("%s: tshark printed %q, want five fields", filepath.Base(file), line)
		}
		frames++
		if f[2] != "" {
			remarks = append(remarks, Remark{f[0], f[1], true, "malformed packet"})
		}
		if f[3] == "" {
			continue
		}
		severities, texts := strings.Split(f[3], "|"), strings.Split(f[4], "|")
		for i, s := range severities {
			n, err := strconv.Atoi(s)
			if err != nil {
				t.Fatalf("%s: severity %q in %q", filepath.Base(file), s, line)
			}
			if n < severityWarning {
				continue
			}
			r := Remark{f[0], f[1], n >= severityError, f[4]}
			if len(texts) == len(severities) {
				r.Text = texts[i]
			}
			remarks = append(remarks, r)
		}
	}
	return remarks, frames
}

// Counts returns how many frames match each of the display filters, in one reading.
func (w Tshark) Counts(t testing.TB, file string, filters []string) []int {
	t.Helper()
	// One interval for the whole file: | from <> to | frames | bytes | frames | ...
	out := w.run(t, file, "-q", "-z", "io,stat,0,"+strings.Join(filters, ","))
	for line := range strings.Lines(out) {
		cells := strings.Split(line, "|")
		if len(cells) < 2*len(filters)+2 || !strings.Contains(cells[1], "<>") {
			continue
		}
		counts := make([]int, len(filters))
		for i := range filters {
			n, err := strconv.Atoi(strings.TrimSpace(cells[2+2*i]))
			if err != nil {
				t.Fatalf("%s: tshark counted %q", filepath.Base(file), line)
			}
			counts[i] = n
		}
		return counts
	}
	t.Fatalf("%s: no counts in what tshark printed:\n%s", filepath.Base(file), out)
	return nil
}

func (w Tshark) run(t testing.TB, file string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "tshark", append(append([]string{"-n", "-r", file}, w.Options...), args...)...)
	out, err := cmd.Output()
	if err != nil {
		text := ""
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			text = string(e.Stderr)
		}
		t.Fatalf("tshark %s: %v\n%s", filepath.Base(file), err, text)
	}
	return string(out)
}

// Expectation is what a capture must have.
type Expectation struct {
	File    string   // "n2.pcap"
	Filters []string // display filters that match at least one frame each
	// Accept says of a warning or an error that it is as it should be, and why in a
	// comment beside it; nil accepts none.
	Accept func(Remark) bool
}

// Check fails t for every expectation that a capture in dir does not meet, and for
// every capture in dir that nobody expects.
func (w Tshark) Check(t testing.TB, dir string, want []Expectation) {
	t.Helper()
	left := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(dir, "*.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		left[filepath.Base(f)] = true
	}
	for _, x := range want {
		if !left[x.File] {
			t.Errorf("%s: there is no such capture", x.File)
			continue
		}
		delete(left, x.File)
		file := filepath.Join(dir, x.File)
		remarks, frames := w.Remarks(t, file)
		if frames == 0 {
			t.Errorf("%s: no frames", x.File)
		}
		for _, r := range remarks {
			if x.Accept == nil || !x.Accept(r) {
				t.Errorf("%s: %s", x.File, r)
			}
		}
		if len(x.Filters) == 0 {
			continue
		}
		for i, n := range w.Counts(t, file, x.Filters) {
			if n == 0 {
				t.Errorf("%s: no frame matches %q", x.File, x.Filters[i])
			}
		}
	}
	for f := range left {
		t.Errorf("%s: nobody says what must be in it", f)
	}
}
