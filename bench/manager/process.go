package manager

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

const (
	readyTimeout = 60 * time.Second
	stopTimeout  = 10 * time.Second
	ticksPerSec  = 100 // USER_HZ of Linux on every architecture that Go runs on
)

// process is the manager, which ends with this program.
type process struct {
	cmd  *exec.Cmd
	life io.Closer // its standard input: it ends when this is closed
	done chan struct{}
	log  string
}

// startProcess starts a program that says "ready" on descriptor 3.
func startProcess(ctx context.Context, log string, args ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{}), log: log}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if p.life, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	p.cmd.ExtraFiles = []*os.File{write}
	err = p.cmd.Start()
	write.Close()
	if err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in its log
		close(p.done)
	}()
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = read.SetReadDeadline(time.Unix(1, 0)) })()
	if line, err := bufio.NewReader(read).ReadString('\n'); line != "ready\n" {
		return nil, errors.Join(fmt.Errorf("%s is not ready: %w; its log: %s", args[1], err, p.tail()), p.stop())
	}
	return p, nil
}

func (p *process) stop() error {
	_ = p.life.Close()
	t := time.NewTimer(stopTimeout)
	defer t.Stop()
	select {
	case <-p.done:
		return nil
	case <-t.C:
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.done
		return errors.New("the manager did not end by itself and was killed")
	}
}

func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-1000):]))
}

// cost is what the process has used so far.
type cost struct {
	cpu time.Duration
	rss uint64 // bytes
}

func (p *process) cost() (c cost, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return c, err
	}
	// After the command's name in parentheses: fields 14 and 15 of proc(5) are user and
	// system time, 24 is the resident set in pages.
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	if len(f) < 22 {
		return c, fmt.Errorf("/proc/%d/stat has %d fields", p.cmd.Process.Pid, len(f))
	}
	number := func(i int) uint64 {
		n, _ := strconv.ParseUint(f[i], 10, 64) // the kernel writes numbers
		return n
	}
	return cost{cpu: time.Duration(number(11)+number(12)) * time.Second / ticksPerSec, rss: number(21) * uint64(os.Getpagesize())}, nil
}
