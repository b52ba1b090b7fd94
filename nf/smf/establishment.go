package smf

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/sbi"
)

// PDU session establishment: TS 23.502 clause 4.3.2.2, TS 24.501 clause 6.4.1.
//
//	start       -> fetch the subscription (step 4)
//	subscribed  -> select a UPF, reserve an address, N4 establishment (steps 8, 10)
//	accepted    -> accept to the UE and resource setup to the gNB (step 11)
//	tunnelUp    -> the gNB's endpoint goes to the UPF (steps 15, 16); see up_activation.go

// Values of the one QoS flow that a session has.
const (
	defaultQFI ident.QFI = 1
	default5QI uint8     = 9
	defaultARP uint8     = 8
	defaultMTU uint16    = 1400
	// unlimitedOnWire in bit/s is the largest rate that NGAP can say.
	unlimitedOnWire uint64 = 4_000_000_000_000
)

func (s *session) start(event) []action { return []action{fetch{}} }

func (s *session) subscribed(ev event) []action {
	if ev.err != nil {
		return s.refuse(ev.err, smCause(ev.err))
	}
	s.data = ev.data
	if s.data.FiveQI == 0 {
		s.data.FiveQI = default5QI
	}
	if s.data.ARPPriority == 0 {
		s.data.ARPPriority = defaultARP
	}
	if t := s.data.Types; len(t) > 0 && !slices.Contains(t, ident.IPv4) && !slices.Contains(t, ident.IPv4v6) {
		return s.refuse(errors.New("smf: only IPv6 is subscribed"), nas.SMIPv6OnlyAllowed)
	}
	return s.anchor(nil)
}

// criteria is what the session needs of a UPF; also are UPFs not to be taken.
func (s *session) criteria(also ...*upf) criteria {
	return criteria{
		supi: s.supi, dnn: s.dnn, snssai: s.snssai, group: s.data.UEGroup,
		tac: s.create.Location.TAI.TAC, static: s.data.Static, exclude: append(also, s.tried...),
	}
}

// anchor selects a UPF and an address and sets the session up there. because is
// what went wrong with the UPF before.
func (s *session) anchor(because error) []action {
	g, err := s.smf.upfs.take(s, s.criteria())
	if err != nil {
		if because != nil {
			err = because
		}
		return s.refuse(err, smCause(err))
	}
	return s.anchorAt(g)
}

func (s *session) anchorAt(g grant) []action {
	s.grant, s.upfUp = g, true
	s.have, s.uplink = plane{}, ident.FTEID{}
	if g.uplink != nil {
		s.uplink = *g.uplink
	}
	s.want = plane{exists: true, ambr: s.data.AMBR}
	return s.sync()
}

// upfFailed tries the next UPF.
func (s *session) upfFailed(err error) []action {
	s.log.Warn("pfcp session establishment failed", "upf", s.grant.upf.cfg.Name, "error", err)
	s.tried = append(s.tried, s.grant.upf)
	s.smf.upfs.giveBack(s, s.grant)
	s.grant, s.want, s.have = grant{}, plane{}, plane{}
	return append([]action{stopTimer{tN2}}, s.anchor(err)...)
}

// upfAway is the loss of the UPF under a session that is being made: another UPF
// is taken if there is one, and else this one has as long to come back as a
// request has to be answered.
func (s *session) upfAway() []action {
	s.busy = false
	s.token++
	out := []action{cancelN4{}}
	if g, err := s.smf.upfs.take(s, s.criteria(s.grant.upf)); err == nil {
		s.smf.upfs.giveBack(s, s.grant)
		return append(out, s.anchorAt(g)...)
	}
	t := s.smf.cfg.Timers
	return append(out, startTimer{tN2, t.T1 * time.Duration(t.N1)})
}

// upfGone: it did not come back.
func (s *session) upfGone(event) []action {
	s.busy = false
	s.token++
	return append([]action{cancelN4{}}, s.upfFailed(errNoAssociation)...)
}

