package upf

import (
	"context"
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/memnet"
	"github.com/simreach/simreach/internal/tun"
	"github.com/simreach/simreach/internal/tun/tuntest"
	"github.com/simreach/simreach/internal/wire/gtpu"
	"github.com/simreach/simreach/internal/wire/pfcp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	upfAddr = netip.MustParseAddr("192.0.2.1")
	gnbAddr = netip.MustParseAddr("192.0.2.2")
	cpAddr  = netip.MustParseAddr("192.0.2.3")
	ueAddr  = netip.MustParseAddr("10.60.0.2")
	dnAddr  = netip.MustParseAddr("10.60.0.1")
	cpNode  = pfcp.NodeID{Addr: cpAddr}

	strangerAddr = netip.MustParseAddr("192.0.2.9")
)

// lab is a UPF with its three neighbours, in a bubble.
type lab struct {
	*UPF
	t        *testing.T
	cp, gnb  dgram.Conn
	n6       *tuntest.Channel
	network  *memnet.Network
	sequence uint32
	recovery time.Time
}

// inBubble runs test with a lab whose configuration change may alter.
func inBubble(t *testing.T, change func(*Config), test func(*lab)) {
	t.Helper()
	inBubbleWith(t, change, nil, test)
}

func inBubbleWith(t *testing.T, change func(*Config), changeDeps func(*Deps), test func(*lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(memnet.Config{})
		listen := func(a netip.Addr, port uint16) dgram.Conn {
			c, err := network.ListenUDP(netip.AddrPortFrom(a, port))
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		a, b := tuntest.NewPair(1456)
		cfg := Config{N4Address: upfAddr, N3Address: upfAddr, NetworkInstances: []ident.DNN{"internet"}}
		if change != nil {
			change(&cfg)
		}
		deps := Deps{N4: listen(upfAddr, PFCPPort), N3: listen(upfAddr, gtpu.Port), N6: map[ident.DNN]tun.Device{"internet": a}}
		if changeDeps != nil {
			changeDeps(&deps)
		}
		u, err := New(cfg, deps)
		if err != nil {
			t.Fatal(err)
		}
		l := &lab{UPF: u, t: t, cp: listen(cpAddr, PFCPPort), gnb: listen(gnbAddr, gtpu.Port), n6: b, network: network, recovery: time.Now()}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := u.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
		<-u.Ready()
		test(l)
		cancel()
		wg.Wait()
		network.Close()
	})
}

// at is the lab as seen by a CP function at another address.
func (l *lab) at(a netip.Addr) *lab {
	l.t.Helper()
	c, err := l.network.ListenUDP(netip.AddrPortFrom(a, PFCPPort))
	if err != nil {
		l.t.Fatal(err)
	}
	other := *l
	other.cp = c
	return &other
}

// write sends bytes from the CP function.
func (l *lab) write(b []byte) {
	l.t.Helper()
	if _, err := l.cp.WriteBatch([]dgram.Datagram{{Buf: b, N: len(b), Addr: netip.AddrPortFrom(upfAddr, PFCPPort)}}); err != nil {
		l.t.Fatal(err)
	}
}

// send sends a message from the CP function.
func (l *lab) send(h pfcp.Header, m pfcp.Message) {
	l.t.Helper()
	b, err := pfcp.Encode(h, m)
	if err != nil {
		l.t.Fatal(err)
	}
	l.write(b)
}

// want waits for the next message to the CP function.
func (l *lab) want() (pfcp.Header, pfcp.Message) {
	l.t.Helper()
	ds := []dgram.Datagram{{Buf: make([]byte, 4096)}}
	if _, err := l.cp.ReadBatch(ds); err != nil {
		l.t.Fatal(err)
	}
	h, m, err := pfcp.Decode(ds[0].Buf[:ds[0].N])
	if err != nil {
		l.t.Fatal(err)
	}
	return h, m
}

// wantIdle fails if the UPF sends anything to the CP function for d.
func (l *lab) wantIdle(d time.Duration, why string) {
	l.t.Helper()
	before := l.Status().N4.Sent
	time.Sleep(d) // of the bubble's clock
	synctest.Wait()
	if n := l.Status().N4.Sent - before; n != 0 {
		l.t.Errorf("%s: %d messages, want none for %v", why, n, d)
	}
}

// request sends a request and returns the response, checked to belong to it.
func request[R pfcp.Message](l *lab, seid ident.SEID, m pfcp.Message) R {
	l.t.Helper()
	l.sequence++
	l.send(pfcp.Header{SEID: seid, Sequence: l.sequence}, m)
	h, got := l.want()
	r, ok := got.(R)
	if !ok || h.Sequence != l.sequence {
		l.t.Fatalf("%T %d is answered by %T %d", m, l.sequence, got, h.Sequence)
	}
	if _, isEstablishment := m.(*pfcp.SessionEstablishmentRequest); !isEstablishment && h.HasSEID && seid != 0 && h.SEID != 0 && h.SEID != cpSEID {
		l.t.Errorf("%T carries SEID %#x, want the CP function's", got, h.SEID)
	}
	return r
}

