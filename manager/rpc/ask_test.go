package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/rpc"
)

// answered is what an answer function got.
type answered struct {
	route manager.Route
	err   error
}

// ask asks without waiting; a second answer is an error.
func ask(t *testing.T, c *rpc.Client, q manager.ResolveRequest, deadline time.Time) <-chan answered {
	ch := make(chan answered, 1)
	var n atomic.Int32
	c.Ask(q, "", deadline, func(r manager.Route, err error) {
		if n.Add(1) > 1 {
			t.Error("answered twice")
			return
		}
		ch <- answered{r, err}
	})
	return ch
}

func wait(t *testing.T, ch <-chan answered) answered {
	t.Helper()
	select {
	case a := <-ch:
		return a
	case <-time.After(5 * time.Second):
		t.Fatal("no answer after 5 s")
		return answered{}
	}
}

// rig is a manager with both relays and an entry.
func rig(t *testing.T) (*managerProcess, *rpc.Client, manager.Entry) {
	m := startManager(t, openStore(t), "")
	outer, _ := startClient(t, m.addr, outer1)
	ready(t, outer)
	next(t, outer)
	e, _ := create(t, m.Service, outer)
	inner, _ := startClient(t, m.addr, inner1)
	ready(t, inner)
	return m, outer, e
}

func TestAsk(t *testing.T) {
	m, outer, e := rig(t)
	var all []<-chan answered
	var want []string
	for i := range 1000 {
		id := fmt.Sprintf("c%d", i)
		want = append(want, id)
		hit := e.Address
		if i%3 == 0 { // the manager has to ask its store
			hit = netip.AddrPortFrom(hit.Addr(), uint16(i+1))
		}
		all = append(all, ask(t, outer, manager.ResolveRequest{Hit: hit, Client: e.Address, ConnectionID: id}, time.Now().Add(time.Minute)))
	}
	for i, ch := range all {
		a := wait(t, ch)
		if i%3 == 0 {
			if !errors.Is(a.err, manager.CodeUnknownEntry) {
				t.Errorf("question %d: %v; want %s", i, a.err, manager.CodeUnknownEntry)
			}
		} else if a.err != nil || a.route.EntryID != e.ID || a.route.ConnectionID != want[i] || a.route.Ticket == "" {
			t.Errorf("question %d: %+v, %v; want its own answer", i, a.route, a.err)
		}
	}
	if s := m.server.Status(); s.Resolved != 666 || s.ResolveFailed != 334 || s.Malformed != 0 {
		t.Errorf("status %+v", s)
	}
	if a := wait(t, ask(t, outer, manager.ResolveRequest{Hit: e.Address}, time.Now().Add(-time.Second))); !errors.Is(a.err, context.DeadlineExceeded) {
		t.Errorf("with a deadline that is over: %v; want context.DeadlineExceeded", a.err)
	}
}

// Where there is one manager and it is away the answer is so at once; when the client
// has ended too.
func TestAskWhileAway(t *testing.T) {
	m, outer, e := rig(t)
	q := manager.ResolveRequest{Hit: e.Address, Client: e.Address}
	m.stop()
	eventually(t, "the client notices", func() bool { return !outer.Status().Attached })
	if a := wait(t, ask(t, outer, q, time.Now().Add(time.Minute))); !errors.Is(a.err, manager.CodeManagerAway) {
		t.Errorf("while the manager is away: %v; want %s", a.err, manager.CodeManagerAway)
	}
	c, err := rpc.NewClient(rpc.ClientConfig{Manager: m.addr, Alternates: []string{m.addr}, Secret: secret, FailoverWait: time.Hour}, rpc.ClientDeps{Relay: outer1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	begin := time.Now()
	early, late := ask(t, c, q, begin.Add(50*time.Millisecond)), ask(t, c, q, begin.Add(time.Hour))
	if a := wait(t, early); a.err != context.DeadlineExceeded || time.Since(begin) < 50*time.Millisecond {
		t.Errorf("after %s: %v; want its deadline", time.Since(begin), a.err)
	}
	asking, stop := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, stop)
	if _, err := c.Resolve(asking, q); err != context.Canceled {
		t.Errorf("a question that was given up: %v", err)
	}
	cancel()
	if a := wait(t, late); !errors.Is(a.err, manager.CodeManagerAway) {
		t.Errorf("when the client ended: %v; want %s", a.err, manager.CodeManagerAway)
	}
	wg.Wait()
	if a := wait(t, ask(t, c, q, time.Time{})); !errors.Is(a.err, manager.CodeManagerAway) {
		t.Errorf("after the client ended: %v; want %s", a.err, manager.CodeManagerAway)
	}
}

// A question waits for the next manager, but not for ever.
func TestAskWaitsForAManager(t *testing.T) {
	m := startManager(t, openStore(t), "")
	m.stop()
	c, err := rpc.NewClient(rpc.ClientConfig{Manager: m.addr, Alternates: []string{m.addr}, Secret: secret, FailoverWait: 30 * time.Millisecond}, rpc.ClientDeps{Relay: outer1})
	if err != nil {
		t.Fatal(err)
	}
	run(t, c.Run)
	begin := time.Now()
	a := wait(t, ask(t, c, manager.ResolveRequest{Hit: outer1.Address}, begin.Add(time.Hour)))
	if took := time.Since(begin); !errors.Is(a.err, manager.CodeManagerAway) || took < 30*time.Millisecond {
		t.Errorf("after %s: %v; want %s after 30ms", took, a.err, manager.CodeManagerAway)
	}
}
