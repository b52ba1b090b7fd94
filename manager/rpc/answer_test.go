package rpc_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/rpc"
	pb "github.com/simreach/simreach/manager/rpc/relayv1"
)

// upgrade asks for a connection for questions as a client would, with changes.
func upgrade(t *testing.T, conn net.Conn, session string, change func(*http.Request)) (*http.Response, *bufio.Reader) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+conn.RemoteAddr().String()+"/simreach.relay.v1/questions", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "simreach-questions")
	req.Header.Set("Simreach-Session", session)
	req.Header.Set("Authorization", "Bearer "+secret)
	if change != nil {
		change(req)
	}
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp, r
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// attachOuter attaches as an outer relay without a client.
func attachOuter(t *testing.T, m *managerProcess) *manager.RelaySession {
	t.Helper()
	r := outer1
	r.Instance = "raw"
	s, err := m.AttachRelay(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.End)
	return s
}

func frame(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func readAnswer(t *testing.T, r io.Reader) *pb.ResolveResponse {
	t.Helper()
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(length[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	m := &pb.ResolveResponse{}
	if err := proto.Unmarshal(b, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// hit is an address and port as relay.proto has them.
func hit(a netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(a.Addr().AsSlice(), a.Port())
}

func TestUpgradeRefuses(t *testing.T) {
	m := startManager(t, openStore(t), "")
	outer := attachOuter(t, m)
	r := inner1
	r.Instance = "raw"
	inner, err := m.AttachRelay(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, session string
		change        func(*http.Request)
		want          int
	}{
		{"no upgrade", outer.ID(), func(r *http.Request) { r.Header.Del("Upgrade") }, http.StatusUpgradeRequired},
		{"another upgrade", outer.ID(), func(r *http.Request) { r.Header.Set("Upgrade", "websocket") }, http.StatusUpgradeRequired},
		{"no session", "", nil, http.StatusServiceUnavailable},
		{"an inner relay", inner.ID(), nil, http.StatusServiceUnavailable},
		{"a wrong secret", outer.ID(), func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, http.StatusUnauthorized},
		{"as it should be", outer.ID(), nil, http.StatusSwitchingProtocols},
	} {
		if resp, _ := upgrade(t, dial(t, m.addr), c.session, c.change); resp.StatusCode != c.want {
			t.Errorf("%s: %s; want %d", c.name, resp.Status, c.want)
		}
	}
	if s := m.server.Status(); s.Unauthorised != 1 || s.Malformed != 0 {
		t.Errorf("status %+v; want one refused", s)
	}
}

// What a relay sends that is no question ends its connection and nothing else.
func TestMalformedQuestions(t *testing.T) {
	m := startManager(t, openStore(t), "")
	session := attachOuter(t, m)
	good := frame(t, &pb.ResolveRequest{Id: 7, Hit: hit(netip.MustParseAddrPort("192.0.2.1:40000"))})
	bad := [][]byte{
		{0x7f, 0xff, 0xff, 0xff}, {0, 0, 0x10, 0x01}, {0, 0, 0, 2, 0xff, 0xff},
		frame(t, &pb.ResolveRequest{Id: 8}), frame(t, &pb.ResolveRequest{Id: 8, Hit: []byte("192.0.2.1:40000")}),
	}
	for i, b := range bad {
		conn := dial(t, m.addr)
		resp, r := upgrade(t, conn, session.ID(), nil)
		if resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatal(resp.Status)
		}
		// A ping and a good question before it are answered.
		conn.Write([]byte{0, 0, 0, 0})
		var pong [4]byte
		if _, err := io.ReadFull(r, pong[:]); err != nil || pong != [4]byte{} {
			t.Errorf("ping: %x, %v", pong, err)
		}
		conn.Write(good)
		if a := readAnswer(t, r); a.GetId() != 7 || a.GetFailure().GetCode() != string(manager.CodeUnknownEntry) {
			t.Errorf("answer %v; want an unknown entry", a)
		}
		conn.Write(b)
		if n, err := r.Read(pong[:]); err == nil {
			t.Errorf("malformed %d: %d bytes; want the end", i, n)
		}
		if s := m.server.Status(); s.Malformed != uint64(i+1) {
			t.Errorf("malformed %d: %d counted", i, s.Malformed)
		}
	}
	if _, ok := m.Session(session.ID()); !ok {
		t.Error("the attachment has ended")
	}
	// The attachment ends, and with it what stood on it; then nothing can be asked.
	conn := dial(t, m.addr)
	_, r := upgrade(t, conn, session.ID(), nil)
	session.End()
	if _, err := r.ReadByte(); err == nil {
		t.Error("a connection for questions outlives the attachment")
	}
	if resp, _ := upgrade(t, dial(t, m.addr), session.ID(), nil); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("without the attachment: %s", resp.Status)
	}
}

// slowStore answers about one address when it is told to.
type slowStore struct {
	manager.Store
	slow    netip.AddrPort
	asked   chan struct{}
	release chan struct{}
	gaveUp  chan struct{} // if not nil: who asked no longer wants to know
}

func newSlowStore(st manager.Store) *slowStore {
	return &slowStore{Store: st, slow: netip.MustParseAddrPort("192.0.2.1:9"), asked: make(chan struct{}, 1000), release: make(chan struct{})}
}

func (s *slowStore) EntryByAddress(ctx context.Context, a netip.AddrPort) (manager.Entry, error) {
	if a == s.slow {
		s.asked <- struct{}{}
		select {
		case <-s.release:
		case <-ctx.Done():
			if s.gaveUp != nil {
				s.gaveUp <- struct{}{}
			}
			return manager.Entry{}, ctx.Err()
		}
	}
	return s.Store.EntryByAddress(ctx, a)
}

// A question that the store is slow to answer holds up no other, and a manager that stops
// does not wait for it.
func TestSlowStoreHoldsUpNobody(t *testing.T) {
	st := newSlowStore(openStore(t))
	m := startManager(t, st, "")
	outer, _ := startClient(t, m.addr, outer1)
	ready(t, outer)
	next(t, outer)
	e, _ := create(t, m.Service, outer)
	inner, _ := startClient(t, m.addr, inner1)
	ready(t, inner)
	var slow []<-chan answered
	for range 10 {
		slow = append(slow, ask(t, outer, manager.ResolveRequest{Hit: st.slow, Client: e.Address}, time.Time{}))
		<-st.asked
	}
	for range 100 {
		if r, err := outer.Resolve(t.Context(), manager.ResolveRequest{Hit: e.Address, Client: e.Address}); err != nil || r.EntryID != e.ID {
			t.Fatalf("beside slow questions: %+v, %v", r, err)
		}
	}
	st.release <- struct{}{}
	n := 0
	for _, ch := range slow {
		select {
		case <-ch:
			n++
		default:
		}
	}
	if n > 1 {
		t.Errorf("%d slow questions were answered; want at most the one that was released", n)
	}
	begin := time.Now()
	m.stop()
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("stopped after %s", took)
	}
	for _, ch := range slow {
		wait(t, ch)
	}
}

// When the relay or its attachment has gone the store is not asked on its behalf any
// longer, however many of its questions wait.
func TestQuestionsEndWithTheRelay(t *testing.T) {
	const most = 256 // of one connection that ask the store
	for name, leave := range map[string]func(net.Conn, *manager.RelaySession){
		"the connection ends": func(c net.Conn, _ *manager.RelaySession) { c.Close() },
		"the attachment ends": func(_ net.Conn, s *manager.RelaySession) { s.End() },
	} {
		for _, n := range []int{1, most + 10} {
			if n > most && name == "the connection ends" {
				continue // what comes after so many is not read; the attachment ends too
			}
			t.Run(fmt.Sprint(name, " ", n), func(t *testing.T) {
				st := newSlowStore(openStore(t))
				st.gaveUp = make(chan struct{}, 1000)
				m := startManager(t, st, "")
				session := attachOuter(t, m)
				conn := dial(t, m.addr)
				if resp, _ := upgrade(t, conn, session.ID(), nil); resp.StatusCode != http.StatusSwitchingProtocols {
					t.Fatal(resp.Status)
				}
				for range n {
					conn.Write(frame(t, &pb.ResolveRequest{Id: 1, Hit: hit(st.slow)}))
				}
				for range min(n, most) {
					<-st.asked
				}
				leave(conn, session)
				late := time.After(5 * time.Second)
				for i := range min(n, most) {
					select {
					case <-st.gaveUp:
					case <-late:
						t.Fatalf("%d questions still ask the store after 5 s", min(n, most)-i)
					}
				}
			})
		}
	}
}

// An attachment may have as many connections for questions as a relay may be configured
// to use, and in the place of one that ended another.
func TestConnectionsForQuestionsAreBounded(t *testing.T) {
	m := startManager(t, openStore(t), "")
	session := attachOuter(t, m)
	open := func() (net.Conn, int) {
		c := dial(t, m.addr)
		resp, _ := upgrade(t, c, session.ID(), nil)
		return c, resp.StatusCode
	}
	var last net.Conn
	for i := range 64 {
		c, status := open()
		if status != http.StatusSwitchingProtocols {
			t.Fatalf("connection %d: %d", i+1, status)
		}
		last = c
	}
	if _, status := open(); status != http.StatusTooManyRequests {
		t.Errorf("one more: %d", status)
	}
	last.Close()
	eventually(t, "another comes in", func() bool {
		_, status := open()
		return status == http.StatusSwitchingProtocols
	})
}

// What a manager that stops was asking its store is asked at the next one.
func TestSlowQuestionsFailOver(t *testing.T) {
	shared := openStore(t)
	st := newSlowStore(shared)
	a := startManager(t, st, "")
	b := startManager(t, shared, "")
	c, err := rpc.NewClient(rpc.ClientConfig{Manager: a.addr, Alternates: []string{b.addr}, Secret: secret}, rpc.ClientDeps{Relay: outer1})
	if err != nil {
		t.Fatal(err)
	}
	run(t, c.Run)
	ready(t, c)
	var all []<-chan answered
	for range 200 {
		all = append(all, ask(t, c, manager.ResolveRequest{Hit: st.slow}, time.Time{}))
	}
	for range all {
		<-st.asked
	}
	a.stop()
	causes := map[manager.Code]int{}
	for _, ch := range all {
		causes[manager.AsError(wait(t, ch).err).Code]++
	}
	if len(causes) != 1 || causes[manager.CodeUnknownEntry] != len(all) {
		t.Errorf("answers %v; want %d of the manager that is left, %s", causes, len(all), manager.CodeUnknownEntry)
	}
}

// A store that does not answer does not make a manager seem dead: the relay's pings are
// answered however many questions wait.
func TestPingsBesideAHungStore(t *testing.T) {
	st := newSlowStore(openStore(t))
	m := startManager(t, st, "")
	outer, _ := startClient(t, m.addr, outer1)
	ready(t, outer)
	next(t, outer)
	var all []<-chan answered
	for range 300 { // more than may ask the store at one time
		all = append(all, ask(t, outer, manager.ResolveRequest{Hit: st.slow}, time.Time{}))
	}
	for _, ch := range all {
		if a := wait(t, ch); !errors.Is(a.err, manager.CodeInternal) {
			t.Fatalf("%v; want what is said when the store fails, %s", a.err, manager.CodeInternal)
		}
	}
	if n := outer.Status().Attaches; n != 1 {
		t.Errorf("attached %d times; want one attachment that lasts", n)
	}
}

// Two managers on one store: whatever is asked while they come and go is answered once.
func TestAskFailover(t *testing.T) {
	st := openStore(t)
	a, b := startManager(t, st, ""), startManager(t, st, "")
	c, err := rpc.NewClient(rpc.ClientConfig{Manager: a.addr, Alternates: []string{b.addr}, Secret: secret, ResolveStreams: 3}, rpc.ClientDeps{Relay: outer1})
	if err != nil {
		t.Fatal(err)
	}
	run(t, c.Run)
	ready(t, c)
	next(t, c)
	e, _ := create(t, a.Service, c)
	var mu sync.Mutex
	asked, got := 0, map[int]int{}
	causes := map[string]int{}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				mu.Lock()
				n := asked
				asked++
				mu.Unlock()
				done := make(chan struct{})
				c.Ask(manager.ResolveRequest{Hit: e.Address, Client: e.Address, ConnectionID: fmt.Sprint(n)}, "", time.Now().Add(time.Minute), func(_ manager.Route, err error) {
					mu.Lock()
					defer mu.Unlock()
					got[n]++
					if err != nil {
						causes[string(manager.AsError(err).Code)]++
					}
					close(done)
				})
				<-done
			}
		})
	}
	a.stop()
	nextOf(t, c, manager.CommandSnapshot)
	startManager(t, st, a.addr)
	b.stop()
	nextOf(t, c, manager.CommandSnapshot)
	cancel()
	wg.Wait()
	if len(got) != asked {
		t.Errorf("%d of %d questions were answered", len(got), asked)
	}
	for n, times := range got {
		if times != 1 {
			t.Errorf("question %d was answered %d times", n, times)
		}
	}
	delete(causes, string(manager.CodeNoInnerRelay)) // there is none
	if len(causes) > 0 {
		t.Errorf("errors %v; want none that a failover makes", causes)
	}
}
