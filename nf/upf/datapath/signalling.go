package datapath

import (
	"net/netip"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/gtpu"
)

// signalling handles the GTP-U messages that are not G-PDUs.
func (p *Plain) signalling(h gtpu.Header, payload []byte, from netip.AddrPort) outcome {
	switch h.Type {
	case gtpu.EchoRequest:
		// Back to the port it came from (TS 29.281 clause 4.4.2.2).
		if b, err := gtpu.EncodeEchoResponse(h.Sequence); err == nil {
			p.reply(b, from)
		}
		return echoRequest
	case gtpu.EchoResponse:
		return echoResponse
	case gtpu.ErrorIndication:
		peer, err := gtpu.DecodeErrorIndication(payload)
		if err != nil {
			if p.first(warnMalformed) {
				p.log.Warn("malformed GTP-U", "peer", from, "error", err)
			}
			return malformed
		}
		// The peer that we send to says so itself; anybody else could end the tunnel.
		if peer.Addr.Unmap() != from.Addr().Unmap() {
			return errorIndicationForeign
		}
		p.post(Event{Kind: ErrorIndication, Peer: ident.FTEID{Addr: peer.Addr.Unmap(), TEID: peer.TEID}})
		return errorIndicationReceived
	case gtpu.EndMarker:
		return endMarkerReceived
	case gtpu.SupportedExtensionHeaders:
		return notificationReceived
	}
	return unknownMessage
}

// indicateError answers a G-PDU for a tunnel that does not exist, unless its TEID
// is all zeros (TS 29.281 clause 7.3.1). It goes to the registered port, not to
// the one the G-PDU came from (clause 4.4.2.4).
func (p *Plain) indicateError(teid ident.TEID, from netip.AddrPort, now int64) {
	if teid == 0 {
		return
	}
	if !p.errorIndications.allow(1, now) {
		p.count.suppressed.Add(1)
		return
	}
	b, err := gtpu.EncodeErrorIndication(ident.FTEID{Addr: p.cfg.N3, TEID: teid})
	if err == nil && p.reply(b, netip.AddrPortFrom(from.Addr(), p.cfg.PeerPort)) {
		p.count.errorIndicationsSent.Add(1)
	}
}

// notifyExtensions tells a peer which extension headers we understand (TS 29.281
// clause 7.2.3).
func (p *Plain) notifyExtensions(from netip.AddrPort, now int64) {
	if !p.notifications.allow(1, now) {
		p.count.suppressed.Add(1)
		return
	}
	b, err := gtpu.EncodeSupportedExtensionHeaders()
	if err == nil && p.reply(b, netip.AddrPortFrom(from.Addr(), p.cfg.PeerPort)) {
		p.count.notificationsSent.Add(1)
	}
}

func (p *Plain) reply(b []byte, to netip.AddrPort) bool {
	_, err := p.n3.WriteBatch([]dgram.Datagram{{Buf: b, N: len(b), Addr: to}})
	if err != nil && !closedErr(err) {
		p.count.n3Failed.Add(1)
		if p.first(warnN3Send) {
			p.log.Warn("send N3", "peer", to, "error", err)
		}
	}
	return err == nil
}
