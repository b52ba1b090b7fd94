//go:build linux

package relay_test

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/node"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay/ports"
)

// Relays are replaced under load: a next process starts beside the old one, which is
// told to end and finishes its connections. No client may notice.

const (
	restartWorkers = 8   // connect, echo, close
	restartLong    = 200 // stay for a while, and talk
	restartRounds  = 3
	restartDrain   = 30 * time.Second
	longLife       = 500 * time.Millisecond // and up to three times that
)

// clients are the load.
type clients struct {
	w         *town
	stop      chan struct{}
	wg        sync.WaitGroup
	connected atomic.Int64
	failed    atomic.Int64

	mu  sync.Mutex
	why map[string]int
}

func (c *clients) fail(what string, err error) {
	c.failed.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.why[fmt.Sprintf("%s: %v", what, reason(err))]++
}

// reason is what is the same about errors of many connections.
func reason(err error) error {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e
	}
	return err
}

// load starts the clients; each goroutine has an entry of its own turn.
func (w *town) load(entries []string) *clients {
	c := &clients{w: w, stop: make(chan struct{}), why: map[string]int{}}
	for i := range restartWorkers + restartLong {
		to := entries[i%len(entries)]
		c.wg.Go(func() {
			for !c.over() {
				if i < restartWorkers {
					c.once(to, 0)
					c.pause(10 * time.Millisecond)
				} else {
					c.once(to, longLife+rand.N(2*longLife))
				}
			}
		})
	}
	return c
}

func (c *clients) over() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

func (c *clients) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.stop:
	}
}

// once is one connection: it talks for some time, ends its side and waits for the
// device's end.
func (c *clients) once(to string, life time.Duration) {
	conn, err := net.DialTimeout("tcp", to, restartDrain)
	if err != nil {
		c.fail("connect", err)
		return
	}
	defer conn.Close()
	until := time.Now().Add(life)
	for first := true; first || time.Now().Before(until) && !c.over(); first = false {
		if err := echo(conn); err != nil {
			c.fail(map[bool]string{true: "first echo", false: "echo"}[first], err)
			return
		}
		if first {
			c.connected.Add(1)
		}
		if life > 0 {
			c.pause(200 * time.Millisecond)
		}
	}
	conn.SetDeadline(time.Now().Add(restartDrain))
	conn.(*net.TCPConn).CloseWrite()
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		c.fail("end", err)
	}
}

// replace starts a next process of a role and then ends the old one.
func (w *town) replace(role string) {
	w.t.Helper()
	old := w.procs[role]
	w.start(role)
	begin := time.Now()
	if err := old.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		w.t.Fatal(err)
	}
	if err := old.cmd.Wait(); err != nil {
		w.t.Errorf("the old %s: %v", role, err)
	}
	took := time.Since(begin)
	w.t.Logf("%s: the old process ended %s after it was told to", role, took.Round(time.Millisecond))
	if took >= restartDrain {
		w.t.Errorf("%s: the old process took %s to end; its connections are over earlier", role, took)
	}
}

func restartUnderLoad(t *testing.T, mode string) {
	w := newTown(t, buildBinary(t), func(in *node.Inner, out *node.Outer) {
		in.Relay.DrainTimeout, out.Relay.DrainTimeout = restartDrain, restartDrain
		out.Relay.Mode, out.Relay.EntryRate, out.Relay.SourceRate = mode, -1, -1
		out.Audit.Dir = filepath.Join(t.TempDir(), "audit")
	})
	var entries []string
	for range 4 {
		entries = append(entries, w.mustCreate().Endpoint)
	}
	c := w.load(entries)
	w.await("the load runs", func() bool { return c.connected.Load() >= restartLong+restartWorkers })
	for range restartRounds {
		for _, role := range []string{"relay-outer", "relay-inner"} {
			before := c.connected.Load()
			w.replace(role)
			w.await("new connections after the restart", func() bool { return c.connected.Load() > before+100 })
		}
	}
	close(c.stop)
	c.wg.Wait()
	t.Logf("%d connections, %d failed", c.connected.Load(), c.failed.Load())
	for why, n := range c.why {
		t.Errorf("%d connections failed: %s", n, why)
	}
	for _, role := range []string{"relay-outer", "relay-inner", "manager"} {
		w.stop(role)
	}
	w.audited(int(c.connected.Load()))
}

// await polls for what no channel tells.
func (w *town) await(what string, ok func() bool) {
	w.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(60 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			w.t.Fatalf("not after 60 s: %s", what)
		}
	}
}

// audited fails unless the store has exactly the three records of each of so many
// connections (N7).
func (w *town) audited(connections int) {
	w.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(w.dir, "manager.db")) // the store's driver
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	var all, complete int
	err = db.QueryRowContext(w.t.Context(), `SELECT COUNT(*), COALESCE(SUM(n = 3 AND a = 1 AND c = 1 AND e = 1), 0) FROM (
		SELECT COUNT(*) AS n, SUM(type = ?) AS a, SUM(type = ?) AS c, SUM(type = ?) AS e FROM audit WHERE connection_id <> '' GROUP BY connection_id)`,
		manager.AuditAccess, manager.AuditConnected, manager.AuditClosed).Scan(&all, &complete)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Logf("the audit log has %d connections, of which %d are complete", all, complete)
	if all != connections || complete != connections {
		w.t.Errorf("the audit log has %d connections, of which %d are complete; want all %d", all, complete, connections)
	}
}

func TestRestartsLoseNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program and runs it as processes")
	}
	restartUnderLoad(t, ports.ModeListen)
}
