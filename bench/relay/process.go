package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/simreach/simreach/netns"
)

const (
	readyTimeout = 10 * time.Second
	stopTimeout  = 5 * time.Second
	ticksPerSec  = 100 // USER_HZ of Linux on every architecture that Go runs on
)

// process is a program that the bench started in a namespace.
type process struct {
	name string
	cmd  *exec.Cmd
	feed io.WriteCloser // its standard input; closing it ends our own programs
	done chan struct{}
	log  string
}

// start starts a program. Our own say "ready" on descriptor 3; others are ready when
// the caller has found them so.
func start(ctx context.Context, ns *netns.NS, log string, own bool, args ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{name: filepath.Base(args[0]) + " " + args[1], cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{}), log: log}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.feed, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer readyR.Close()
	if own {
		p.cmd.ExtraFiles = []*os.File{readyW}
	}
	err = ns.Start(p.cmd)
	readyW.Close()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in its log
		close(p.done)
	}()
	if !own {
		return p, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = readyR.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if line, err := bufio.NewReader(readyR).ReadString('\n'); strings.TrimSpace(line) != "ready" {
		return nil, errors.Join(fmt.Errorf("%s is not ready: %w; its log: %s", p.name, err, tail(log)), p.stop())
	}
	return p, nil
}

// stop ends the program and its children.
func (p *process) stop() error {
	_ = p.feed.Close()
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM) // the group; it may have ended
	t := time.NewTimer(stopTimeout)
	defer t.Stop()
	select {
	case <-p.done:
		return nil
	case <-t.C:
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
		return fmt.Errorf("%s did not end by itself and was killed", p.name)
	}
}

func tail(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-1000):]))
}

// cost is what processes and their children have used so far.
type cost struct {
	cpu   time.Duration
	rss   uint64 // bytes
	files int
}

func costOf(ps []*process) (cost, error) {
	var c cost
	for _, p := range ps {
		pids, err := family(p.cmd.Process.Pid)
		if err != nil {
			return c, err
		}
		for _, pid := range pids {
			if err := c.add(pid); err != nil {
				return c, fmt.Errorf("%s: %w", p.name, err)
			}
		}
	}
	return c, nil
}

// family returns a process and its descendants.
func family(pid int) ([]int, error) {
	out := []int{pid}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	for _, f := range threads {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(b)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f, err)
			}
			more, err := family(child)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		}
	}
	return out, nil
}

func (c *cost) add(pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	if err := c.addStat(string(stat)); err != nil {
		return fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return err
	}
	c.files += len(fds)
	return nil
}

// addStat adds what a process's stat file says (proc_pid_stat(5)). After the command's
// name, which may hold parentheses itself, fields 14 and 15 are user and system time and
// 24 is the resident set in pages.
func (c *cost) addStat(text string) error {
	f := strings.Fields(text[strings.LastIndex(text, ")")+1:])
	if len(f) < 22 {
		return fmt.Errorf("%d fields after the name", len(f))
	}
	var n [3]uint64
	for i, at := range [...]int{14, 15, 24} {
		var err error
		if n[i], err = strconv.ParseUint(f[at-3], 10, 64); err != nil {
			return fmt.Errorf("field %d: %w", at, err)
		}
	}
	c.cpu += time.Duration(n[0]+n[1]) * time.Second / ticksPerSec
	c.rss += n[2] * uint64(os.Getpagesize())
	return nil
}
