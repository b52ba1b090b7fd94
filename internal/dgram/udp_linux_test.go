package dgram

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, addr string) *UDP {
	t.Helper()
	c, err := Listen(context.Background(), netip.MustParseAddrPort(addr))
	if err != nil {
		t.Fatalf("listen %s: %v", addr, err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func buffers(n, size int) []Datagram {
	ds := make([]Datagram, n)
	for i := range ds {
		ds[i].Buf = make([]byte, size)
	}
	return ds
}

func TestRoundTrip(t *testing.T) {
	for _, tc := range []struct{ name, server, client string }{
		{"IPv4", "127.0.0.1:0", "127.0.0.2:0"},
		{"IPv4 wildcard client", "127.0.0.1:0", "0.0.0.0:0"},
		{"IPv6", "[::1]:0", "[::1]:0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.name == "IPv6" {
				if c, err := net.ListenPacket("udp6", "[::1]:0"); err != nil {
					t.Skipf("this machine has no IPv6 loopback: %v", err)
				} else {
					_ = c.Close()
				}
			}
			s, c := open(t, tc.server), open(t, tc.client)
			out := buffers(maxBatch+3, 64)
			for i := range out {
				out[i].N = copy(out[i].Buf, fmt.Sprintf("datagram %d", i))
				out[i].Addr = s.LocalAddr()
			}
			n, err := c.WriteBatch(out)
			if n != len(out) || err != nil {
				t.Fatalf("WriteBatch = %d, %v; want all %d", n, err, len(out))
			}
			in := buffers(32, 64)
			for got := 0; got < len(out); {
				n, err := s.ReadBatch(in)
				if err != nil || n == 0 {
					t.Fatalf("ReadBatch = %d, %v", n, err)
				}
				for _, d := range in[:n] {
					if want := fmt.Sprintf("datagram %d", got); string(d.Buf[:d.N]) != want {
						t.Fatalf("got %q, want %q: order is kept on loopback", d.Buf[:d.N], want)
					}
					if d.Addr.Port() != c.LocalAddr().Port() || d.Addr.Addr().Is4In6() {
						t.Fatalf("sender %s, want port %d and an unmapped address", d.Addr, c.LocalAddr().Port())
					}
					got++
				}
			}
		})
	}
}

func TestDualStackSocketUnmaps(t *testing.T) {
	pc, err := net.ListenUDP("udp", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := FromUDP(pc)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := open(t, "127.0.0.1:0")
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.LocalAddr().Port())
	if n, err := c.WriteBatch([]Datagram{{Buf: []byte("x"), N: 1, Addr: to}}); n != 1 || err != nil {
		t.Fatalf("WriteBatch = %d, %v", n, err)
	}
	in := buffers(1, 8)
	if n, err := s.ReadBatch(in); n != 1 || err != nil {
		t.Fatalf("ReadBatch = %d, %v", n, err)
	}
	if in[0].Addr != c.LocalAddr() {
		t.Fatalf("sender %s, want %s", in[0].Addr, c.LocalAddr())
	}
	in[0].N = 1
	if n, err := s.WriteBatch(in); n != 1 || err != nil {
		t.Fatalf("answer: %d, %v; a dual-stack socket sends to IPv4", n, err)
	}
}

func TestCloseWakesReader(t *testing.T) {
	c := open(t, "127.0.0.1:0")
	got := make(chan error)
	go func() {
		_, err := c.ReadBatch(buffers(1, 8))
		got <- err
	}()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-got:
		if !errors.Is(err, net.ErrClosed) {
			t.Fatalf("ReadBatch after Close: %v, want net.ErrClosed", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Close did not wake the reader")
	}
	if _, err := c.WriteBatch([]Datagram{{Buf: []byte("x"), N: 1, Addr: c.LocalAddr()}}); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("WriteBatch after Close: %v, want net.ErrClosed", err)
	}
}

// An ICMP port unreachable must neither end the reader nor fail the writer.
func TestPortUnreachableIsSwallowed(t *testing.T) {
	s, c := open(t, "127.0.0.1:0"), open(t, "127.0.0.1:0")
	gone := open(t, "127.0.0.1:0")
	dead := gone.LocalAddr()
	_ = gone.Close()
	for range 10 {
		if _, err := c.WriteBatch([]Datagram{{Buf: []byte("x"), N: 1, Addr: dead}}); err != nil {
			t.Fatalf("write to a closed port: %v", err)
		}
	}
	if n, err := s.WriteBatch([]Datagram{{Buf: []byte("alive"), N: 5, Addr: c.LocalAddr()}}); n != 1 || err != nil {
		t.Fatalf("WriteBatch = %d, %v", n, err)
	}
	in := buffers(1, 8)
	if n, err := c.ReadBatch(in); n != 1 || err != nil || !bytes.Equal(in[0].Buf[:in[0].N], []byte("alive")) {
		t.Fatalf("ReadBatch = %d, %v, %q", n, err, in[0].Buf[:in[0].N])
	}
}

// One bad datagram must not keep the others of its batch back.
func TestRefusedDatagramIsSkipped(t *testing.T) {
	s, c := open(t, "127.0.0.1:0"), open(t, "127.0.0.1:0")
	good := Datagram{Buf: []byte("ok"), N: 2, Addr: s.LocalAddr()}
	for _, bad := range []Datagram{
		{Buf: []byte("x"), N: 1},
		{Buf: []byte("x"), N: 1, Addr: netip.MustParseAddrPort("[::1]:9")},
		{Buf: []byte("x"), N: 2, Addr: s.LocalAddr()},
		{Buf: make([]byte, 70000), N: 70000, Addr: s.LocalAddr()},
	} {
		n, err := c.WriteBatch([]Datagram{good, bad, good})
		if n != 2 || err == nil {
			t.Fatalf("WriteBatch with %s in the middle = %d, %v; want 2 and an error", bad.Addr, n, err)
		}
		in := buffers(4, 8)
		for got := 0; got < 2; {
			n, err := s.ReadBatch(in)
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
	}
	if got := c.Stats().Unsent; got != 4 {
		t.Fatalf("Unsent = %d, want 4", got)
	}
}

func TestBatchesDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops entries at random under the race detector")
	}
	s, c := open(t, "127.0.0.1:0"), open(t, "127.0.0.1:0")
	out, in := buffers(64, 1400), buffers(64, 1500)
	for i := range out {
		out[i].N, out[i].Addr = 1400, s.LocalAddr()
	}
	got := testing.AllocsPerRun(200, func() {
		if n, err := c.WriteBatch(out); n != len(out) || err != nil {
			t.Fatalf("WriteBatch = %d, %v", n, err)
		}
		for left := len(out); left > 0; {
			n, err := s.ReadBatch(in)
			if err != nil {
				t.Fatal(err)
			}
			left -= n
		}
	})
	if got != 0 {
		t.Fatalf("%v allocations for a batch out and in, want none", got)
	}
}

func BenchmarkBatch64(b *testing.B) {
	s, c := open(b, "127.0.0.1:0"), open(b, "127.0.0.1:0")
	out, in := buffers(64, 1400), buffers(64, 1500)
	for i := range out {
		out[i].N, out[i].Addr = 1400, s.LocalAddr()
	}
	b.SetBytes(64 * 1400)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.WriteBatch(out); err != nil {
			b.Fatal(err)
		}
		for left := len(out); left > 0; {
			n, err := s.ReadBatch(in)
			if err != nil {
				b.Fatal(err)
			}
			left -= n
		}
	}
}