const cpSEID = ident.SEID(0x77)

func (l *lab) associate() {
	l.t.Helper()
	r := request[*pfcp.AssociationSetupResponse](l, 0, &pfcp.AssociationSetupRequest{Node: cpNode, Recovery: l.recovery})
	if r.Cause != pfcp.CauseAccepted {
		l.t.Fatalf("association setup: cause %d", r.Cause)
	}
}

// establishment is what an SMF sends when a PDU session is set up: the UPF chooses
// the uplink TEID, and downlink packets go to the gNB.
func establishment() *pfcp.SessionEstablishmentRequest {
	ue := &ident.UEAddress{V4: ueAddr}
	return &pfcp.SessionEstablishmentRequest{
		Node: cpNode, FSEID: pfcp.FSEID{SEID: cpSEID, Addr: cpAddr},
		Rules: pfcp.Rules{
			PDRs: []pfcp.PDR{
				{ID: 1, Precedence: 100, RemoveOuterHeader: true, FAR: 1, QERs: []uint32{1}, URRs: []uint32{1},
					PDI: pfcp.PDI{Source: pfcp.Access, ChooseTEID: true, UEAddress: ue, UEIsSource: true}},
				{ID: 2, Precedence: 100, FAR: 2, QERs: []uint32{1}, URRs: []uint32{1},
					PDI: pfcp.PDI{Source: pfcp.Core, NetworkInstance: "internet", UEAddress: ue}},
			},
			FARs: []pfcp.FAR{
				{ID: 1, Action: pfcp.ActionForward, Forward: &pfcp.Forwarding{Destination: new(pfcp.Core), NetworkInstance: "internet"}},
				{ID: 2, Action: pfcp.ActionForward, Forward: &pfcp.Forwarding{Destination: new(pfcp.Access), Outer: &ident.FTEID{Addr: gnbAddr, TEID: 0x200}}},
			},
			QERs: []pfcp.QER{{ID: 1, QFI: 9}},
			URRs: []pfcp.URR{{ID: 1, Volume: true}},
		},
	}
}

// session is an established session.
func (l *lab) session(m *pfcp.SessionEstablishmentRequest) (id ident.SEID, up ident.TEID) {
	l.t.Helper()
	r := request[*pfcp.SessionEstablishmentResponse](l, 0, m)
	if r.Cause != pfcp.CauseAccepted || r.FSEID == nil {
		l.t.Fatalf("establishment: cause %d", r.Cause)
	}
	if len(r.Created) > 0 {
		up = r.Created[0].FTEID.TEID
	}
	return r.FSEID.SEID, up
}

// ipPacket is an IPv4 header with n octets behind it.
func ipPacket(src, dst netip.Addr, n int) []byte {
	b := make([]byte, 20+n)
	b[0], b[8], b[9] = 0x45, 64, 253
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	return b
}

// uplink sends a packet of 100 octets from the UE and reports whether N6 got it.
func (l *lab) uplink(teid ident.TEID) bool {
	l.t.Helper()
	p := ipPacket(ueAddr, dnAddr, 80)
	h := gtpu.Header{Type: gtpu.GPDU, TEID: teid, HasQFI: true, QFI: 9, Uplink: true}
	b := make([]byte, h.Size()+len(p))
	copy(b[h.Put(b, len(p)):], p)
	before := l.Status().Datapath.Counters.UplinkPackets
	l.fromGNB(b)
	return l.Status().Datapath.Counters.UplinkPackets == before+1
}

func (l *lab) fromGNB(b []byte) {
	l.t.Helper()
	if _, err := l.gnb.WriteBatch([]dgram.Datagram{{Buf: b, N: len(b), Addr: netip.AddrPortFrom(upfAddr, gtpu.Port)}}); err != nil {
		l.t.Fatal(err)
	}
	synctest.Wait()
}

// downlink sends a packet of 100 octets to the UE and reports whether it was
// forwarded.
func (l *lab) downlink() bool {
	l.t.Helper()
	before := l.Status().Datapath.Counters.DownlinkPackets
	if _, err := l.n6.Write([][]byte{ipPacket(dnAddr, ueAddr, 80)}, 0); err != nil {
		l.t.Fatal(err)
	}
	synctest.Wait()
	return l.Status().Datapath.Counters.DownlinkPackets == before+1
}

// atGNB waits for a GTP-U message.
func (l *lab) atGNB() gtpu.Header {
	l.t.Helper()
	ds := []dgram.Datagram{{Buf: make([]byte, 4096)}}
	if _, err := l.gnb.ReadBatch(ds); err != nil {
		l.t.Fatal(err)
	}
	h, _, err := gtpu.Parse(ds[0].Buf[:ds[0].N])
	if err != nil {
		l.t.Fatal(err)
	}
	return h
}
