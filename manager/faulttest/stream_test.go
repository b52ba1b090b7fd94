package faulttest_test

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/manager/store/pgtest"
)

const (
	streamCount = 1000
	// streamPause is between two blocks of one connection.
	streamPause = 500 * time.Millisecond
	maxBlock    = 8 << 10
)

// streams is relayed connections that carry checked data until they are told to stop.
type streams struct {
	stop   context.CancelFunc
	wg     sync.WaitGroup
	blocks atomic.Int64
	broken atomic.Int64
}

// stream makes connections to entries in turn; all of them work when it returns.
func (w *world) stream(n int, entries ...api.PortMapping) *streams {
	t := w.t
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &streams{stop: cancel}
	conns := make([]net.Conn, n)
	each(n, clients, func(i int) {
		c, err := w.open(entries[i%len(entries)], netip.AddrPort{})
		if err != nil {
			if c != nil {
				c.Close()
			}
			t.Errorf("connection %d: %v", i, err)
			return
		}
		conns[i] = c
	})
	for i, c := range conns {
		if c == nil {
			continue
		}
		s.wg.Go(func() {
			defer c.Close()
			if err := s.exchange(ctx, uint64(i), c.(*net.TCPConn)); err != nil && s.broken.Add(1) <= 10 {
				t.Errorf("connection %d: %v", i, err)
			}
		})
	}
	t.Cleanup(s.wg.Wait)
	t.Cleanup(cancel)
	if t.Failed() {
		t.FailNow()
	}
	return s
}

// exchange sends blocks of random bytes and compares what comes back; at the end both
// directions end in order.
func (s *streams) exchange(ctx context.Context, seed uint64, c *net.TCPConn) error {
	r := rand.New(rand.NewPCG(seed, 1))
	timer := time.NewTimer(time.Duration(r.Int64N(int64(streamPause))))
	defer timer.Stop()
	sent, got := crc32.NewIEEE(), crc32.NewIEEE()
	block, back := make([]byte, maxBlock), make([]byte, maxBlock)
	for ctx.Err() == nil {
		n := 1 + r.IntN(maxBlock)
		for i := range n {
			block[i] = byte(r.Uint32())
		}
		sent.Write(block[:n])
		c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Write(block[:n]); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, back[:n]); err != nil {
			return err
		}
		got.Write(back[:n])
		if !bytes.Equal(block[:n], back[:n]) {
			return fmt.Errorf("a block of %d bytes came back changed", n)
		}
		s.blocks.Add(1)
		select {
		case <-timer.C:
			timer.Reset(streamPause)
		case <-ctx.Done():
		}
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	if n, err := c.Read(back); n != 0 || err != io.EOF {
		return fmt.Errorf("after the end: %d bytes, %v; want EOF", n, err)
	}
	if sent.Sum32() != got.Sum32() {
		return fmt.Errorf("checksum %x came back as %x", sent.Sum32(), got.Sum32())
	}
	return nil
}

// more waits until n more blocks were exchanged.
func (s *streams) more(t *testing.T, n int64) {
	t.Helper()
	until, late := s.blocks.Load()+n, time.After(30*time.Second)
	for tick := time.Tick(pause); s.blocks.Load() < until; {
		select {
		case <-tick:
		case <-late:
			t.Fatalf("%d blocks are missing after 30 s; %d connections broke", until-s.blocks.Load(), s.broken.Load())
		}
	}
}

// Of two managers on one PostgreSQL either does for all relays; when one is killed,
// nobody who is connected notices, and the other goes on.
func TestManagerKilledBesideAnother(t *testing.T) {
	const toA, toB = "127.0.6.4", "127.0.6.5" // the relays attached to each
	pg := pgtest.Start(t)
	w := newWorld(t)
	st := store.Config{URL: pg.Database(t)}
	a, b := w.manager("managerA", "127.0.6.2", st), w.manager("managerB", "127.0.6.2", st)
	w.inner(a, b)
	w.outer("outerA", toA, a, b)
	w.outer("outerB", toB, b, a)

	// An entry made at one manager works at once through the other's relay.
	w.within(5*time.Second, "both managers know all relays", func() error {
		for _, s := range []*site{a, b} {
			st, err := s.api.Status(t.Context())
			if err != nil {
				return err
			}
			if len(st.Relays) != 3 {
				return fmt.Errorf("%d relays", len(st.Relays))
			}
		}
		return nil
	})
	var entries []api.PortMapping
	for what, made := range map[string]api.PortMapping{"made at A, relay of B": w.createOn(a, toB), "made at B, relay of A": w.createOn(b, toA)} {
		took := w.within(time.Second, what, w.connects(made))
		t.Logf("%s: connected after %s", what, took.Round(time.Millisecond))
		entries = append(entries, made)
	}
	entries = append(entries, w.createOn(a, toA), w.createOn(b, toB))

	s := w.stream(streamCount, entries...)
	s.more(t, streamCount)
	a.kill()
	took := w.within(2*time.Second, "new connections through the other manager", func() error {
		for _, m := range entries {
			if err := w.connects(m)(); err != nil {
				return err
			}
		}
		return nil
	})
	t.Logf("new connections to all entries %s after the kill", took.Round(time.Millisecond))
	var made api.PortMapping
	took = w.within(5*time.Second, "creating at the other manager on the relay that changed", func() error {
		m, err := b.api.Create(t.Context(), w.request())
		if err != nil {
			return err
		}
		if m.IPAddress != toA {
			return fmt.Errorf("it is on %s", m.IPAddress)
		}
		made = m
		return nil
	})
	t.Logf("an entry on the relay that changed %s later", took.Round(time.Millisecond))
	w.within(time.Second, "connecting to it", w.connects(made))
	s.more(t, 2*streamCount)
	s.stop()
	s.wg.Wait()
	t.Logf("%d connections, %d blocks, %d connections broken", streamCount, s.blocks.Load(), s.broken.Load())

	// The manager that was killed comes back, and both go on.
	a.launch()()
	m := w.mustCreate(a)
	w.within(time.Second, "an entry of the manager that came back", w.connects(m))
	if err := b.api.Delete(t.Context(), netip.MustParseAddrPort(m.Endpoint)); err != nil {
		t.Errorf("delete at the other manager: %v", err)
	}
	if _, err := b.api.List(t.Context()); err != nil {
		t.Error(err)
	}
}
