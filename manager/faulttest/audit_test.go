package faulttest_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/store"
)

// source is the address of the client that makes connection i, and no other one.
func source(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 7, byte(i / 250), byte(1 + i%250)})
}

// auditLog reads the whole log: the records of connections by their client.
func (w *world) auditLog(s *site) (map[netip.Addr][]api.AuditRecord, error) {
	by := map[netip.Addr][]api.AuditRecord{}
	for after := ""; ; {
		page, next, err := s.api.AuditLog(w.t.Context(), api.LogQuery{Limit: 1000, After: after})
		if err != nil {
			return nil, err
		}
		for _, r := range page {
			if d := r.Direction; d != nil {
				a, err := netip.ParseAddr(d.SourceIPAddress)
				if err != nil {
					return nil, err
				}
				by[a] = append(by[a], r)
			}
		}
		if next == "" {
			return by, nil
		}
		after = next
	}
}

// complete returns what is wrong with the records of one connection: there must be three,
// with one connection ID.
func complete(rs []api.AuditRecord) error {
	var types []string
	ids := map[string]bool{}
	for _, r := range slices.Backward(rs) { // the log begins with the newest
		types = append(types, r.Type)
		ids[r.ConnectionID] = true
	}
	slices.Sort(types)
	switch got := strings.Join(types, " "); {
	case got != "ACCESS CLOSED CONNECTED" && got != "ACCESS CLOSED DENIED" && got != "ACCESS CLOSED REFUSED":
		return fmt.Errorf("records %q", got)
	case len(ids) != 1 || ids[""]:
		return fmt.Errorf("%d connection IDs", len(ids))
	}
	return nil
}

// audited waits until the log is complete for the connections that were accepted, and
// checks that it stays so and has no others.
func (w *world) audited(s *site, accepted []netip.Addr) {
	t := w.t
	t.Helper()
	check := func() error {
		log, err := w.auditLog(s)
		if err != nil {
			return err
		}
		for _, a := range accepted {
			if err := complete(log[a]); err != nil {
				return fmt.Errorf("connection from %s: %w", a, err)
			}
		}
		return nil
	}
	took := w.within(20*time.Second, "the complete audit log", check)
	t.Logf("the audit log has all of %d connections %s later", len(accepted), took.Round(time.Millisecond))
	log, err := w.auditLog(s)
	if err != nil {
		t.Fatal(err)
	}
	ids, outcomes := map[string]netip.Addr{}, map[string]int{}
	for from, rs := range log {
		if err := complete(rs); err != nil {
			t.Errorf("connection from %s: %v", from, err)
		}
		if other, twice := ids[rs[0].ConnectionID]; twice {
			t.Errorf("the connections from %s and %s have one ID", from, other)
		}
		ids[rs[0].ConnectionID] = from
		for _, r := range rs {
			outcomes[r.Type]++
		}
	}
	t.Logf("records by type: %v", outcomes)
}

// A manager that is killed and comes back misses nothing of what its relays did
// meanwhile, and has nothing of it twice.
func TestAuditOfAKilledManager(t *testing.T) {
	const long, short = 500, 500 // connections that are there before, and that come meanwhile
	w := newWorld(t)
	m := w.manager("manager", "127.0.6.2", store.Config{Path: filepath.Join(w.dir, "manager.db")})
	w.inner(m)
	w.outer("outer1", "127.0.6.4", m)
	e := w.mustCreate(m)
	conns := make([]net.Conn, long+short)
	var failed, done atomic.Int64
	open := func(i int) {
		c, err := w.open(e, netip.AddrPortFrom(source(i), 0))
		conns[i] = c // accepted, whatever came after
		if err != nil {
			failed.Add(1)
		}
	}
	each(long, clients, func(i int) { open(i) })
	if n := failed.Load(); n > 0 {
		t.Fatalf("%d connections failed before the fault", n)
	}
	ctx, reached := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		each(short, clients, func(i int) {
			open(long + i)
			conns[i].Close() // one that was there before
			if c := conns[long+i]; c != nil {
				c.Close()
			}
			if done.Add(1) == short/3 {
				reached()
			}
		})
	}()
	<-ctx.Done()
	m.kill()
	await := m.launch()
	<-ended
	await()
	var accepted []netip.Addr
	for i, c := range conns {
		if c != nil {
			accepted = append(accepted, source(i))
		}
	}
	t.Logf("%d connections accepted, of which %d came to nothing", len(accepted), failed.Load())
	w.audited(m, accepted)
}

// The connections of an outer relay that is killed are ended in the audit log by the one
// that takes its place.
func TestAuditOfAKilledOuterRelay(t *testing.T) {
	const n = 300
	w := newWorld(t)
	m := w.manager("manager", "127.0.6.2", store.Config{Path: filepath.Join(w.dir, "manager.db")})
	w.inner(m)
	relay := w.outer("outer1", "127.0.6.4", m)
	e := w.mustCreate(m)
	var accepted []netip.Addr
	conns := make([]net.Conn, n)
	each(n, clients, func(i int) {
		c, err := w.open(e, netip.AddrPortFrom(source(i), 0))
		if err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
		if conns[i] = c; c != nil && i%3 == 0 {
			c.Close() // it is over, or about to be
		}
	})
	for i := range n {
		accepted = append(accepted, source(i))
	}
	relay.kill()
	for i, c := range conns {
		if c == nil || i%3 == 0 {
			continue
		}
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("connection %d lives without its relay", i)
		}
		c.Close()
	}
	relay.launch()()
	w.within(5*time.Second, "the entry's return", w.connects(e))
	w.audited(m, accepted)
}
