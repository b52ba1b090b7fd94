package airlink

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/memnet"
	"github.com/simreach/simreach/ue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	clientAddr = netip.MustParseAddrPort("192.0.2.1:5000")
	serverAddr = netip.MustParseAddrPort("192.0.2.2:6000")
	testCell   = ue.Cell{Name: "gnb1", Location: ident.Location{
		NRCGI: ident.NRCGI{PLMN: ident.PLMN{MCC: "001", MNC: "01"}, Cell: 0x123456789},
		TAI:   ident.TAI{PLMN: ident.PLMN{MCC: "001", MNC: "01"}, TAC: 7},
	}}
)

// testAir is a gNB driven by the test.
type testAir struct {
	mu    sync.Mutex
	err   error
	conns chan *testRadio
}

func (a *testAir) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}

func (a *testAir) Cell(context.Context) (ue.Cell, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return testCell, a.err
}

func (a *testAir) Connect(_ context.Context, req ue.ConnectRequest) (ue.Radio, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return nil, a.err
	}
	r := &testRadio{req: req, up: make(chan string, 16), events: make(chan ue.RadioEvent, 16), packets: make(chan string, 16), closed: make(chan struct{})}
	a.conns <- r
	return r, nil
}

type testRadio struct {
	req     ue.ConnectRequest
	up      chan string
	packets chan string
	events  chan ue.RadioEvent
	closed  chan struct{}
	once    sync.Once
	recv    func(ident.PDUSessionID, [][]byte)
}

func (r *testRadio) SendNAS(_ context.Context, b []byte) error { r.up <- string(b); return nil }
func (r *testRadio) Events() <-chan ue.RadioEvent              { return r.events }
func (r *testRadio) SendPackets(id ident.PDUSessionID, qfi ident.QFI, packets [][]byte) {
	for _, p := range packets {
		r.packets <- string(rune('0'+id)) + string(rune('0'+qfi)) + string(p)
	}
}
func (r *testRadio) SetReceiver(f func(ident.PDUSessionID, [][]byte)) { r.recv = f }
func (r *testRadio) Close() error                                     { r.end(nil); return nil }
func (r *testRadio) end(err error) {
	r.once.Do(func() { r.events <- ue.Released{Err: err}; close(r.events); close(r.closed) })
}

// addrConn is a pipe whose ends have addresses.
type addrConn struct {
	net.Conn
	remote netip.AddrPort
}

func (c addrConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// pipeListener accepts net.Pipe connections.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(serverAddr) }

type testNet struct {
	t   *testing.T
	net *memnet.Network
	air *testAir
	c   *Client
	s   *Server

	mu     sync.Mutex
	refuse bool
	l      *pipeListener
	wire   []net.Conn // the client's ends, to cut or freeze
}

func (n *testNet) dial(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	l, refuse := n.l, n.refuse
	n.mu.Unlock()
	if refuse {
		return nil, errors.New("refused")
	}
	a, b := net.Pipe()
	select {
	case l.conns <- addrConn{b, clientAddr}:
	case <-l.done:
		return nil, errors.New("refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wire = append(n.wire, b)
	return addrConn{a, serverAddr}, nil
}

func bubble(t *testing.T, f func(t *testing.T, n *testNet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := &testNet{
			t: t, net: memnet.New(memnet.Config{}), air: &testAir{conns: make(chan *testRadio, 16)},
			l: &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})},
		}
		defer n.net.Close()
		cu, err := n.net.ListenUDP(clientAddr)
		if err != nil {
			t.Fatal(err)
		}
		su, err := n.net.ListenUDP(serverAddr)
		if err != nil {
			t.Fatal(err)
		}
		if n.s, err = NewServer(ServerConfig{}, ServerDeps{Air: n.air, Listener: n.l, User: su}); err != nil {
			t.Fatal(err)
		}
		if n.c, err = NewClient(ClientConfig{Name: "gnb1", Server: serverAddr}, ClientDeps{Dial: n.dial, User: cu}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		go func() { done <- n.s.Run(ctx) }()
		<-n.s.Ready()
		go func() { done <- n.c.Run(ctx) }()
		<-n.c.Ready()
		f(t, n)
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		}
	})
}

