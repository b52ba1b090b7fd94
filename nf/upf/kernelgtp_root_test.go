package upf

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/memnet"
	"github.com/simreach/simreach/internal/tun"
	"github.com/simreach/simreach/internal/tun/netstack"
	"github.com/simreach/simreach/internal/umltest"
	"github.com/simreach/simreach/internal/wire/gtpu"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/upf/datapath"
)

const (
	kernelBytes   = 100_000_000 // each way
	kernelTimeout = 85 * time.Second
	kernelTEID    = ident.TEID(0x80000200) // of the tunnel towards the guest
	uploadPort    = 7001                   // of the data network's host
	downloadPort  = 7002                   // of the UE
	// outerPlain is what IPv4, UDP and a GTP-U header without extension add.
	outerPlain = 20 + 8 + 8
	n6MTU      = tun.DefaultMTU - outerPlain
	// kernelPackets is how many packets the bytes of one direction need at least.
	kernelPackets = kernelBytes / n6MTU
)

// TestRootKernelGTP puts the Linux kernel's GTP driver, which nobody here wrote, at
// the other end of N3: 100 MB of TCP each way between a UE address behind it and a
// host behind N6. The driver is an SGSN's: it knows no QFI, so the session's QER has
// none, and no header of ours may have an extension.
func TestRootKernelGTP(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), kernelTimeout)
	defer cancel()
	m := umltest.Boot(t, umltest.Options{
		Modules: []string{"gtp", "ipv6"},
		// Its router solicitations are no user packets: the driver counts them as errors.
		Script: "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6",
	})
	peer := umltest.Build(t, "github.com/simreach/simreach/internal/umltest/gtppeer")

	l, n3, dn := kernelLab(t, ctx, m)
	l.associate()
	id, teid := l.session(kernelEstablishment(m.Guest))
	if teid == 0 {
		t.Fatal("no uplink TEID")
	}

	listener, err := dn.Listen("tcp", netip.AddrPortFrom(dnAddr, uploadPort).String())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	type outcome struct {
		up, down stream
		err      error
	}
	hosted := make(chan outcome, 1)
	go func() {
		var o outcome
		if o.up, o.err = receiveFrom(ctx, listener); o.err == nil {
			o.down, o.err = sendTo(ctx, dn)
		}
		hosted <- o
	}()
	end, _ := ctx.Deadline()
	out, err := m.Run(ctx, fmt.Sprintf("%s -n3 %s -upf %s -ue %s -dn %s -teid %d -upf-teid %d -listen %d -upload %s:%d -n %d -timeout %s",
		peer, m.Guest, m.Host, ueAddr, dnAddr, kernelTEID, teid, downloadPort, dnAddr, uploadPort, kernelBytes, time.Until(end)))
	t.Logf("guest: %s", out)
	if err != nil {
		cancel() // closes what the other side waits for
	}
	host := <-hosted
	if err != nil || host.err != nil {
		t.Fatalf("guest: %v; host: %v; counters %+v", err, host.err, l.Status().Datapath.Counters)
	}
	for _, c := range []struct {
		name string
		here stream
	}{{"upload", host.up}, {"download", host.down}} {
		sum, n := guestStream(t, out, c.name)
		if n != kernelBytes || c.here.n != kernelBytes || sum != c.here.sum {
			t.Errorf("%s: guest has %d bytes, SHA-256 %s, host %d, %s; want %d, the same", c.name, n, sum, c.here.n, c.here.sum, kernelBytes)
		}
		t.Logf("%s: %d bytes in %v, %.0f Mbit/s", c.name, c.here.n, c.here.took.Round(time.Millisecond), float64(c.here.n)*8/c.here.took.Seconds()/1e6)
	}

	checkKernelCounters(t, l, n3, id)
	d := regexp.MustCompile(`device rx_packets=(\d+) tx_packets=(\d+) rx_errors=0 tx_errors=0`).FindStringSubmatch(out)
	if d == nil {
		t.Fatal("guest does not say that its device had no errors")
	}
	if rx, tx := number(t, d[1]), number(t, d[2]); rx < kernelPackets || tx < kernelPackets {
		t.Errorf("guest's device: %d packets in, %d out, want at least %d each", rx, tx, kernelPackets)
	}
}

