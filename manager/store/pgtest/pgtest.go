// Package pgtest runs a PostgreSQL server for a test, gone when the test ends.
package pgtest

import (
	"testing"

	"github.com/simreach/simreach/internal/pgserver"
	"github.com/simreach/simreach/internal/testenv"
)

// Server is a running PostgreSQL.
type Server struct{ server *pgserver.Server }

// Start starts a server, or skips t where there is no PostgreSQL; the feature for
// SIMREACH_REQUIRE is "postgres". It ends, and its data goes, with t. The server syncs
// its disk as in production.
func Start(t testing.TB) *Server {
	t.Helper()
	testenv.Require(t, "postgres", pgserver.Available())
	s, err := pgserver.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Server{s}
}

// Database makes an empty database and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	url, err := s.server.Database()
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// Disconnect ends all connections to databases, as a server that restarts does.
func (s *Server) Disconnect(t testing.TB) {
	t.Helper()
	must(t, s.server.Disconnect())
}

// Kill is kill -9 of the server with all its processes.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	must(t, s.server.Kill())
}

// Restart starts a server that was killed again, on its data, and returns when it
// answers.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	must(t, s.server.Restart())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