// accepted sends the accept and the resource setup request.
func (s *session) accepted() []action {
	s.state, s.up, s.registered = stActive, upActivating, true
	accept := &nas.PDUSessionEstablishmentAccept{
		SMHeader:    s.header(s.pti),
		SessionType: ident.IPv4,
		SSCMode:     1,
		Rules:       []nas.QoSRule{{ID: 1, Default: true, Precedence: 255, QFI: defaultQFI}},
		AMBR:        onWire(s.want.ambr),
		Address:     s.grant.address,
		SNSSAI:      &s.snssai,
		DNN:         s.dnn,
		Flows:       []nas.QoSFlow{{QFI: defaultQFI, FiveQI: s.data.FiveQI}},
		PCO:         s.options(),
	}
	if s.v4only {
		accept.Cause = nas.SMIPv4OnlyAllowed
	}
	s.log.Info("pdu session accepted", "upf", s.grant.upf.cfg.Name, "address", s.grant.address.V4, "teid", s.uplink.TEID)
	s.counters.established.Add(1)
	return []action{
		register{},
		transfer{tag: tagAccept, m: sbi.N1N2Message{
			Session: s.id, SNSSAI: s.snssai, N1: s.encodeN1(accept), N2: s.setupRequest(), N2Type: sbi.N2SetupRequest,
		}},
		startTimer{tN2, s.smf.cfg.Timers.N2},
	}
}

// setupRequest is the PDU Session Resource Setup Request Transfer.
func (s *session) setupRequest() []byte {
	ambr := onWire(s.want.ambr)
	return s.encodeN2(&ngap.SetupRequestTransfer{
		AMBR: &ambr, Uplink: s.uplink, Type: ident.IPv4,
		Flows: []ngap.QoSFlow{{QFI: defaultQFI, FiveQI: s.data.FiveQI, ARPPriority: s.data.ARPPriority}},
	})
}

// options answers what the UE asked for in its protocol configuration options.
func (s *session) options() *nas.PCO {
	ask := s.wish.PCO
	if ask == nil {
		return nil
	}
	var d DNN
	if i := slices.IndexFunc(s.smf.cfg.DNNs, func(d DNN) bool { return d.Name == s.dnn }); i >= 0 {
		d = s.smf.cfg.DNNs[i]
	}
	var p nas.PCO
	for _, a := range d.DNS {
		if a.Is4() && ask.RequestDNSv4 || a.Is6() && ask.RequestDNSv6 {
			p.DNS = append(p.DNS, a)
		}
	}
	if ask.RequestMTU {
		p.MTU = d.MTU
		if p.MTU == 0 {
			p.MTU = defaultMTU
		}
	}
	if len(p.DNS) == 0 && p.MTU == 0 {
		return nil
	}
	return &p
}

// refuse ends an establishment with a reject (TS 24.501 clause 6.4.1.4).
func (s *session) refuse(err error, cause nas.SMCause) []action {
	s.log.Info("pdu session refused", "cause", cause, "error", err)
	s.counters.refused.Add(1)
	n1 := s.encodeN1(&nas.PDUSessionEstablishmentReject{SMHeader: s.header(s.pti), Cause: cause})
	out := []action{transfer{tag: tagReject, m: sbi.N1N2Message{Session: s.id, SNSSAI: s.snssai, N1: n1}}}
	return append(out, s.finish(true)...)
}

// abandoned is the operator's release of a session that is not there yet.
func (s *session) abandoned(ev event) []action {
	return append(s.refuse(errors.New("smf: released by the operator"), nas.SMRegularDeactivation), reply{call: ev.call})
}

// acceptUndelivered: the AMF could not deliver the accept, so the UE has no session.
func (s *session) acceptUndelivered(ev event) []action {
	if ev.tag != tagAccept || s.wasUp {
		return nil
	}
	return s.finish(true)
}

