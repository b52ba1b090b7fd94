package datapath

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/tun"
	"github.com/simreach/simreach/internal/tun/netstack"
	"github.com/simreach/simreach/internal/wire/gtpu"
)

// TestStacksTalkThroughTheTunnel joins a userspace stack behind N6 and one behind a
// gNB, and lets them talk TCP, UDP and ICMP.
func TestStacksTalkThroughTheTunnel(t *testing.T) {
	client, err := netstack.New(netstack.Config{Name: "dn", Addresses: []netip.Prefix{netip.PrefixFrom(dnAddr, 24)}, MTU: 1456})
	if err != nil {
		t.Fatal(err)
	}
	ue, err := netstack.New(netstack.Config{Name: "ue", Addresses: []netip.Prefix{netip.PrefixFrom(ueAddr, 32)}, MTU: 1456})
	if err != nil {
		t.Fatal(err)
	}
	// Two queues facing each other need no device in between: what the stack sends,
	// N6 reads.
	r := newRig(t, map[ident.DNN]tun.Device{"internet": client})
	stop := nodeB(r.gnb, netip.AddrPortFrom(upfAddr, gtpu.Port), ue, 9)
	defer stop()
	r.apply(basic())
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()

	t.Run("ping", func(t *testing.T) {
		if _, err := client.Ping(ctx, ueAddr, 56); err != nil {
			t.Error(err)
		}
		if _, err := ue.Ping(ctx, dnAddr, 3000); err != nil {
			t.Errorf("in fragments: %v", err)
		}
	})
	t.Run("udp", func(t *testing.T) { udpEcho(t, ctx, client, ue) })
	const size = bulk
	t.Run("tcp down", func(t *testing.T) { tcpTransfer(t, ctx, client, ue, ueAddr, size) })
	t.Run("tcp up", func(t *testing.T) { tcpTransfer(t, ctx, ue, client, dnAddr, size) })

	usage, err := r.Usage(1)
	if err != nil {
		t.Fatal(err)
	}
	if u := usage[1]; u.UplinkBytes < size || u.DownlinkBytes < size {
		t.Errorf("usage %+v, want at least %d bytes each way", u, size)
	}
	c := r.counters()
	if c.Malformed+c.UnknownTEID+c.Spoofed+c.NoRule+c.UnknownUE+c.NotIP != 0 {
		t.Errorf("packets dropped: %+v", c)
	}
}

func udpEcho(t *testing.T, ctx context.Context, client, ue *netstack.Stack) {
	p, err := ue.ListenPacket("udp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := client.DialContext(ctx, "udp", netip.AddrPortFrom(ueAddr, 7).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 2000)
	for _, size := range []int{0, 1, 1428, 1900} { // the last one in fragments
		want := bytes.Repeat([]byte{byte(size)}, size)
		if _, err := c.Write(want); err != nil {
			t.Fatal(err)
		}
		n, from, err := p.ReadFrom(buf)
		if err != nil || !bytes.Equal(buf[:n], want) {
			t.Fatalf("UE got %d octets, %v, want %d", n, err, size)
		}
		if _, err := p.WriteTo(buf[:n], from); err != nil {
			t.Fatal(err)
		}
		if n, err = c.Read(buf); err != nil || !bytes.Equal(buf[:n], want) {
			t.Fatalf("client got %d octets, %v, want %d", n, err, size)
		}
	}
}

// tcpTransfer sends size random octets from one stack to the other, half-closes and
// compares.
func tcpTransfer(t *testing.T, ctx context.Context, from, to *netstack.Stack, addr netip.Addr, size int) {
	l, err := to.Listen("tcp", ":5001")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var got bytes.Buffer
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		_, err = io.Copy(&got, c)
		done <- errors.Join(err, c.Close())
	}()
	c, err := from.DialContext(ctx, "tcp", netip.AddrPortFrom(addr, 5001).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := make([]byte, size)
	rand.NewChaCha8([32]byte{7}).Read(want)
	start := time.Now()
	if _, err := c.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		t.Errorf("after half-close: %d, %v, want EOF", n, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("got %d octets that differ from the %d sent", got.Len(), size)
	}
	t.Logf("%.0f Mbit/s", float64(size)*8/time.Since(start).Seconds()/1e6)
}

// TestStacksTalkOverKernelUDP is the same over real sockets on loopback.
func TestStacksTalkOverKernelUDP(t *testing.T) {
	open := func() *dgram.UDP {
		c, err := dgram.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	n3, gnb := open(), open()
	client, err := netstack.New(netstack.Config{Name: "dn", Addresses: []netip.Prefix{netip.PrefixFrom(dnAddr, 24)}, MTU: 1456})
	if err != nil {
		t.Fatal(err)
	}
	ue, err := netstack.New(netstack.Config{Name: "ue", Addresses: []netip.Prefix{netip.PrefixFrom(ueAddr, 32)}, MTU: 1456})
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(
		Config{N3: n3.LocalAddr().Addr(), PeerPort: gnb.LocalAddr().Port()},
		Deps{N3: n3, N6: map[ident.DNN]tun.Device{"internet": client}},
	)
	if err != nil {
		t.Fatal(err)
	}
	s := basic()
	s.FARs[1].Outer.Addr = gnb.LocalAddr().Addr()
	if _, err := p.Apply(s); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop := nodeB(gnb, n3.LocalAddr(), ue, 9)
	defer wg.Wait()
	defer cancel()
	defer stop()
	<-p.Ready()
	tcpTransfer(t, ctx, client, ue, ueAddr, 10<<20)
	tcpTransfer(t, ctx, ue, client, dnAddr, 10<<20)
	if c := p.Status().Counters; c.Malformed+c.UnknownTEID+c.Spoofed+c.NoRule+c.UnknownUE+c.NotIP != 0 {
		t.Errorf("packets dropped: %+v", c)
	}
}
