package datapath

import (
	"net/netip"
	"testing"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/tun/tuntest"
	"github.com/simreach/simreach/internal/wire/gtpu"
)

// FuzzPackets feeds both directions: nothing panics, and each packet is in exactly
// one counter.
func FuzzPackets(f *testing.F) {
	f.Add(gpdu(upTEID, 9, ipPacket(ueAddr, dnAddr, 8)))
	f.Add(gtpu.EncodeEndMarker(upTEID))
	f.Add(ipPacket(dnAddr, ueAddr, 8))
	f.Add(ipPacket(netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), 8))
	dev, _ := tuntest.NewPair(9216)
	p := benchPlain(f, dev)
	if _, err := p.Apply(basic()); err != nil {
		f.Fatal(err)
	}
	up, down := p.newUplink(), p.newDownlink(p.byIdx[0])
	n := uint64(0)
	f.Fuzz(func(t *testing.T, b []byte) {
		up.batch([]dgram.Datagram{{Buf: b, N: len(b), Addr: netip.AddrPortFrom(gnbAddr, gtpu.Port)}}, p.now())
		down.sizes[0] = copy(down.bufs[0][headroom:], b)
		down.batch(1, p.now())
		n += 2
		c := p.Status().Counters
		sum := c.UplinkPackets + c.Malformed + c.UnknownTEID + c.Spoofed + c.UnknownExtension + c.UnknownMessage +
			c.EchoRequests + c.EchoResponses + c.ErrorIndicationsReceived + c.ErrorIndicationsForeign + c.EndMarkersReceived + c.NotificationsReceived +
			c.DownlinkPackets + c.NotIP + c.UnknownUE + c.NoRule + c.ActionDrop + c.Buffered + c.GateClosed + c.RateExceeded
		if sum != n {
			t.Errorf("%d packets counted, want %d: %+v", sum, n, c)
		}
	})
}
