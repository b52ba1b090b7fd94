package airlink

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/ue"
)

// The same conversation over the kernel's sockets.
func TestLoopbackSockets(t *testing.T) {
	local := netip.MustParseAddrPort("127.0.0.1:0")
	su, err := dgram.Listen(t.Context(), local)
	if err != nil {
		t.Fatal(err)
	}
	cu, err := dgram.Listen(t.Context(), local)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", local.String())
	if err != nil {
		t.Fatal(err)
	}
	air := &testAir{conns: make(chan *testRadio, 1)}
	s, err := NewServer(ServerConfig{}, ServerDeps{Air: air, Listener: l, User: su})
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(ClientConfig{Server: netip.MustParseAddrPort(l.Addr().String())}, ClientDeps{User: cu})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	serverCtx, kill := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		if err := s.Run(serverCtx); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	<-c.Ready()
	r, err := c.Connect(ctx, ue.ConnectRequest{Cause: 3, NAS: []byte("hi")})
	if err != nil {
		t.Fatal(err)
	}
	far := <-air.conns
	got := make(chan string, 1)
	r.SetReceiver(func(_ ident.PDUSessionID, p [][]byte) { got <- string(p[0]) })
	far.events <- ue.BearerUp{Session: 1, QFIs: []ident.QFI{5}}
	<-r.Events()
	r.SendPackets(1, 5, [][]byte{[]byte("up")})
	if p := <-far.packets; p != "15up" {
		t.Errorf("uplink %q", p)
	}
	far.recv(1, [][]byte{[]byte("down")})
	if p := <-got; p != "down" {
		t.Errorf("downlink %q", p)
	}
	kill()
	if e, ok := (<-r.Events()).(ue.Released); !ok || e.Err == nil {
		t.Errorf("event %+v, want a radio link failure or the gNB's release", e)
	}
}
