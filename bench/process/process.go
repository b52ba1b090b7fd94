// Package process runs the programs of a benchmark: roles of this program, which say
// that they are ready and end when their standard input does, and those of others. It
// knows what they cost so far. A Process owns one goroutine, which Stop joins.
package process

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/simreach/simreach/internal/node"
)

const (
	readyTimeout = time.Minute
	stopTimeout  = 20 * time.Second
	tailBytes    = 1000
)

// Spec is what to run.
type Spec struct {
	Name string   // in errors; empty means the program and its first argument
	Args []string // the program first
	Log  string   // a file for what it writes
	// Foreign is a program that says nothing when it is ready and is ended by a signal.
	// Others write the line "ready" to descriptor 3, which Start waits for, and end in
	// order when their standard input does.
	Foreign bool
	// Start starts the command; nil means (*exec.Cmd).Start. A namespace's Start goes
	// here.
	Start func(*exec.Cmd) error
}

// Process is a started program. Its methods may be called from any goroutine; Stop must
// be called once.
type Process struct {
	name string
	spec Spec
	cmd  *exec.Cmd
	life io.Closer // its standard input
	done chan struct{}
	err  error // how it ended; valid once done is closed
}

// Start starts a program and waits until it is ready, at most a minute. ctx bounds that
// only.
func Start(ctx context.Context, s Spec) (*Process, error) {
	out, err := os.Create(s.Log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &Process{name: s.Name, spec: s, done: make(chan struct{})}
	if p.name == "" {
		p.name = strings.Join(append([]string{filepath.Base(s.Args[0])}, s.Args[1:min(2, len(s.Args))]...), " ")
	}
	p.cmd = exec.Command(s.Args[0], s.Args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.life, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, p.life.Close())
	}
	defer read.Close()
	if !s.Foreign {
		p.cmd.ExtraFiles = []*os.File{write}
	}
	start := s.Start
	if start == nil {
		start = (*exec.Cmd).Start
	}
	err = start(p.cmd)
	write.Close()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if s.Foreign {
		return p, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = read.SetReadDeadline(time.Unix(1, 0)) })()
	if line, err := bufio.NewReader(read).ReadString('\n'); line != "ready\n" {
		if err == nil {
			err = fmt.Errorf("it said %q", line)
		}
		return nil, errors.Join(fmt.Errorf("%s is not ready: %w; the end of its log: %s", p.name, cmp.Or(ctx.Err(), err), p.Tail()), p.Stop())
	}
	return p, nil
}

// StartRole starts a role of program, this program's file, with a configuration of its
// own in dir, beside its log. start is Spec.Start.
func StartRole(ctx context.Context, dir, program, name string, role node.Role, start func(*exec.Cmd) error) (*Process, error) {
	text, err := node.Marshal(role)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, name+".yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	return Start(ctx, Spec{
		Name: name, Args: []string{program, name, "--config", file, "--ready-fd", "3", "--until-stdin-closes", "--log-level", "warn"},
		Log: filepath.Join(dir, name+".log"), Start: start,
	})
}

// Name returns what the Spec calls it.
func (p *Process) Name() string { return p.name }

// PID returns the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop ends the program and its children, and returns when it has ended. An error says
// that it did not end in order: it failed, which of a Foreign one is not said, or was
// killed after 20 s.
func (p *Process) Stop() error {
	_ = p.life.Close()
	if p.spec.Foreign {
		p.signal(syscall.SIGTERM)
	}
	t := time.NewTimer(stopTimeout)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
		p.signal(syscall.SIGKILL)
		<-p.done
		return fmt.Errorf("%s did not end by itself and was killed; the end of its log: %s", p.name, p.Tail())
	}
	p.signal(syscall.SIGKILL) // children that outlive it
	if p.err != nil && !p.spec.Foreign {
		return fmt.Errorf("%s: %w; the end of its log: %s", p.name, p.err, p.Tail())
	}
	return nil
}

// signal reaches the whole group, which may be gone already.
func (p *Process) signal(s syscall.Signal) { _ = syscall.Kill(-p.PID(), s) }

// Tail returns the end of what the program wrote.
func (p *Process) Tail() string {
	b, err := os.ReadFile(p.spec.Log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-tailBytes):]))
}
