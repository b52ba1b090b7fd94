// Package pgserver runs a PostgreSQL server of one's own: Debian's programs, with data in a
// temporary directory and a socket there, both gone after Close. It is for tests and
// benches; a Server is for one goroutine.
package pgserver

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Server is a PostgreSQL server. It ends with the process that started it.
type Server struct {
	dir string
	bin string
	as  *syscall.Credential
	n   int

	cmd   *exec.Cmd
	ended chan error    // gets the outcome of cmd
	log   *bytes.Buffer // of cmd; complete when ended has the outcome
	down  bool          // cmd has ended
}

// Available returns an error where there is no PostgreSQL.
func Available() error {
	_, err := programs()
	return err
}

// Start starts a server and returns when it answers. It syncs its disk as in production.
// The caller calls Close.
func Start() (_ *Server, err error) {
	s := &Server{down: true}
	if s.bin, err = programs(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "simreach-postgres-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if os.Geteuid() == 0 { // which PostgreSQL refuses
		if s.as, err = unprivileged(); err != nil {
			return nil, err
		}
		if err := os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			return nil, err
		}
	}
	data := filepath.Join(s.dir, "data")
	if out, err := s.command("initdb", "-D", data, "-U", "simreach", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	if err := s.launch(); err != nil {
		return nil, err
	}
	return s, s.await()
}

// Close stops the server and removes its data.
func (s *Server) Close() error {
	var errs []error
	if !s.down {
		s.down = true
		if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil { // "fast" shutdown
			errs = append(errs, fmt.Errorf("stop PostgreSQL: %w", err))
		}
		if err := <-s.ended; err != nil {
			errs = append(errs, fmt.Errorf("PostgreSQL: %w: %s", err, s.log))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// launch starts the server's process.
func (s *Server) launch() error {
	s.log, s.ended = new(bytes.Buffer), make(chan error, 1)
	s.cmd = s.command("postgres", "-D", filepath.Join(s.dir, "data"), "-k", s.dir, "-c", "listen_addresses=", "-c", "max_connections=50", "-c", "shared_buffers=32MB")
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT // a process that is killed leaves none
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	s.down = false
	cmd, ended := s.cmd, s.ended
	go func() { ended <- cmd.Wait() }()
	return nil
}

// Kill is kill -9 of the server with all its processes.
func (s *Server) Kill() error {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.cmd.Process.Pid))
	if err != nil {
		return err
	}
	var children []int
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		for _, field := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return fmt.Errorf("%s: %w", f, err)
			}
			children = append(children, pid)
		}
	}
	if err := s.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	for _, pid := range children {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it ends without its parent, too
	}
	<-s.ended
	s.down = true
	return nil
}

// Restart starts a server that was killed again, on its data, and returns when it
// answers.
func (s *Server) Restart() error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var err error
	for range 100 { // it refuses while a process of the one before is not quite gone
		if err = s.launch(); err != nil {
			return err
		}
		if err = s.await(); err == nil || !s.down {
			return err
		}
		<-tick.C
	}
	return err
}

// await returns when the server answers; an error says that it has ended.
func (s *Server) await() error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 600 {
		select {
		case err := <-s.ended:
			s.down = true
			return fmt.Errorf("PostgreSQL ended: %w: %s", err, s.log)
		case <-tick.C:
		}
		if s.command("pg_isready", "-q", "-h", s.dir).Run() == nil {
			return nil
		}
	}
	return errors.New("PostgreSQL does not answer")
}

// Database makes an empty database and returns its URL.
func (s *Server) Database() (string, error) {
	s.n++
	name := "db" + strconv.Itoa(s.n)
	if out, err := s.command("createdb", "-h", s.dir, "-U", "simreach", name).CombinedOutput(); err != nil {
		return "", fmt.Errorf("createdb: %w: %s", err, out)
	}
	return s.url(name), nil
}

func (s *Server) url(name string) string {
	return fmt.Sprintf("postgres:///%s?%s", name, url.Values{"host": {s.dir}, "user": {"simreach"}}.Encode())
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.bin, name), args...)
	c.Dir = s.dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return c
}

// Disconnect ends all connections to databases, as a server that restarts does.
func (s *Server) Disconnect() error {
	out, err := s.command("psql", "-q", "-h", s.dir, "-U", "simreach", "postgres", "-c",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL").CombinedOutput()
	if err != nil {
		return fmt.Errorf("psql: %w: %s", err, out)
	}
	return nil
}

// programs returns the folder of PostgreSQL's programs: Debian keeps those of the server
// out of the path.
func programs() (string, error) {
	all, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err == nil && len(all) > 0 {
		return filepath.Dir(all[len(all)-1]), nil
	}
	p, err := exec.LookPath("initdb")
	if err != nil {
		return "", errors.New("postgres: not in /usr/lib/postgresql, and initdb is not in the path")
	}
	return filepath.Dir(p), nil
}

// unprivileged returns the user that the server runs as.
func unprivileged() (*syscall.Credential, error) {
	var errs []error
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.Join(errs...)
}
