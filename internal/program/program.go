// Package program runs other programs for scenarios: each leads a process group, so
// that stopping it reaches its children too, and ends with its context at the
// latest. A Program owns one goroutine, which Wait joins.
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// stopTimeout is how long a program may take to end after SIGTERM, and how long a
// grandchild may hold its outputs open after it ended.
const stopTimeout = 5 * time.Second

// Spec is what to run.
type Spec struct {
	Args   []string // Args[0] is looked up on PATH
	Env    []string // added to this process's environment
	Stdin  io.Reader
	Stdout io.Writer // nil discards
	Stderr io.Writer
	// Start starts the command; nil means (*exec.Cmd).Start. A namespace's Start
	// goes here.
	Start func(*exec.Cmd) error
}

// Program is a started program. Its methods may be called from any goroutine; Wait
// must be called.
type Program struct {
	cmd    *exec.Cmd
	detach func() bool
	done   chan struct{}
	code   int // valid once done is closed
	err    error
}

// Start starts a program; it is killed when ctx ends.
func Start(ctx context.Context, s Spec) (*Program, error) {
	path, err := exec.LookPath(s.Args[0])
	if err != nil {
		return nil, fmt.Errorf("%w: install it, or take the step out", err)
	}
	cmd := &exec.Cmd{Path: path, Args: s.Args, Env: append(os.Environ(), s.Env...), Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = stopTimeout
	start := s.Start
	if start == nil {
		start = (*exec.Cmd).Start
	}
	if err := start(cmd); err != nil {
		return nil, err
	}
	p := &Program{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		err := cmd.Wait()
		p.code = cmd.ProcessState.ExitCode()
		if _, exited := errors.AsType[*exec.ExitError](err); exited && p.code >= 0 {
			err = nil
		}
		p.err = err
	}()
	p.detach = context.AfterFunc(ctx, func() { p.signal(syscall.SIGKILL) })
	return p, nil
}

// signal reaches the whole group, which may be gone already.
func (p *Program) signal(s syscall.Signal) { _ = syscall.Kill(-p.cmd.Process.Pid, s) }

// Wait returns the exit code; -1 with an error when the program did not exit by
// itself.
func (p *Program) Wait() (int, error) {
	<-p.done
	p.detach()
	return p.code, p.err
}

// Stop ends the program and its children: SIGTERM, and SIGKILL five seconds later.
// It returns when the program has ended.
func (p *Program) Stop() error {
	p.signal(syscall.SIGTERM)
	t := time.NewTimer(stopTimeout)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
	}
	p.signal(syscall.SIGKILL) // its children, if not itself
	<-p.done
	return nil
}
