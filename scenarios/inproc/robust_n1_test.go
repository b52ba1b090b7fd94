package inproc

import (
	"encoding/binary"
	"testing"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/amf"
)

// n1Peer is a UE of the tests' own behind an n2Peer.
type n1Peer struct {
	*n2Peer
	ids ngap.UEIDs // once the AMF has answered
}

// uplink sends one more NAS message on the connection.
func (p *n1Peer) uplink(pdu []byte) {
	p.t.Helper()
	p.send(&ngap.UplinkNASTransport{IDs: p.ids, NAS: pdu, Location: here})
}

// wantNAS receives a plain NAS message of type M.
func wantNAS[M nas.Message](p *n1Peer) M {
	p.t.Helper()
	d := want[*ngap.DownlinkNASTransport](p.n2Peer)
	p.ids = d.IDs
	m, err := nas.Decode(d.NAS)
	if err != nil {
		p.t.Fatalf("NAS message %x: %v", d.NAS, err)
	}
	r, ok := m.(M)
	if !ok {
		p.t.Fatalf("got %T %+v", m, m)
	}
	return r
}

// wantRelease takes part in the release of the connection.
func (p *n1Peer) wantRelease() {
	p.t.Helper()
	c := want[*ngap.UEContextReleaseCommand](p.n2Peer)
	p.send(&ngap.UEContextReleaseComplete{IDs: ngap.UEIDs{AMF: c.IDs.AMF, RAN: 7}})
}

// begin sends an initial message.
func (p *n1Peer) begin(pdu []byte) {
	p.t.Helper()
	p.send(initial(7, pdu))
}

// challenged begins a registration and returns the challenge.
func (p *n1Peer) challenged(id nas.MobileIdentity) *nas.AuthenticationRequest {
	p.t.Helper()
	p.begin(registration(p.t, id))
	return wantNAS[*nas.AuthenticationRequest](p)
}

