package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait of these tests.
const patience = 60 * time.Second

// process is the program, running.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  chan string // of its standard output; closed at its end
	stderr bytes.Buffer
	tmp    string // its TMPDIR
	waited bool
}

// startProcess starts the program with start, which is (*exec.Cmd).Start or that of
// a namespace. It is killed at the end of the test if it has not been waited for.
func startProcess(t *testing.T, start func(*exec.Cmd) error, args ...string) *process {
	t.Helper()
	p := &process{t: t, lines: make(chan string, 1000), tmp: t.TempDir()}
	p.cmd = command(t, args...)
	p.cmd.Env = append(p.cmd.Env, "TMPDIR="+p.tmp)
	p.cmd.Stderr = &p.stderr
	// Not StdoutPipe: Wait must not close it before all has been read.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout = w
	if err := errors.Join(start(p.cmd), w.Close()); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(p.lines)
		in := bufio.NewScanner(r)
		for in.Scan() {
			p.lines <- in.Text()
		}
	}()
	t.Cleanup(func() {
		if !p.waited {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		r.Close()
		<-read
	})
	return p
}

// command is the program as a command of this test binary.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), asMain)
	return c
}

// await reads lines until one contains text, and returns all of them.
func (p *process) await(text string) (seen []string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	for {
		select {
		case l, ok := <-p.lines:
			if !ok {
				_ = p.cmd.Wait()
				p.waited = true
				p.t.Fatalf("it ended before it printed %q: %q, standard error: %s", text, seen, p.stderr.String())
			}
			seen = append(seen, l)
			if strings.Contains(l, text) {
				return seen
			}
		case <-ctx.Done():
			p.t.Fatalf("%q was not printed: %q", text, seen)
		}
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// wait returns the exit code and what was printed since the last await.
func (p *process) wait() (code int, rest string) {
	p.t.Helper()
	late := time.AfterFunc(patience, func() { _ = p.cmd.Process.Signal(syscall.SIGQUIT) })
	defer late.Stop()
	var b strings.Builder
	for l := range p.lines {
		b.WriteString(l + "\n")
	}
	err := p.cmd.Wait()
	p.waited = true
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode(), b.String()
}

// wantEmpty wants nothing to be left in a directory.
func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("left behind: %s", filepath.Join(dir, e.Name()))
	}
}

// interrupt runs waits.yaml and presses Ctrl-C in its last step.
func interrupt(t *testing.T, backend string, start func(*exec.Cmd) error) {
	t.Helper()
	out := t.TempDir()
	p := startProcess(t, start, "run", "--backend", backend, "--out", out, "testdata/waits.yaml")
	p.await("ok   a program in the background")
	p.signal(os.Interrupt)
	code, rest := p.wait()
	if code != codeInterrupted {
		t.Errorf("want exit code %d, got %d: %s", codeInterrupted, code, p.stderr.String())
	}
	for _, want := range []string{"FAIL await", "interrupt signal received", "waits on " + backend + ": FAILED"} {
		if !strings.Contains(rest, want) {
			t.Errorf("want %q printed, got:\n%s", want, rest)
		}
	}
	if strings.Contains(rest, "tear down") {
		t.Errorf("the teardown went wrong:\n%s", rest)
	}
	if _, err := os.Stat(filepath.Join(out, "waits", backend, "results.json")); err != nil {
		t.Errorf("an interrupted run has results too: %v", err)
	}
	wantEmpty(t, p.tmp)
}

func TestInterruptedRun(t *testing.T) { interrupt(t, "inproc", (*exec.Cmd).Start) }

// TestCleanAfterCrash: what a topology in one process leaves when it is killed, clean
// removes, but nothing of one that lives.
func TestCleanAfterCrash(t *testing.T) {
	p := startProcess(t, (*exec.Cmd).Start, "up", "--backend", "inproc", "testdata/small.yaml")
	p.await("Ctrl-C ends it")
	t.Setenv("TMPDIR", p.tmp)
	if code, out, stderr := output(t, (*exec.Cmd).Start, nil, "clean"); code != 0 || strings.Contains(out, p.tmp) {
		t.Errorf("clean beside a live one: code %d, %s%s", code, out, stderr)
	}
	p.signal(syscall.SIGKILL)
	p.wait()
	if code, out, stderr := output(t, (*exec.Cmd).Start, nil, "clean"); code != 0 || strings.Count(out, "removed "+p.tmp+"/simreach-") != 1 {
		t.Errorf("clean: code %d, %s%s", code, out, stderr)
	}
	wantEmpty(t, p.tmp)
}

func TestInterruptedUp(t *testing.T) {
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(s.String(), func(t *testing.T) {
			p := startProcess(t, (*exec.Cmd).Start, "up", "--backend", "inproc", "testdata/small.yaml")
			text := strings.Join(p.await("Ctrl-C ends it"), "\n")
			for _, want := range []string{"small is up on inproc", "manager's REST API", "auth key", "CA of the relays", "outer relay outer1", "UE ue1", "001010000000001"} {
				if !strings.Contains(text, want) {
					t.Errorf("want %q printed, got:\n%s", want, text)
				}
			}
			p.signal(s)
			if code, rest := p.wait(); code != 0 || rest != "" {
				t.Errorf("ending up is no failure: code %d, %s%s", code, rest, p.stderr.String())
			}
			wantEmpty(t, p.tmp)
		})
	}
}

// TestUnreadOutput: nobody reads what a run prints, as after "| head -1". It goes on to
// its verdict and removes what it made.
func TestUnreadOutput(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for file, want := range map[string]int{"small.yaml": 0, "fails.yaml": 1} {
		tmp := t.TempDir()
		c := command(t, "run", "--backend", "inproc", filepath.Join("testdata", file))
		c.Env = append(c.Env, "TMPDIR="+tmp)
		c.Stdout, c.Stderr = w, w
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
		err := c.Wait()
		late.Stop()
		if got := c.ProcessState.ExitCode(); got != want {
			t.Errorf("%s: want exit code %d, got %d: %v", file, want, got, err)
		}
		wantEmpty(t, tmp)
	}
}

// TestHangupIgnored: a program that was started by nohup outlives its terminal.
func TestHangupIgnored(t *testing.T) {
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	p := startProcess(t, (*exec.Cmd).Start, "up", "--backend", "inproc", "testdata/small.yaml")
	p.await("Ctrl-C ends it")
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	ignored := regexp.MustCompile(`(?m)^SigIgn:\s*[0-9a-f]*([0-9a-f])$`).FindSubmatch(text)
	if ignored == nil || !strings.Contains("13579bdf", string(ignored[1])) {
		t.Errorf("SIGHUP is not ignored any more: %s", text)
	}
	p.signal(os.Interrupt)
	if code, rest := p.wait(); code != 0 || rest != "" {
		t.Errorf("code %d, %s%s", code, rest, p.stderr.String())
	}
}

// output runs the program to its end and returns what it printed.
func output(t *testing.T, start func(*exec.Cmd) error, in io.Reader, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	c := command(t, args...)
	var out, errOut bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = in, &out, &errOut
	if err := start(c); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
	defer late.Stop()
	err := c.Wait()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), out.String(), errOut.String()
}