func (n *testNet) connect() (ue.Radio, *testRadio) {
	n.t.Helper()
	r, err := n.c.Connect(n.t.Context(), ue.ConnectRequest{Cause: 3, STMSI: &ident.STMSI{Set: 1, Pointer: 2, TMSI: 3}, NAS: []byte("first")})
	if err != nil {
		n.t.Fatal(err)
	}
	return r, <-n.air.conns
}

func TestConversation(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet) {
		cell, err := n.c.Cell(t.Context())
		if err != nil || cell != testCell {
			t.Fatalf("cell %+v %v", cell, err)
		}
		r, far := n.connect()
		want := ue.ConnectRequest{Cause: 3, STMSI: &ident.STMSI{Set: 1, Pointer: 2, TMSI: 3}, NAS: []byte("first")}
		if d := cmp.Diff(want, far.req); d != "" {
			t.Errorf("request: %s", d)
		}
		got := make(chan string, 4)
		r.SetReceiver(func(id ident.PDUSessionID, packets [][]byte) {
			for _, p := range packets {
				got <- string(rune('0'+id)) + string(p)
			}
		})
		if err := r.SendNAS(t.Context(), []byte("up")); err != nil {
			t.Fatal(err)
		}
		if s := <-far.up; s != "up" {
			t.Errorf("NAS %q", s)
		}
		r.SendPackets(1, 5, [][]byte{[]byte("too early")})
		far.events <- ue.BearerUp{Session: 1, QFIs: []ident.QFI{5, 6}}
		far.events <- ue.DownlinkNAS{NAS: []byte("down")}
		if e := <-r.Events(); !cmp.Equal(e, ue.RadioEvent(ue.BearerUp{Session: 1, QFIs: []ident.QFI{5, 6}})) {
			t.Errorf("event %+v", e)
		}
		if e := <-r.Events(); !cmp.Equal(e, ue.RadioEvent(ue.DownlinkNAS{NAS: []byte("down")})) {
			t.Errorf("event %+v", e)
		}
		r.SendPackets(1, 5, [][]byte{[]byte("a"), []byte("b")})
		if a, b := <-far.packets, <-far.packets; a != "15a" || b != "15b" {
			t.Errorf("uplink %q %q", a, b)
		}
		far.recv(1, [][]byte{[]byte("x"), []byte("y")})
		if a, b := <-got, <-got; a != "1x" || b != "1y" {
			t.Errorf("downlink %q %q", a, b)
		}
		far.events <- ue.BearerDown{Session: 1}
		<-r.Events()
		r.SendPackets(1, 5, [][]byte{[]byte("too late")})
		far.end(nil)
		if e := <-r.Events(); !cmp.Equal(e, ue.RadioEvent(ue.Released{})) {
			t.Errorf("event %+v", e)
		}
		if _, ok := <-r.Events(); ok {
			t.Error("events close after Released")
		}
		if err := r.SendNAS(t.Context(), nil); !errors.Is(err, ue.ErrRadioLinkFailure) {
			t.Errorf("SendNAS afterwards: %v", err)
		}
		synctest.Wait()
		if len(far.packets) != 0 || n.s.Status().Radios != 0 || n.c.Status().Radios != 0 {
			t.Errorf("left: %d packets, server %+v, client %+v", len(far.packets), n.s.Status(), n.c.Status())
		}
		// From the UE's side.
		r, far = n.connect()
		r.Close()
		<-far.closed // the gNB is told
		n.air.fail(errors.New("cell is barred"))
		if _, err := n.c.Cell(t.Context()); err == nil || !bytes.Contains([]byte(err.Error()), []byte("barred")) {
			t.Errorf("Cell: %v, want the gNB's words", err)
		}
		if _, err := n.c.Connect(t.Context(), ue.ConnectRequest{}); err == nil {
			t.Error("refused connection")
		}
	})
}

