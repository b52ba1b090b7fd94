// Package pgtest runs a PostgreSQL server for a test: Debian's programs, with data in a
// temporary directory and a socket there, gone when the test ends.
package pgtest

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
	"testing"
	"time"

	"github.com/simreach/simreach/internal/testenv"
)

// Server is a running PostgreSQL.
type Server struct {
	dir string
	bin string
	as  *syscall.Credential
	n   int

	cmd   *exec.Cmd
	ended chan error    // gets the outcome of cmd
	log   *bytes.Buffer // of cmd; complete when ended has the outcome
	down  bool          // after Kill
}

// Start starts a server, or skips t where there is no PostgreSQL; the feature for
// SIMREACH_REQUIRE is "postgres". It ends, and its data goes, with t. The server syncs
// its disk as in production.
func Start(t testing.TB) *Server {
	t.Helper()
	bin, err := programs()
	testenv.Require(t, "postgres", err)
	s := &Server{bin: bin}
	// Not t.TempDir: its name may be too long for a socket, and its parents are closed
	// to other users.
	if s.dir, err = os.MkdirTemp("", "pgtest"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(s.dir); err != nil {
			t.Errorf("remove the data of PostgreSQL: %v", err)
		}
	})
	if os.Geteuid() == 0 { // which PostgreSQL refuses
		if s.as, err = unprivileged(); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(s.dir, "data")
	if out, err := s.command("initdb", "-D", data, "-U", "simreach", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	if err := s.launch(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.down {
			return
		}
		if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil { // "fast" shutdown
			t.Errorf("stop PostgreSQL: %v", err)
		}
		if err := <-s.ended; err != nil {
			t.Errorf("PostgreSQL: %v\n%s", err, s.log)
		}
	})
	if err := s.await(); err != nil {
		t.Fatal(err)
	}
	return s
}

// launch starts the server's process.
func (s *Server) launch() error {
	s.log, s.ended = new(bytes.Buffer), make(chan error, 1)
	s.cmd = s.command("postgres", "-D", filepath.Join(s.dir, "data"), "-k", s.dir, "-c", "listen_addresses=", "-c", "max_connections=50", "-c", "shared_buffers=32MB")
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT // a test that is killed leaves none
	if err := s.cmd.Start(); err != nil {
		s.down = true
		return fmt.Errorf("postgres: %w", err)
	}
	s.down = false
	cmd, ended := s.cmd, s.ended
	go func() { ended <- cmd.Wait() }()
	return nil
}

// Kill is kill -9 of the server with all its processes.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	var children []int
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatalf("%s: %v", f, err)
			}
			children = append(children, pid)
		}
	}
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatalf("kill PostgreSQL: %v", err)
	}
	for _, pid := range children {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it ends without its parent, too
	}
	<-s.ended
	s.down = true
}

// Restart starts a server that was killed again, on its data, and returns when it
// answers.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var err error
	for range 100 { // it refuses while a process of the one before is not quite gone
		if err = s.launch(); err != nil {
			break
		}
		if err = s.await(); err == nil {
			return
		}
		<-tick.C
	}
	t.Fatal(err)
}

// await returns when the server answers; an error says that it has ended.
func (s *Server) await() error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 600 {
		select {
		case err := <-s.ended:
			s.down = true
			return fmt.Errorf("PostgreSQL ended: %w\n%s", err, s.log)
		case <-tick.C:
		}
		if s.command("pg_isready", "-q", "-h", s.dir).Run() == nil {
			return nil
		}
	}
	return errors.New("PostgreSQL does not answer")
}

// Database makes an empty database and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	s.n++
	name := "db" + strconv.Itoa(s.n)
	if out, err := s.command("createdb", "-h", s.dir, "-U", "simreach", name).CombinedOutput(); err != nil {
		t.Fatalf("createdb: %v\n%s", err, out)
	}
	return s.url(name)
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

// Disconnect ends all connections to a database, as a server that restarts does.
func (s *Server) Disconnect(t testing.TB) {
	t.Helper()
	out, err := s.command("psql", "-q", "-h", s.dir, "-U", "simreach", "postgres", "-c",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL").CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
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
