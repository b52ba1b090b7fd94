package netnsrun

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/simreach/simreach/netns"
)

// stopTimeout is how long a process may take to end by itself.
const stopTimeout = 5 * time.Second

// role is one of our own processes: a network function, a relay, the manager or
// the UEs, running in a node's namespace. It ends by itself when its standard
// input closes, so that it cannot outlive a runner that crashed.
type role struct {
	name   string
	ns     *netns.NS
	binary string
	args   []string
	log    string // file that takes its output

	mu    sync.Mutex // guards cmd, feed and done; Kill and Start come from steps
	cmd   *exec.Cmd
	feed  io.Closer     // its standard input
	done  chan struct{} // closed when it has been waited for
	ended error         // valid once done is closed
}

// start starts the process and returns once it has said that it is ready.
func (r *role) start(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cmd != nil {
		return fmt.Errorf("start %s: it runs already", r.name)
	}
	out, err := os.OpenFile(r.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", r.name, err)
	}
	defer out.Close()
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", r.name, err)
	}
	defer readyR.Close()
	cmd := exec.Command(r.binary, r.args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{readyW} // descriptor 3
	// A group of its own: Ctrl-C on the terminal reaches the runner only, which
	// then ends its processes in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	feed, err := cmd.StdinPipe()
	if err == nil {
		err = r.ns.Start(cmd)
	}
	if cerr := readyW.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", r.name, err)
	}
	r.cmd, r.feed, r.done = cmd, feed, make(chan struct{})
	done := r.done
	go func() {
		r.ended = cmd.Wait()
		close(done)
	}()
	if err := r.awaitReady(ctx, readyR); err != nil {
		_ = r.endLocked(ctx, true) // err says more
		return fmt.Errorf("start %s: %w%s", r.name, err, r.tail())
	}
	return nil
}

// awaitReady waits for the line "ready" on the process's descriptor 3.
func (r *role) awaitReady(ctx context.Context, pipe *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = pipe.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := bufio.NewReader(pipe).ReadString('\n')
	switch {
	case strings.TrimSpace(line) == "ready":
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("not ready: %w", ctx.Err())
	case errors.Is(err, io.EOF):
		return errors.New("it ended before it was ready")
	}
	return err
}

// tail returns the end of the process's log for an error message.
func (r *role) tail() string {
	b, err := os.ReadFile(r.log)
	if err != nil || len(b) == 0 {
		return ""
	}
	const most = 1000
	if len(b) > most {
		b = b[len(b)-most:]
	}
	return "; its log ends with:\n" + string(b)
}

// end stops the process: by closing its input and waiting, or with SIGKILL, which
// also follows when ctx ends.
func (r *role) end(ctx context.Context, kill bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.endLocked(ctx, kill)
}

func (r *role) endLocked(ctx context.Context, kill bool) error {
	if r.cmd == nil {
		return nil
	}
	if kill {
		_ = r.cmd.Process.Kill() // it may have ended already
	}
	_ = r.feed.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, stopTimeout, fmt.Errorf("%s are over", stopTimeout))
	defer cancel()
	var late error
	select {
	case <-r.done:
	case <-ctx.Done():
		_ = r.cmd.Process.Kill() // it may have ended just now
		<-r.done
		late = fmt.Errorf("%s did not end by itself and was killed: %w", r.name, context.Cause(ctx))
	}
	ended := r.ended
	r.cmd = nil
	if kill {
		return nil
	}
	if late != nil {
		return late
	}
	if ended != nil {
		return fmt.Errorf("%s: %w%s", r.name, ended, r.tail())
	}
	return nil
}