// onWire gives rates for messages that must name one.
func onWire(a ident.AMBR) ident.AMBR {
	if a.Uplink == 0 {
		a.Uplink = unlimitedOnWire
	}
	if a.Downlink == 0 {
		a.Downlink = unlimitedOnWire
	}
	return a
}

// checkRequest decides what can be decided without asking anyone: nil, or the
// cause to reject with (TS 24.501 clauses 6.4.1.4 and 7.3).
func (a *SMF) checkRequest(req sbi.CreateSMContext, m *nas.PDUSessionEstablishmentRequest) (nas.SMCause, string) {
	i := slices.IndexFunc(a.cfg.DNNs, func(d DNN) bool { return d.Name == req.DNN })
	switch {
	case m.PDUSessionID != req.Session:
		return nas.SMInvalidPDUSessionIdentity, "PDU session identity differs from the AMF's"
	case m.SSCMode > 1:
		return nas.SMNotSupportedSSCMode, "only SSC mode 1 is supported"
	case m.SessionType == ident.IPv6:
		return nas.SMIPv4OnlyAllowed, "only IPv4 is offered"
	case m.SessionType > ident.IPv4v6:
		return nas.SMUnknownPDUSessionType, "unknown PDU session type"
	case i < 0:
		return nas.SMMissingOrUnknownDNN, "unknown DNN"
	case len(a.cfg.DNNs[i].SNSSAIs) > 0 && !slices.Contains(a.cfg.DNNs[i].SNSSAIs, req.SNSSAI):
		return nas.SMMissingDNNInSlice, "DNN not in this slice"
	}
	return 0, ""
}

// Rule IDs of a session.
const (
	pdrUplink, pdrDownlink = 1, 2
	farUplink, farDownlink = 1, 2
	qerSession             = 1
	urrSession             = 1
)

// rules is everything the UPF needs for s.sent.
func (s *session) rules() pfcp.Rules {
	qfi, ue := defaultQFI, s.grant.address // copies: the message is encoded in another goroutine
	uplink := pfcp.PDI{Source: pfcp.Access, UEAddress: &ue, UEIsSource: true, QFI: &qfi}
	if s.uplink.Addr.IsValid() {
		f := s.uplink
		uplink.FTEID = &f
	} else {
		uplink.ChooseTEID = true
	}
	u := s.smf.cfg.Usage
	return pfcp.Rules{
		PDRs: []pfcp.PDR{
			{ID: pdrUplink, Precedence: 255, PDI: uplink, RemoveOuterHeader: true, FAR: farUplink, QERs: []uint32{qerSession}, URRs: []uint32{urrSession}},
			{ID: pdrDownlink, Precedence: 255, FAR: farDownlink, QERs: []uint32{qerSession}, URRs: []uint32{urrSession},
				PDI: pfcp.PDI{Source: pfcp.Core, NetworkInstance: s.grant.instance, UEAddress: &ue}},
		},
		FARs: []pfcp.FAR{
			{ID: farUplink, Action: pfcp.ActionForward, Forward: &pfcp.Forwarding{Destination: new(pfcp.Core), NetworkInstance: s.grant.instance}},
			downlinkFAR(s.sent.downlink, netip.Addr{}),
		},
		QERs: []pfcp.QER{{ID: qerSession, QFI: defaultQFI, MBR: new(s.sent.ambr)}},
		URRs: []pfcp.URR{{ID: urrSession, Volume: true, Period: u.Period, VolumeThreshold: u.Threshold}},
	}
}

// downlinkFAR forwards to the gNB, or drops while there is none. old is the
// endpoint used so far, which gets an end marker.
func downlinkFAR(to ident.FTEID, old netip.Addr) pfcp.FAR {
	if !to.Addr.IsValid() {
		return pfcp.FAR{ID: farDownlink, Action: pfcp.ActionDrop}
	}
	return pfcp.FAR{ID: farDownlink, Action: pfcp.ActionForward, Forward: &pfcp.Forwarding{
		Destination: new(pfcp.Access), Outer: &to, SendEndMarker: old.IsValid(),
	}}
}
