package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const ticksPerSec = 100 // USER_HZ of Linux on every architecture that Go runs on

// Cost is what programs, with their children, have used so far, as proc(5) tells it.
type Cost struct {
	CPU   time.Duration // user and system
	RSS   uint64        // bytes now
	Files int           // descriptors now
}

// CostOf returns the sum over programs and their children. A program that has ended is an
// error.
func CostOf(ps ...*Process) (Cost, error) {
	var c Cost
	for _, p := range ps {
		pids, err := family(p.PID())
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

func (c *Cost) add(pid int) error {
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
	c.Files += len(fds)
	return nil
}

// addStat adds what a process's stat file says (proc_pid_stat(5)). After the command's
// name, which may hold parentheses itself, fields 14 and 15 are user and system time and
// 24 is the resident set in pages.
func (c *Cost) addStat(text string) error {
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
	c.CPU += time.Duration(n[0]+n[1]) * time.Second / ticksPerSec
	c.RSS += n[2] * uint64(os.Getpagesize())
	return nil
}
