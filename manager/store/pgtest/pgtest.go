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
	var log bytes.Buffer
	server := s.command("postgres", "-D", data, "-k", s.dir, "-c", "listen_addresses=", "-c", "max_connections=50", "-c", "shared_buffers=32MB")
	server.Stdout, server.Stderr = &log, &log
	server.SysProcAttr.Pdeathsig = syscall.SIGQUIT // a test that is killed leaves none
	if err := server.Start(); err != nil {
		t.Fatalf("postgres: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	t.Cleanup(func() {
		if err := server.Process.Signal(syscall.SIGINT); err != nil { // "fast" shutdown
			t.Errorf("stop PostgreSQL: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("PostgreSQL: %v\n%s", err, &log)
		}
	})
	s.await(t, ended, &log)
	return s
}

// await returns when the server answers.
func (s *Server) await(t testing.TB, ended chan error, log *bytes.Buffer) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 600 {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("PostgreSQL ended: %v\n%s", err, log)
		case <-tick.C:
		}
		if s.command("pg_isready", "-q", "-h", s.dir).Run() == nil {
			return
		}
	}
	t.Fatal("PostgreSQL does not answer")
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
