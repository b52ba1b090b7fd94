package faulttest_test

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/node"
)

// proc is a role of simreach as a process.
type proc struct {
	t      *testing.T
	name   string // for people
	role   string
	config string // file
	log    logBuffer

	cmd   *exec.Cmd
	life  io.Closer     // its standard input: it ends when this is closed
	ended chan struct{} // closed when it has
}

// logBuffer takes the standard error of all processes of a proc.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// tail returns the last lines.
func (l *logBuffer) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(l.b.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (l *logBuffer) contains(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.b.Bytes(), []byte(s))
}

// start starts a role, and has it end with the test.
func start(t *testing.T, dir, name, role string, config node.Role) *proc {
	t.Helper()
	text, err := node.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	p := &proc{t: t, name: name, role: role, config: filepath.Join(dir, name+".yaml")}
	if err := os.WriteFile(p.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.end()
		if t.Failed() {
			t.Logf("the last of %s:\n%s", name, p.log.tail(15))
		}
		if p.log.contains("DATA RACE") {
			t.Errorf("%s has a data race:\n%s", name, p.log.tail(60))
		}
	})
	p.launch()()
	return p
}

// launch starts the role; the function that it returns waits until that is ready.
func (p *proc) launch() (await func()) {
	t := p.t
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleVariable+"="+p.role, configVariable+"="+p.config)
	cmd.ExtraFiles, cmd.Stderr = []*os.File{write}, &p.log
	if p.life, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	err = cmd.Start()
	write.Close()
	if err != nil {
		read.Close()
		t.Fatal(err)
	}
	ended := make(chan struct{})
	p.cmd, p.ended = cmd, ended
	go func() {
		cmd.Wait() // how it ended is in its log
		close(ended)
	}()
	return func() {
		t.Helper()
		defer read.Close()
		read.SetReadDeadline(time.Now().Add(20 * time.Second))
		if line, err := bufio.NewReader(read).ReadString('\n'); line != "ready\n" {
			t.Fatalf("%s is not ready: %q, %v\n%s", p.name, line, err, p.log.tail(20))
		}
	}
}

// kill is kill -9.
func (p *proc) kill() {
	p.t.Helper()
	if !p.alive() {
		p.t.Fatalf("%s has ended by itself:\n%s", p.name, p.log.tail(20))
	}
	p.cmd.Process.Kill()
	<-p.ended
}

func (p *proc) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// end ends the process in order, or kills it if it takes long.
func (p *proc) end() {
	p.life.Close()
	late := time.NewTimer(10 * time.Second)
	defer late.Stop()
	select {
	case <-p.ended:
	case <-late.C:
		p.t.Errorf("%s did not end by itself", p.name)
		p.cmd.Process.Kill()
		<-p.ended
	}
}