// checkKernelCounters wants user packets on N3 and nothing else, all of them
// forwarded, and then ends the session, whose usage report must tell the same.
func checkKernelCounters(t *testing.T, l *lab, n3 *bareN3, id ident.SEID) {
	t.Helper()
	got := l.Status().Datapath.Counters
	t.Logf("UPF: %+v", got)
	if got.UplinkBytes < kernelBytes || got.DownlinkBytes < kernelBytes {
		t.Errorf("%d bytes uplink, %d downlink, want at least %d each", got.UplinkBytes, got.DownlinkBytes, kernelBytes)
	}
	trouble := got
	trouble.UplinkBytes, trouble.UplinkPackets, trouble.DownlinkBytes, trouble.DownlinkPackets = 0, 0, 0, 0
	if trouble != (datapath.Counters{}) {
		t.Errorf("counters of what is not forwarded: %+v, want none", trouble)
	}
	if up, down, foreign := n3.received.Load(), n3.sent.Load(), n3.foreign.Load(); up < got.UplinkPackets || down < got.DownlinkPackets || foreign != 0 {
		t.Errorf("N3: %d messages in, %d out; %d are no G-PDUs with a bare header", up, down, foreign)
	}
	r := request[*pfcp.SessionDeletionResponse](l, id, &pfcp.SessionDeletionRequest{})
	end := l.Status().Datapath.Counters // a late ACK may have come meanwhile
	if r.Cause != pfcp.CauseAccepted || len(r.Usage) != 1 ||
		r.Usage[0].UplinkBytes < got.UplinkBytes || r.Usage[0].UplinkBytes > end.UplinkBytes ||
		r.Usage[0].DownlinkBytes < got.DownlinkBytes || r.Usage[0].DownlinkBytes > end.DownlinkBytes {
		t.Errorf("deletion: %+v, want %d and %d bytes", r, end.UplinkBytes, end.DownlinkBytes)
	}
}

// kernelLab is a UPF whose N3 is a kernel socket on the guest's link, whose N6 is
// the host of the data network, and whose N4 is in memory.
func kernelLab(t *testing.T, ctx context.Context, m *umltest.Machine) (*lab, *bareN3, *netstack.Stack) {
	t.Helper()
	network := memnet.New(memnet.Config{})
	t.Cleanup(func() { _ = network.Close() })
	var conns [2]*memnet.UDPConn
	for i, a := range []netip.Addr{upfAddr, cpAddr} {
		var err error
		if conns[i], err = network.ListenUDP(netip.AddrPortFrom(a, PFCPPort)); err != nil {
			t.Fatal(err)
		}
	}
	dn, err := netstack.New(netstack.Config{
		Name: "dn", Addresses: []netip.Prefix{netip.PrefixFrom(dnAddr, 24)}, MTU: n6MTU,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dn.Close() })
	n3 := new(bareN3)
	m.In(func() { n3.Conn, err = dgram.Listen(ctx, netip.AddrPortFrom(m.Host, gtpu.Port)) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n3.Close() })
	u, err := New(
		Config{N4Address: upfAddr, N3Address: m.Host, NetworkInstances: []ident.DNN{"internet"}},
		Deps{N4: conns[0], N3: n3, N6: map[ident.DNN]tun.Device{"internet": dn}},
	)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := u.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	// The helpers wait without limit for an answer; the end of ctx ends that.
	stop := context.AfterFunc(ctx, func() { _ = network.Close() })
	t.Cleanup(func() { stop() })
	<-u.Ready()
	return &lab{UPF: u, t: t, cp: conns[1], recovery: time.Now()}, n3, dn
}