func TestKilledServer(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet) {
		a, _ := n.connect()
		b, _ := n.connect()
		began := time.Now()
		n.mu.Lock()
		n.refuse = true // nobody answers any more
		n.wire[0].Close()
		n.mu.Unlock()
		for _, r := range []ue.Radio{a, b} {
			e, _ := (<-r.Events()).(ue.Released)
			if !errors.Is(e.Err, ue.ErrRadioLinkFailure) {
				t.Errorf("released %v, want radio link failure", e.Err)
			}
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("seen after %v, want at once", d)
		}
		synctest.Wait()
		if _, err := n.c.Cell(t.Context()); !errors.Is(err, ErrLinkDown) || time.Since(began) != 0 {
			t.Errorf("Cell: %v after %v, want ErrLinkDown at once", err, time.Since(began))
		}
	})
}

func TestSilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net0 := memnet.New(memnet.Config{})
		defer net0.Close()
		cu, err := net0.ListenUDP(clientAddr)
		if err != nil {
			t.Fatal(err)
		}
		a, b := net.Pipe()
		dialed := false
		c, err := NewClient(ClientConfig{Server: serverAddr}, ClientDeps{User: cu, Dial: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			if dialed {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			dialed = true
			return addrConn{a, serverAddr}, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		if f, err := readFrame(b); err != nil || f.typ != frameHello {
			t.Fatalf("%+v %v", f, err)
		}
		w, _ := appendFrame(nil, frame{typ: frameWelcome, payload: []byte{1, 2}})
		if _, err := b.Write(w); err != nil {
			t.Fatal(err)
		}
		go func() { // a peer that reads and never speaks
			for {
				if _, err := readFrame(b); err != nil {
					return
				}
			}
		}()
		<-c.Ready()
		began := time.Now()
		cc, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if _, err := c.Cell(cc); !errors.Is(err, ErrLinkDown) {
			t.Errorf("Cell: %v, want ErrLinkDown", err)
		}
		if d := time.Since(began); d != 2*time.Second {
			t.Errorf("seen after %v, want four periods: 2 s", d)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestReconnect(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet) {
		n.connect()
		n.mu.Lock()
		n.wire[0].Close()
		n.mu.Unlock()
		synctest.Wait()
		<-time.After(100 * time.Millisecond)
		synctest.Wait()
		if _, err := n.c.Cell(t.Context()); err != nil {
			t.Errorf("a new link after the shortest pause: %v", err)
		}
		if s := n.s.Status(); s.Radios != 0 || s.Links != 1 {
			t.Errorf("server %+v: want the old radios closed", s)
		}
	})
}

func TestStrangeUserPackets(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet) {
		_, far := n.connect()
		stranger, err := n.net.ListenUDP(netip.MustParseAddrPort("192.0.2.66:5000"))
		if err != nil {
			t.Fatal(err)
		}
		defer stranger.Close()
		b := make([]byte, 12)
		userPacket{1, 5, 1}.put(b)
		pc := stranger.PacketConn()
		for _, p := range [][]byte{b, b[:4], bytes.Repeat([]byte{0xff}, 12)} {
			if _, err := pc.WriteTo(p, net.UDPAddrFromAddrPort(serverAddr)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n.s.Status().Dropped != 3 || len(far.packets) != 0 {
			t.Errorf("server %+v, %d packets through", n.s.Status(), len(far.packets))
		}
	})
}

func TestFrameErrors(t *testing.T) {
	if _, err := appendFrame(nil, frame{payload: make([]byte, maxLength)}); !errors.Is(err, ErrProtocol) {
		t.Errorf("a frame too long: %v", err)
	}
	for _, b := range [][]byte{{0, 0, 0, 4, 1, 0, 0, 0, 0}, {0, 1, 0, 0, 1, 0, 0, 0, 0}} {
		if _, err := readFrame(bytes.NewReader(b)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%x: %v, want ErrProtocol", b, err)
		}
	}
	for _, f := range []func() error{
		func() error { _, err := parseHello([]byte("XRAL\x01\x00\x01")); return err },
		func() error { _, err := parseHello(nil); return err },
		func() error { _, err := parseCell(make([]byte, 17)); return err },
		func() error { _, err := parseConnect([]byte{3, 2, 0, 0, 0, 0, 0, 0, 0}); return err },
		func() error { _, err := event(frame{typ: frameBearerUp}); return err },
		func() error { _, err := event(frame{typ: frameReleased}); return err },
	} {
		if err := f(); !errors.Is(err, ErrProtocol) {
			t.Errorf("%v, want ErrProtocol", err)
		}
	}
}

// Whatever a frame holds, reading it does not panic, and what was understood reads
// back the same after writing.
func FuzzFrame(f *testing.F) {
	for _, x := range []frame{
		{frameHello, 0, putHello(1)}, {frameCell, 1, putCell(testCell)},
		{frameConnect, 2, putConnect(ue.ConnectRequest{Cause: 3, STMSI: &ident.STMSI{TMSI: 1}, NAS: []byte("n")})},
		eventFrame(3, ue.BearerUp{Session: 1, QFIs: []ident.QFI{1}}), eventFrame(3, ue.Released{Err: ErrLinkDown}),
	} {
		b, err := appendFrame(nil, x)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := readFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := appendFrame(nil, x)
		if err != nil || !bytes.Equal(again, b[:len(again)]) {
			t.Fatalf("frame %+v writes back as %x, %v", x, again, err)
		}
		if c, err := parseCell(x.payload); err == nil {
			if d, err := parseCell(putCell(c)); err != nil || d != c {
				t.Fatalf("cell %+v reads back as %+v, %v", c, d, err)
			}
		}
		if r, err := parseConnect(x.payload); err == nil {
			if d, err := parseConnect(putConnect(r)); err != nil || !cmp.Equal(r, d) {
				t.Fatalf("request %+v reads back as %+v, %v", r, d, err)
			}
		}
		if e, err := event(x); err == nil && e != nil {
			if _, failed := e.(ue.Released); !failed {
				if d, err := event(eventFrame(x.id, e)); err != nil || !cmp.Equal(e, d) {
					t.Fatalf("event %+v reads back as %+v, %v", e, d, err)
				}
			}
		}
		if _, err := parseHello(x.payload); err == nil && len(x.payload) < 7 {
			t.Fatal("hello without its fields")
		}
		if u, p, ok := parseUser(x.payload); ok {
			h := make([]byte, userHeader)
			u.put(h)
			if !bytes.Equal(append(h, p...), x.payload) {
				t.Fatalf("datagram %+v", u)
			}
		}
	})
}

func TestUserPathDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops items at random under the race detector")
	}
	n := memnet.New(memnet.Config{})
	defer n.Close()
	s := sender{conn: nowhere{}}
	packets := [][]byte{make([]byte, 1400), make([]byte, 1400)}
	if a := testing.AllocsPerRun(200, func() { s.send(userPacket{1, 5, 9}, serverAddr, packets) }); a != 0 {
		t.Errorf("%v allocations per batch, want 0", a)
	}
}

// An answer that the reader is working on while its asker gives up counts: the
// connection would stay open with nobody to close it.
func TestAnswerInTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer here.Close()
		defer there.Close()
		go io.Copy(io.Discard, there)
		l := &clientLink{link: link{conn: here, keepalive: time.Second}, done: make(chan struct{}), waiting: map[uint32]*request{}}
		c := &Client{link: l, settled: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error, 1)
		go func() {
			_, _, err := c.ask(ctx, frameConnect, nil, &clientRadio{})
			got <- err
		}()
		synctest.Wait()
		l.mu.Lock()
		q := l.waiting[1]
		delete(l.waiting, 1)
		l.mu.Unlock()
		cancel()
		synctest.Wait()
		q.answer <- frame{typ: frameConnected}
		if err := <-got; err != nil {
			t.Errorf("got %v, want the answer", err)
		}
	})
}
