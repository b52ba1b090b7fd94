package soak

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/simreach/simreach/internal/node"
)

const (
	readyTimeout = 30 * time.Second
	stopTimeout  = 20 * time.Second
)

// process is a role of this program.
type process struct {
	name    string
	cmd     *exec.Cmd
	feed    io.Closer // its standard input: it ends when this is closed
	log     string
	metrics string // URL
}

// start starts a role and waits until it is ready.
func (s *soak) start(ctx context.Context, name string, role node.Role, metrics string) (*process, error) {
	text, err := node.Marshal(role)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(s.dir, name+".yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	p := &process{name: name, log: filepath.Join(s.dir, name+".log"), metrics: "http://" + metrics + "/metrics"}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	p.cmd = exec.Command(s.Program, name, "--config", file, "--ready-fd", "3", "--until-stdin-closes", "--log-level", "warn")
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = out, out, []*os.File{write}
	p.feed, err = p.cmd.StdinPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	write.Close()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	_ = read.SetReadDeadline(time.Now().Add(readyTimeout))
	defer context.AfterFunc(ctx, func() { _ = read.SetReadDeadline(time.Unix(1, 0)) })()
	if line, err := bufio.NewReader(read).ReadString('\n'); line != "ready\n" {
		err = fmt.Errorf("%s is not ready: %w; the end of its log: %s", name, err, p.tail())
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// stop ends the process in order.
func (p *process) stop() error {
	_ = p.feed.Close()
	late := time.AfterFunc(stopTimeout, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w; the end of its log: %s", p.name, err, p.tail())
	}
	return nil
}

func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-1000):]))
}

// sample is what a process holds at one time.
type sample struct {
	at         time.Time
	rss        float64 // bytes
	files      int
	goroutines int
}

// sample asks the process, which answers GET /metrics, and proc(5).
func (p *process) sample(ctx context.Context, c *http.Client) (sample, error) {
	s := sample{at: time.Now()}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		return s, fmt.Errorf("%s: %w", p.name, err)
	}
	s.files = len(fds)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.metrics, nil)
	if err != nil {
		return s, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return s, fmt.Errorf("%s: %w", p.name, err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		switch v, err := strconv.ParseFloat(value, 64); {
		case err != nil:
		case name == "go_goroutines":
			s.goroutines = int(v)
		case name == "process_resident_memory_bytes":
			s.rss = v
		}
	}
	if err := lines.Err(); err != nil {
		return s, fmt.Errorf("%s: %w", p.name, err)
	}
	if s.goroutines == 0 || s.rss == 0 {
		return s, fmt.Errorf("%s: no metrics of the process", p.name)
	}
	return s, nil
}
