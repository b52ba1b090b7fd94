package memnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/dgram"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	addrA = netip.MustParseAddrPort("10.0.0.1:2152")
	addrB = netip.MustParseAddrPort("10.0.0.2:2152")
)

func pair(t *testing.T, cfg Config) (n *Network, a, b *UDPConn) {
	t.Helper()
	n = New(cfg)
	var err error
	if a, err = n.ListenUDP(addrA); err != nil {
		t.Fatal(err)
	}
	if b, err = n.ListenUDP(addrB); err != nil {
		t.Fatal(err)
	}
	return n, a, b
}

func send(t *testing.T, c *UDPConn, to netip.AddrPort, data ...string) {
	t.Helper()
	for _, d := range data {
		if n, err := c.WriteBatch([]dgram.Datagram{{Buf: []byte(d), N: len(d), Addr: to}}); n != 1 || err != nil {
			t.Fatalf("WriteBatch = %d, %v", n, err)
		}
	}
}

// drain reads what is there now, or in the bubble's future.
func drain(t *testing.T, c *UDPConn, n int) (got []string) {
	t.Helper()
	ds := []dgram.Datagram{{Buf: make([]byte, 100)}, {Buf: make([]byte, 100)}, {Buf: make([]byte, 100)}}
	for len(got) < n {
		k, err := c.ReadBatch(ds)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds[:k] {
			got = append(got, string(d.Buf[:d.N]))
		}
	}
	return got
}

func TestDelivery(t *testing.T) {
	n, a, b := pair(t, Config{})
	defer n.Close()
	send(t, a, addrB, "one", "two", "three", "four")
	if got := drain(t, b, 4); !slices.Equal(got, []string{"one", "two", "three", "four"}) {
		t.Fatalf("got %q: a perfect network keeps order", got)
	}
	send(t, b, netip.MustParseAddrPort("[::ffff:10.0.0.1]:2152"), "mapped")
	ds := []dgram.Datagram{{Buf: make([]byte, 3)}}
	if k, err := a.ReadBatch(ds); k != 1 || err != nil || string(ds[0].Buf[:ds[0].N]) != "map" || ds[0].Addr != addrB {
		t.Fatalf("%d, %v, %q from %s; want the first three bytes from %s", k, err, ds[0].Buf[:ds[0].N], ds[0].Addr, addrB)
	}
	send(t, a, netip.MustParseAddrPort("10.0.0.9:1"), "nobody")
	if got := n.Stats(); got.Sent != 6 || got.Delivered != 5 || got.Unreachable != 1 {
		t.Errorf("%+v", got)
	}
}

func TestBind(t *testing.T) {
	n, a, _ := pair(t, Config{})
	if _, err := n.ListenUDP(addrA); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second socket on one address: %v, want EADDRINUSE", err)
	}
	for _, bad := range []string{"0.0.0.0:1", "[::]:1"} {
		if _, err := n.ListenUDP(netip.MustParseAddrPort(bad)); err == nil {
			t.Errorf("bound %s", bad)
		}
	}
	e1, err1 := n.ListenUDP(netip.AddrPortFrom(addrA.Addr(), 0))
	e2, err2 := n.ListenUDP(netip.AddrPortFrom(addrA.Addr(), 0))
	if err1 != nil || err2 != nil || e1.LocalAddr() == e2.LocalAddr() || e1.LocalAddr().Port() < firstEphemeral {
		t.Errorf("port 0: %v, %v, %v, %v", e1.LocalAddr(), e2.LocalAddr(), err1, err2)
	}
	if _, err := n.ListenIP(addrA.Addr(), ProtocolSCTP); err != nil {
		t.Errorf("raw IP beside UDP: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := a.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if _, err := n.ListenUDP(addrA); err != nil {
		t.Errorf("address after Close: %v", err)
	}
	_ = n.Close()
	if _, err := n.ListenUDP(addrA); !errors.Is(err, net.ErrClosed) {
		t.Errorf("bind on a closed network: %v", err)
	}
}

func TestCloseWakesReaders(t *testing.T) {
	for name, closeIt := range map[string]func(n *Network, c *UDPConn){
		"socket":  func(_ *Network, c *UDPConn) { _ = c.Close() },
		"network": func(n *Network, _ *UDPConn) { _ = n.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, a, _ := pair(t, Config{})
				defer n.Close()
				got := make(chan error)
				go func() {
					_, err := a.ReadBatch([]dgram.Datagram{{Buf: make([]byte, 1)}})
					got <- err
				}()
				synctest.Wait()
				closeIt(n, a)
				if err := <-got; !errors.Is(err, net.ErrClosed) {
					t.Errorf("ReadBatch: %v, want net.ErrClosed", err)
				}
				if _, err := a.WriteBatch([]dgram.Datagram{{Addr: addrB}}); !errors.Is(err, net.ErrClosed) {
					t.Errorf("WriteBatch: %v, want net.ErrClosed", err)
				}
			})
		})
	}
}

func TestQueueDropsAndCounts(t *testing.T) {
	n, a, b := pair(t, Config{Queue: 3})
	defer n.Close()
	send(t, a, addrB, "1", "2", "3", "4", "5")
	if got := drain(t, b, 3); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("got %q, want the first three", got)
	}
	if got := n.Stats(); got.Overflowed != 2 || got.Delivered != 3 {
		t.Errorf("%+v", got)
	}
	send(t, a, addrB, "6")
	if got := drain(t, b, 1); got[0] != "6" {
		t.Errorf("got %q", got)
	}
}

