package sctp

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/memnet"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	clientIP = netip.MustParseAddr("192.0.2.1")
	serverIP = netip.MustParseAddr("192.0.2.2")
)

// link is a client Stack and a server Stack with a listener on a memory network.
type link struct {
	net            *memnet.Network
	client, server *Stack
	l              Listener
}

func newLink(t testing.TB, nc memnet.Config, sc StackConfig) *link {
	t.Helper()
	n := memnet.New(nc)
	k := &link{net: n, client: memStack(t, n, clientIP, sc), server: memStack(t, n, serverIP, sc)}
	var err error
	if k.l, err = k.server.Listen(PortNGAP); err != nil {
		t.Fatal(err)
	}
	return k
}

func memStack(t testing.TB, n *memnet.Network, ip netip.Addr, sc StackConfig) *Stack {
	t.Helper()
	c, err := n.ListenIP(ip, memnet.ProtocolSCTP)
	if err != nil {
		t.Fatal(err)
	}
	st, err := NewStack(c, sc)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func (k *link) close() {
	_ = k.client.Close()
	_ = k.server.Close()
	_ = k.net.Close()
}

func (k *link) connect(t testing.TB) (client, server Conn) {
	t.Helper()
	client = mustDial(t, k.client, k.l.Addr())
	return client, mustAccept(t, k.l)
}

func mustDial(t testing.TB, st *Stack, addr netip.AddrPort) Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := st.Dial(ctx, addr, 0)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	return c
}

func mustAccept(t testing.TB, l Listener) Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := l.Accept(ctx)
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	return c
}

func mustSend(t testing.TB, c Conn, stream uint16, data string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.Send(ctx, Message{Stream: stream, PPID: PPIDNGAP, Data: []byte(data)}); err != nil {
		t.Fatalf("send %q: %v", data, err)
	}
}

func wantRecv(t testing.TB, c Conn, stream uint16, data string) {
	t.Helper()
	m := mustRecv(t, c)
	if m.Stream != stream || m.PPID != PPIDNGAP || string(m.Data) != data {
		t.Fatalf("received %q on stream %d with PPID %d, want %q on %d with %d", m.Data, m.Stream, m.PPID, data, stream, PPIDNGAP)
	}
}

func mustRecv(t testing.TB, c Conn) Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	m, err := c.Recv(ctx)
	if err != nil {
		t.Fatalf("recv: %v", err)
	}
	return m
}

// recvErr is the error at which the messages end.
func recvErr(t testing.TB, c Conn) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	for {
		if _, err := c.Recv(ctx); err != nil {
			return err
		}
	}
}

func closeConn(t testing.TB, c Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}