// TestN1AnswersAsSpecified sends the AMF what no UE should, and checks the answer
// (TS 24.501 clauses 4.4.4 and 7), the counter, and that the registered UE, in
// whose name some of it comes, notices nothing.
func TestN1AnswersAsSpecified(t *testing.T) {
	w := newWorld(t)
	witness := suci(t, string(w.imsi)[5:])
	absent := suci(t, "0000000002")
	guti := func() *ident.GUTI {
		for _, u := range w.parts.amf.Status().UEs {
			if u.SUPI == w.imsi.SUPI() {
				return &u.GUTI
			}
		}
		return nil
	}
	undecodable := func(c amf.Counters) uint64 { return c.NASUndecodable }
	for _, tt := range []struct {
		name    string
		do      func(p *n1Peer)
		counter func(amf.Counters) uint64
	}{
		{"one octet: ignored", func(p *n1Peer) {
			p.begin([]byte{0x7e})
			p.wantRelease()
		}, undecodable},
		{"another protocol", func(p *n1Peer) {
			p.begin([]byte{0x07, 0x41, 0x71, 0x08})
			p.wantRelease()
		}, undecodable},
		{"a message type that does not exist", func(p *n1Peer) {
			p.begin([]byte{0x7e, 0x00, 0x3f, 0x01})
			p.wantRelease()
		}, undecodable},
		{"REGISTRATION REQUEST cut at every octet of its mandatory part", func(p *n1Peer) {
			b := registration(p.t, absent)
			const header, identity = 3, 4 // where the first IE and the mobile identity begin
			mandatory := identity + 2 + int(binary.BigEndian.Uint16(b[identity:]))
			for n := 1; n < mandatory; n++ { // NGAP does not carry an empty one
				p.begin(b[:n])
				if n < header { // too short: ignored (clause 7.2.1)
					p.wantRelease()
					continue
				}
				if r := wantNAS[*nas.RegistrationReject](p); r.Cause != nas.MMInvalidMandatoryIE {
					p.t.Errorf("%d octets: REGISTRATION REJECT cause #%d, want #96", n, r.Cause)
				}
				p.wantRelease()
			}
		}, undecodable},
		{"REGISTRATION REQUEST of a user that does not exist", func(p *n1Peer) {
			p.begin(registration(p.t, suci(p.t, "9999999999")))
			wantNAS[*nas.RegistrationReject](p)
			p.wantRelease()
		}, func(c amf.Counters) uint64 { return c.RegistrationRejects }},
		{"SERVICE REQUEST of a stranger", func(p *n1Peer) {
			p.begin(encodeNAS(p.t, &nas.ServiceRequest{NGKSI: 1, STMSI: ident.STMSI{Set: 1, Pointer: 1, TMSI: 0xdeadbeef}}))
			if r := wantNAS[*nas.ServiceReject](p); r.Cause != 9 {
				p.t.Errorf("SERVICE REJECT cause #%d, want #9", r.Cause)
			}
			p.wantRelease()
		}, func(c amf.Counters) uint64 { return c.ServiceRejects }},
		{"SECURITY MODE COMPLETE first", func(p *n1Peer) {
			p.begin(encodeNAS(p.t, &nas.SecurityModeComplete{}))
			p.wantRelease()
		}, func(c amf.Counters) uint64 { return c.NASNotCompatible }},
		{"SECURITY MODE COMPLETE in the middle of the challenge", func(p *n1Peer) {
			p.challenged(absent)
			p.uplink(encodeNAS(p.t, &nas.SecurityModeComplete{}))
			p.uplink(encodeNAS(p.t, &nas.RegistrationComplete{}))
			p.wantNothing()
		}, func(c amf.Counters) uint64 { return c.NASUnprotected }},
		{"noise in the middle of the challenge", func(p *n1Peer) {
			p.challenged(absent)
			p.uplink([]byte{0x7e})
			p.uplink([]byte{0x7e, 0x02, 1, 2, 3, 4, 0, 9, 9, 9})
			p.wantNothing()
			// The challenge is still open.
			p.uplink(encodeNAS(p.t, &nas.AuthenticationResponse{RESStar: make([]byte, 16)}))
			wantNAS[*nas.AuthenticationReject](p)
			p.wantRelease()
		}, undecodable},
		{"AUTHENTICATION RESPONSE without RES*: no proof", func(p *n1Peer) {
			p.challenged(absent)
			p.uplink([]byte{0x7e, 0x00, 0x57})
			wantNAS[*nas.AuthenticationReject](p)
			p.wantRelease()
		}, func(c amf.Counters) uint64 { return c.AuthenticationRejects }},
		{"REGISTRATION REQUEST twice", func(p *n1Peer) {
			// Clause 5.5.1.2.8 e: the same again is not treated any further; another one
			// begins anew.
			p.challenged(absent)
			p.uplink(registration(p.t, absent))
			p.wantNothing()
			p.uplink(registration(p.t, suci(p.t, "9999999999")))
			wantNAS[*nas.RegistrationReject](p)
			p.wantRelease()
		}, func(c amf.Counters) uint64 { return c.NASReceived }},
		{"the witness's identity with a wrong RES*", func(p *n1Peer) {
			p.challenged(witness)
			p.uplink(encodeNAS(p.t, &nas.AuthenticationResponse{RESStar: make([]byte, 16)}))
			wantNAS[*nas.AuthenticationReject](p)
			p.wantRelease()
		}, func(c amf.Counters) uint64 { return c.AuthenticationRejects }},
		{"the witness's 5G-GUTI without its keys", func(p *n1Peer) {
			p.begin(registration(p.t, nas.MobileIdentity{GUTI: guti()}))
			// The AMF knows whom it stands for, or asks; either way proof is wanted.
			d := want[*ngap.DownlinkNASTransport](p.n2Peer)
			switch m, err := nas.Decode(d.NAS); m.(type) {
			case *nas.AuthenticationRequest, *nas.IdentityRequest:
			default:
				p.t.Errorf("got %T, %v, want a challenge or the question who it is", m, err)
			}
		}, func(c amf.Counters) uint64 { return c.NASDiscarded + c.NASMACFailures }},
		{"DEREGISTRATION REQUEST in the witness's name, unprotected", func(p *n1Peer) {
			p.begin(encodeNAS(p.t, &nas.DeregistrationRequest{SwitchOff: true, NGKSI: 0, Identity: nas.MobileIdentity{GUTI: guti()}}))
			p.wantRelease()
		}, func(c amf.Counters) uint64 { return c.NASDiscarded + c.NASMACFailures }},
		{"DEREGISTRATION REQUEST in the witness's name, wrong MAC", func(p *n1Peer) {
			plain := encodeNAS(p.t, &nas.DeregistrationRequest{SwitchOff: true, NGKSI: 0, Identity: nas.MobileIdentity{GUTI: guti()}})
			p.begin(append([]byte{0x7e, 0x01, 0xde, 0xad, 0xbe, 0xef, 0x20}, plain...))
			p.wantRelease()
		}, func(c amf.Counters) uint64 { return c.NASMACFailures }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			count := func() uint64 { return tt.counter(w.parts.amf.Status().Counters) }
			before := count()
			t.Run("peer", func(t *testing.T) {
				p := &n1Peer{n2Peer: w.dialAMF(t)}
				p.setUp()
				tt.do(p)
			})
			counted(t, tt.name, before, count, 0)
			w.alive(t)
			w.strangersGone(t)
		})
	}
}