func TestMTU(t *testing.T) {
	n, a, b := pair(t, Config{MTU: 4})
	defer n.Close()
	k, err := a.WriteBatch([]dgram.Datagram{{Buf: []byte("12345"), N: 5, Addr: addrB}, {Buf: []byte("1234"), N: 4, Addr: addrB}})
	if k != 1 || !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("WriteBatch = %d, %v; want the one that fits, and EMSGSIZE", k, err)
	}
	drain(t, b, 1)
}

func TestDelayIsExactAndKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, Config{Delay: 30 * time.Millisecond})
		defer n.Close()
		start := time.Now()
		var want []string
		for i := range 100 {
			want = append(want, fmt.Sprint(i))
		}
		send(t, a, addrB, want...)
		if got := drain(t, b, 100); !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
		if d := time.Since(start); d != 30*time.Millisecond {
			t.Errorf("took %v, want 30 ms", d)
		}
	})
}

func TestImpairmentsAreDeterministic(t *testing.T) {
	run := func(seed uint64) (got []string, st Stats) {
		synctest.Test(t, func(t *testing.T) {
			n, a, b := pair(t, Config{Delay: time.Millisecond, Jitter: time.Millisecond, Loss: 0.1, Duplicate: 0.1, Reorder: 0.1, ReorderBy: 5 * time.Millisecond, Seed: seed})
			defer n.Close()
			for i := range 500 {
				send(t, a, addrB, fmt.Sprint(i))
			}
			<-time.After(time.Second)
			st = n.Stats()
			got = drain(t, b, int(st.Delivered))
		})
		return got, st
	}
	first, st := run(1)
	for name, v := range map[string]uint64{"Lost": st.Lost, "Duplicated": st.Duplicated, "Reordered": st.Reordered} {
		if v < 20 || v > 100 {
			t.Errorf("%s = %d of 500, want about a tenth", name, v)
		}
	}
	if st.Sent != 500 || st.Delivered != 500-st.Lost+st.Duplicated {
		t.Errorf("%+v: the numbers do not add up", st)
	}
	if slices.IsSorted(first) {
		t.Error("nothing was reordered")
	}
	if again, _ := run(1); !slices.Equal(first, again) {
		t.Error("the same seed gave another fate")
	}
	if other, _ := run(2); slices.Equal(first, other) {
		t.Error("another seed gave the same fate")
	}
}

func TestSetImpairments(t *testing.T) {
	n, a, b := pair(t, Config{Loss: 1})
	defer n.Close()
	send(t, a, addrB, "lost")
	n.SetImpairments(Config{})
	send(t, a, addrB, "kept")
	if got := drain(t, b, 1); got[0] != "kept" {
		t.Errorf("got %q", got)
	}
}

func TestTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, _ := pair(t, Config{Loss: 1})
		defer n.Close()
		ip, err := n.ListenIP(addrA.Addr(), ProtocolSCTP)
		if err != nil {
			t.Fatal(err)
		}
		var frames []Frame
		remove := n.Tap(func(f Frame) {
			f.Payload = slices.Clone(f.Payload)
			frames = append(frames, f)
		})
		send(t, a, addrB, "udp")
		<-time.After(time.Second)
		if err := ip.WritePacket([]byte("sctp"), netip.Addr{}, netip.AddrPortFrom(addrB.Addr(), 0)); err != nil {
			t.Fatal(err)
		}
		remove()
		send(t, a, addrB, "unseen")
		if len(frames) != 2 {
			t.Fatalf("%d frames, want two: also lost ones are seen, later ones are not", len(frames))
		}
		u, s := frames[0], frames[1]
		if u.Protocol != 17 || u.Src != addrA || u.Dst != addrB || string(u.Payload) != "udp" {
			t.Errorf("UDP frame: %+v", u)
		}
		if s.Protocol != 132 || s.Src != netip.AddrPortFrom(addrA.Addr(), 0) || string(s.Payload) != "sctp" || s.Time.Sub(u.Time) != time.Second {
			t.Errorf("SCTP frame: %+v", s)
		}
	})
}

func TestPacketConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, Config{})
		defer n.Close()
		pa, pb := a.PacketConn(), b.PacketConn()
		if _, err := pa.WriteTo([]byte("hello"), pb.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 10)
		k, from, err := pb.ReadFrom(buf)
		if err != nil || string(buf[:k]) != "hello" || from.String() != addrA.String() {
			t.Fatalf("%q from %v, %v", buf[:k], from, err)
		}
		start := time.Now()
		_ = pb.SetReadDeadline(start.Add(time.Minute))
		_, _, err = pb.ReadFrom(buf)
		var ne net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() || time.Since(start) != time.Minute {
			t.Fatalf("%v after %v, want a timeout after a minute", err, time.Since(start))
		}
		if _, _, err = pb.ReadFrom(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%v: the deadline stays", err)
		}
		_ = pb.SetReadDeadline(time.Time{})
		// A deadline set while somebody reads counts for him.
		got := make(chan error)
		go func() { _, _, err := pb.ReadFrom(buf); got <- err }()
		synctest.Wait()
		_ = pb.SetReadDeadline(time.Unix(1, 0))
		if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		_ = pb.Close()
		if _, _, err = pb.ReadFrom(buf); !errors.Is(err, net.ErrClosed) {
			t.Fatalf("%v, want net.ErrClosed", err)
		}
		if _, err := pa.WriteTo(nil, &net.IPAddr{}); err == nil {
			t.Error("wrote to an address that is not UDP")
		}
	})
}

func TestValidate(t *testing.T) {
	for _, cfg := range []Config{{Loss: -0.1}, {Loss: 1.1}, {Duplicate: 2}, {Reorder: -1}, {Delay: -1}, {Queue: -1}} {
		if cfg.Validate() == nil {
			t.Errorf("%+v passes", cfg)
		}
	}
	if err := (Config{Loss: 1}).Validate(); err != nil {
		t.Error(err)
	}
}
