package outer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay/ports"
)

// A port that somebody held when the relay came back is opened as soon as it is free.
func TestSnapshotIsRetried(t *testing.T) {
	g := start(t, nil)
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	a := held.Addr().(*net.TCPAddr).AddrPort()
	ack := g.snapshot(opening("e1", a, time.Minute), opening("e2", freePort(t), time.Minute))
	if len(ack.Failures) != 1 || !errors.Is(ack.Failures[0].Err, manager.ErrPortInUse) {
		t.Fatalf("snapshot with a port in use: %+v; want one ErrPortInUse", ack)
	}
	held.Close()
	deadline := time.After(5 * time.Second)
	for tick := time.Tick(10 * time.Millisecond); len(g.Status().Entries) < 2; {
		select {
		case <-tick:
		case <-deadline:
			t.Fatalf("entries %+v; want the missing one opened", g.Status().Entries)
		}
	}
	ping(t, dial(t, a))
}

// pretend is Ports of which some are held by others until the test lets go of them.
type pretend map[uint16]bool

func (p pretend) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (p pretend) Ready() <-chan struct{}        { return nil }
func (p pretend) Close(uint16)                  {}
func (p pretend) Drain(context.Context) error   { return nil }
func (p pretend) Open(nr uint16) error {
	if p[nr] {
		return errors.New("held")
	}
	return nil
}

func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := pretend{}
		r, err := New(Config{ID: "o", Address: here}, Deps{
			Control: &control{}, Resolver: &control{},
			Ports: func(func(net.Conn, uint16)) (Ports, error) { return network, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		l := &loop{Relay: r}
		ctx, cancel := context.WithCancel(t.Context())
		defer r.tasks.Wait()
		defer cancel()
		all := make([]manager.Opening, 600)
		for i := range all {
			all[i] = opening(manager.EntryID(string(rune('a'+i%26))+string(rune('a'+i/26))), netip.AddrPortFrom(here, uint16(40000+i)), time.Minute)
			network[all[i].Address.Port()] = true
		}
		all[0].Expires = time.Now() // does not come back
		l.unopened.keep(all, l.openAll(ctx, all), time.Now())
		if n := len(l.unopened.entries); n != 599 {
			t.Fatalf("%d to try again; want all but the expired one", n)
		}
		l.unopened.forget(all[599].EntryID)
		for _, c := range []struct {
			what     string
			free     int // the first so many ports
			want     int // open afterwards
			wantWait time.Duration
		}{
			{"all are held", 0, 0, retryInterval},
			{"all are free, a batch at a time", 600, 256, retryInterval},
			{"the rest", 600, 512, retryInterval},
			{"the end", 600, 598, retryInterval},
			{"nothing to do", 600, 598, time.Hour},
		} {
			<-time.After(retryInterval) // of the bubble
			for i := range c.free {
				delete(network, all[i].Address.Port())
			}
			wait := l.retry(ctx, time.Now())
			if wait != c.wantWait || len(l.entries) != c.want {
				t.Errorf("%s: %d open, next in %s; want %d, %s", c.what, len(l.entries), wait, c.want, c.wantWait)
			}
		}
		for _, p := range l.entries {
			l.close(p, errStopped)
		}
	})
}

// A relay that is full says so and serves what it has.
func TestMaxEntries(t *testing.T) {
	g := start(t, func(c *Config, _ *Deps) { c.MaxEntries = 2 })
	a, b := freePort(t), freePort(t)
	g.snapshot(opening("e1", a, time.Minute), opening("e2", b, time.Minute))
	third := manager.Command{Kind: manager.CommandOpen, Openings: []manager.Opening{opening("e3", freePort(t), time.Minute)}}
	ack := g.command(third)
	if len(ack.Failures) != 1 || !errors.Is(ack.Failures[0].Err, ports.ErrLimit) {
		t.Errorf("open beyond max_entries: %+v; want ports.ErrLimit", ack)
	}
	ping(t, dial(t, a))
	g.command(manager.Command{Kind: manager.CommandClose, EntryID: "e2", Reason: manager.ReasonRevoked})
	if ack := g.command(third); len(ack.Failures) != 0 {
		t.Errorf("open after another was closed: %+v", ack)
	}
	if n := defaultMaxConnections(); n < 1 {
		t.Errorf("default is %d connections", n)
	}
}

// The relay's own connections do not keep an entry from its port.
func TestOwnConnectionsDoNotHoldPorts(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	// The port may be shared with a connection of somebody else, to another peer and
	// without the option: then another one has to do.
	for range 500 {
		if err = listenBeside(t, inner); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// listenBeside listens on the port of a connection of ours, and on that of one that
// has ended a moment ago.
func listenBeside(t *testing.T, inner net.Listener) error {
	c, err := dialTCP(t.Context(), inner.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	local := c.LocalAddr().(*net.TCPAddr).AddrPort()
	peer, err := inner.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	for _, state := range []string{"alive", "in TIME-WAIT"} {
		l, err := net.Listen("tcp", local.String())
		if err != nil {
			return fmt.Errorf("listen on %s while our connection is %s: %w", local, state, err)
		}
		l.Close()
		c.Close()
		io.Copy(io.Discard, peer)
		peer.Close()
	}
	return nil
}