// kernelEstablishment is an establishment without QFI, towards the guest.
func kernelEstablishment(guest netip.Addr) *pfcp.SessionEstablishmentRequest {
	m := establishment()
	m.Rules.FARs[1].Forward.Outer = &ident.FTEID{Addr: guest, TEID: kernelTEID}
	m.Rules.QERs[0].QFI = 0
	return m
}

// bareN3 counts messages, and those that are not G-PDUs with the 8 octets that
// TS 29.281 clause 5.1 makes mandatory: no extension, sequence or N-PDU number.
type bareN3 struct {
	dgram.Conn
	sent, received, foreign atomic.Uint64
}

func (c *bareN3) look(ds []dgram.Datagram, count *atomic.Uint64) {
	count.Add(uint64(len(ds)))
	for _, d := range ds {
		if d.N < 8 || d.Buf[0] != 0x30 || gtpu.MessageType(d.Buf[1]) != gtpu.GPDU {
			c.foreign.Add(1)
		}
	}
}

func (c *bareN3) ReadBatch(ds []dgram.Datagram) (int, error) {
	n, err := c.Conn.ReadBatch(ds)
	c.look(ds[:n], &c.received)
	return n, err
}

func (c *bareN3) WriteBatch(ds []dgram.Datagram) (int, error) {
	c.look(ds, &c.sent)
	return c.Conn.WriteBatch(ds)
}

// stream is one direction of the transfer as the host saw it.
type stream struct {
	sum  string
	n    int64
	took time.Duration
}

// receiveFrom reads one connection to its end and closes it.
func receiveFrom(ctx context.Context, l net.Listener) (stream, error) {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	c, err := l.Accept()
	if err != nil {
		return stream{}, fmt.Errorf("accept: %w", err)
	}
	return move(ctx, c, func() (stream, error) {
		hash, start := sha256.New(), time.Now()
		n, err := io.CopyBuffer(struct{ io.Writer }{hash}, struct{ io.Reader }{c}, make([]byte, 256<<10))
		return stream{sum: fmt.Sprintf("%x", hash.Sum(nil)), n: n, took: time.Since(start)}, err
	})
}

// sendTo calls the UE, sends, and waits for its end.
func sendTo(ctx context.Context, dn *netstack.Stack) (stream, error) {
	c, err := dn.DialContextFrom(ctx, netip.AddrPortFrom(dnAddr, 0), "tcp", netip.AddrPortFrom(ueAddr, downloadPort).String())
	if err != nil {
		return stream{}, err
	}
	return move(ctx, c, func() (stream, error) {
		hash, start := sha256.New(), time.Now()
		source := rand.NewChaCha8([32]byte{2})
		n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(c, hash)}, io.LimitReader(source, kernelBytes), make([]byte, 256<<10))
		if err != nil {
			return stream{}, err
		}
		half, ok := c.(interface{ CloseWrite() error })
		if !ok {
			return stream{}, fmt.Errorf("no half close: %T", c)
		}
		if err := half.CloseWrite(); err != nil {
			return stream{}, err
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			return stream{}, fmt.Errorf("after the last byte: %w, want the end", err)
		}
		return stream{sum: fmt.Sprintf("%x", hash.Sum(nil)), n: n, took: time.Since(start)}, nil
	})
}

// move runs f, which uses c, and closes c after it or at the end of ctx.
func move(ctx context.Context, c net.Conn, f func() (stream, error)) (stream, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	s, err := f()
	if stop() {
		err = errors.Join(err, c.Close())
	}
	return s, err
}

// guestStream finds one direction of the transfer as the guest saw it.
func guestStream(t *testing.T, out, name string) (sum string, n uint64) {
	t.Helper()
	f := regexp.MustCompile(name + ` sha256=([0-9a-f]{64}) bytes=(\d+) ms=\d+`).FindStringSubmatch(out)
	if f == nil {
		t.Fatalf("guest says nothing of the %s", name)
	}
	return f[1], number(t, f[2])
}

func number(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
