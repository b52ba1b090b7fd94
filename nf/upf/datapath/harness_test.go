package datapath

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/memnet"
	"github.com/simreach/simreach/internal/tun"
	"github.com/simreach/simreach/internal/tun/tuntest"
	"github.com/simreach/simreach/internal/wire/gtpu"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	upfAddr = netip.MustParseAddr("192.0.2.1")
	gnbAddr = netip.MustParseAddr("192.0.2.2")
	ueAddr  = netip.MustParseAddr("10.60.0.2")
	dnAddr  = netip.MustParseAddr("10.60.0.1")
)

const (
	upTEID   = ident.TEID(0x100)
	downTEID = ident.TEID(0x200)
)

// basic is an ordinary session: everything up to "internet", everything down to the
// gNB with QFI 9, one URR.
func basic() Session {
	ue := ident.UEAddress{V4: ueAddr}
	return Session{
		ID: 1,
		PDRs: []PDR{
			{ID: 1, Precedence: 100, Uplink: true, TEID: upTEID, UE: ue, Network: "internet", FAR: 1, QERs: []uint32{1}, URRs: []uint32{1}},
			{ID: 2, Precedence: 100, UE: ue, Network: "internet", FAR: 2, QERs: []uint32{1}, URRs: []uint32{1}},
		},
		FARs: []FAR{{ID: 1, Action: Forward}, {ID: 2, Action: Forward, Outer: ident.FTEID{Addr: gnbAddr, TEID: downTEID}}},
		QERs: []QER{{ID: 1, HasQFI: true, QFI: 9}},
		URRs: []URR{{ID: 1}},
	}
}

// rig is a running datapath with its N3 peer.
type rig struct {
	*Plain
	t     *testing.T
	net   *memnet.Network
	gnb   dgram.Conn
	buf   []dgram.Datagram
	queue []dgram.Datagram
}

func newRig(t *testing.T, n6 map[ident.DNN]tun.Device) *rig {
	t.Helper()
	network := memnet.New(memnet.Config{})
	listen := func(a netip.Addr) dgram.Conn {
		c, err := network.ListenUDP(netip.AddrPortFrom(a, gtpu.Port))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	p, err := New(Config{N3: upfAddr}, Deps{N3: listen(upfAddr), N6: n6})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Plain: p, t: t, net: network, gnb: listen(gnbAddr), buf: make([]dgram.Datagram, 64)}
	for i := range r.buf {
		r.buf[i].Buf = make([]byte, 2048)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		network.Close()
	})
	<-p.Ready()
	return r
}

// oneNetwork is a rig with a channel device as "internet"; n6 is its other end.
func oneNetwork(t *testing.T) (r *rig, n6 *tuntest.Channel) {
	a, b := tuntest.NewPair(1456)
	return newRig(t, map[ident.DNN]tun.Device{"internet": a}), b
}

func (r *rig) apply(s Session) {
	r.t.Helper()
	if _, err := r.Apply(s); err != nil {
		r.t.Fatal(err)
	}
}

// up sends one datagram from the gNB.
func (r *rig) up(b []byte) {
	r.t.Helper()
	if _, err := r.gnb.WriteBatch([]dgram.Datagram{{Buf: b, N: len(b), Addr: netip.AddrPortFrom(upfAddr, gtpu.Port)}}); err != nil {
		r.t.Fatal(err)
	}
}

// down waits for a datagram at the gNB.
func (r *rig) down() []byte {
	r.t.Helper()
	if len(r.queue) == 0 {
		n, err := r.gnb.ReadBatch(r.buf)
		if err != nil {
			r.t.Fatal(err)
		}
		r.queue = r.buf[:n]
	}
	d := r.queue[0]
	r.queue = r.queue[1:]
	return append([]byte(nil), d.Buf[:d.N]...)
}

