package datapath

import (
	"net"
	"net/netip"
	"testing"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/tun"
	"github.com/simreach/simreach/internal/tun/tuntest"
)

// sink is an N3 and an N6 that take everything and give nothing.
type sink struct{ *tuntest.Channel }

func (sink) Write(b [][]byte, _ int) (int, error)        { return len(b), nil }
func (sink) WriteBatch(ds []dgram.Datagram) (int, error) { return len(ds), nil }
func (sink) ReadBatch([]dgram.Datagram) (int, error)     { return 0, net.ErrClosed }
func (sink) LocalAddr() netip.AddrPort                   { return netip.AddrPort{} }
func benchPlain(tb testing.TB, dev *tuntest.Channel) *Plain {
	p, err := New(Config{N3: upfAddr}, Deps{N3: sink{dev}, N6: map[ident.DNN]tun.Device{"internet": sink{dev}}})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// loaded returns workers with a full batch each, of a session with QER rates and a
// URR among n others.
func loaded(tb testing.TB, n int) (up *uplinkWorker, down func()) {
	dev, _ := tuntest.NewPair(1456)
	p := benchPlain(tb, dev)
	for i := range n {
		s := numbered(i)
		s.QERs[0].MBR = ident.AMBR{Uplink: 1e15, Downlink: 1e15}
		if _, err := p.Apply(s); err != nil {
			tb.Fatal(err)
		}
	}
	up = p.newUplink()
	d := p.newDownlink(p.byIdx[0])
	for i := range up.in {
		k := i * 7919 % n
		b := gpdu(ident.TEID(0x1000+k), 9, ipPacket(numberedAddr(k), dnAddr, 1380))
		up.in[i].N = copy(up.in[i].Buf, b)
	}
	for i := range d.bufs {
		d.sizes[i] = copy(d.bufs[i][headroom:], ipPacket(dnAddr, numberedAddr(i*7919%n), 1380))
	}
	return up, func() { d.batch(len(d.bufs), p.now()) }
}

func TestPacketsCostNoAllocation(t *testing.T) {
	up, down := loaded(t, 100)
	if n := testing.AllocsPerRun(50, func() { up.batch(up.in, up.p.now()) }); n != 0 {
		t.Errorf("uplink: %v allocations a batch, want 0", n)
	}
	if n := testing.AllocsPerRun(50, down); n != 0 {
		t.Errorf("downlink: %v allocations a batch, want 0", n)
	}
	// Packets that are dropped cost none either.
	for i := range up.in {
		up.in[i].Buf[30] = 99 // another source address
	}
	if n := testing.AllocsPerRun(50, func() { up.batch(up.in, up.p.now()) }); n != 0 {
		t.Errorf("spoofed: %v allocations a batch, want 0", n)
	}
	for i := range up.in {
		up.in[i].Buf[7] ^= 0xff // another TEID
	}
	up.batch(up.in, up.p.now()) // uses up what may be answered
	up.batch(up.in, up.p.now())
	if n := testing.AllocsPerRun(1, func() { up.batch(up.in, up.p.now()) }); n > 2 {
		t.Errorf("unknown TEID: %v allocations a batch, want next to none", n)
	}
	c := up.p.Status().Counters
	if c.UplinkPackets == 0 || c.DownlinkPackets == 0 || c.Spoofed == 0 || c.N3SendFailed+c.N6WriteFailed+c.Malformed+c.UnknownUE != 0 {
		t.Errorf("not what was to be measured: %+v", c)
	}
}

func benchmarkUplink(b *testing.B, sessions int) {
	up, _ := loaded(b, sessions)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		up.batch(up.in, up.p.now())
		n += len(up.in)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/packet")
}

func benchmarkDownlink(b *testing.B, sessions int) {
	up, down := loaded(b, sessions)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		down()
		n += len(up.in)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/packet")
}

func BenchmarkUplink1(b *testing.B)       { benchmarkUplink(b, 1) }
func BenchmarkUplink10000(b *testing.B)   { benchmarkUplink(b, 10_000) }
func BenchmarkDownlink1(b *testing.B)     { benchmarkDownlink(b, 1) }
func BenchmarkDownlink10000(b *testing.B) { benchmarkDownlink(b, 10_000) }