// barrier returns once all that was sent from the gNB before has been handled: echo
// requests are answered in order.
func (r *rig) barrier() {
	r.t.Helper()
	b, err := gtpu.EncodeEchoRequest(0xbeef)
	if err != nil {
		r.t.Fatal(err)
	}
	r.up(b)
	for {
		if h, _, err := gtpu.Parse(r.down()); err == nil && h.Type == gtpu.EchoResponse {
			return
		}
	}
}

// status is taken after a barrier and once the batch is in the counters.
func (r *rig) counters() Counters { return r.Status().Counters }

func readOne(t *testing.T, d tun.Device) []byte {
	t.Helper()
	b, sizes := [][]byte{make([]byte, 2048)}, []int{0}
	if _, err := d.Read(b, sizes, 0); err != nil {
		t.Fatal(err)
	}
	return b[0][:sizes[0]]
}

func writeOne(t *testing.T, d tun.Device, p []byte) {
	t.Helper()
	if n, err := d.Write([][]byte{p}, 0); err != nil || n != 1 {
		t.Fatalf("write: %d, %v", n, err)
	}
}

// ipPacket is an IPv4 or IPv6 header with n octets behind it, checksum left out.
func ipPacket(src, dst netip.Addr, n int) []byte {
	if src.Is4() {
		b := make([]byte, 20+n)
		b[0], b[8], b[9] = 0x45, 64, 253
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		copy(b[12:], src.AsSlice())
		copy(b[16:], dst.AsSlice())
		return b
	}
	b := make([]byte, 40+n)
	b[0], b[6], b[7] = 0x60, 253, 64
	binary.BigEndian.PutUint16(b[4:], uint16(n))
	copy(b[8:], src.AsSlice())
	copy(b[24:], dst.AsSlice())
	return b
}

// gpdu puts a packet into an uplink G-PDU with QFI.
func gpdu(teid ident.TEID, qfi ident.QFI, p []byte) []byte {
	h := gtpu.Header{Type: gtpu.GPDU, TEID: teid, HasQFI: true, QFI: qfi, Uplink: true}
	b := make([]byte, h.Size()+len(p))
	copy(b[h.Put(b, len(p)):], p)
	return b
}

// nodeB joins a UE's stack to N3 as a gNB does.
func nodeB(conn dgram.Conn, upf netip.AddrPort, ue tun.Device, qfi ident.QFI) (stop func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		bufs, sizes := make([][]byte, ue.BatchSize()), make([]int, ue.BatchSize())
		for i := range bufs {
			bufs[i] = make([]byte, headroom+ue.MTU())
		}
		h := gtpu.Header{Type: gtpu.GPDU, TEID: upTEID, HasQFI: true, QFI: qfi, Uplink: true}
		out := make([]dgram.Datagram, len(bufs))
		for {
			n, err := ue.Read(bufs, sizes, headroom)
			if err != nil {
				return
			}
			for i := range n {
				h.Put(bufs[i], sizes[i])
				out[i] = dgram.Datagram{Buf: bufs[i], N: headroom + sizes[i], Addr: upf}
			}
			conn.WriteBatch(out[:n])
		}
	})
	wg.Go(func() {
		in := make([]dgram.Datagram, 64)
		for i := range in {
			in[i].Buf = make([]byte, 2048)
		}
		out := make([][]byte, 0, len(in))
		for {
			n, err := conn.ReadBatch(in)
			if err != nil {
				return
			}
			out = out[:0]
			for _, d := range in[:n] {
				h, p, err := gtpu.Parse(d.Buf[:d.N])
				if err == nil && h.Type == gtpu.GPDU && h.TEID == downTEID && h.HasQFI && !h.Uplink {
					out = append(out, p)
				}
			}
			if _, err := ue.Write(out, 0); errors.Is(err, os.ErrClosed) || errors.Is(err, net.ErrClosed) {
				return
			}
		}
	})
	return func() {
		ue.Close()
		conn.Close()
		wg.Wait()
	}
}
