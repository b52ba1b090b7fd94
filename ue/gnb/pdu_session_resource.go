package gnb

import (
	"net/netip"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/gtpu"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/ue"
)

type sessionID = ident.PDUSessionID

// sessionSetup is TS 38.413 clause 8.2.1.
func (c *core) sessionSetup(u *ueContext, m *ngap.PDUSessionResourceSetupRequest) {
	done, failed := c.setUpSessions(u, m.Sessions)
	c.send(&ngap.PDUSessionResourceSetupResponse{IDs: u.ids(), Sessions: done, Failed: failed})
}

// setUpSessions sets up each session by itself: one that fails is listed as failed
// and does not hinder the others. NAS of a failed session is not delivered. The same
// identity twice in one request fails every item of it (clause 8.2.1.4).
func (c *core) setUpSessions(u *ueContext, list []ngap.SessionSetup) (done, failed []ngap.SessionTransfer) {
	times := map[sessionID]int{}
	for _, s := range list {
		times[s.ID]++
	}
	for _, s := range list {
		cause := ngap.RadioMultipleSessionIDs
		var transfer []byte
		if times[s.ID] == 1 && u.bearers[s.ID] == nil {
			transfer, cause = c.setUpSession(u, s)
		}
		if cause != 0 {
			failed = append(failed, unsuccessful(s.ID, cause))
			continue
		}
		done = append(done, ngap.SessionTransfer{ID: s.ID, Transfer: transfer})
	}
	return done, failed
}

func (c *core) setUpSession(u *ueContext, s ngap.SessionSetup) ([]byte, ngap.Cause) {
	if u.radio == nil {
		return nil, ngap.RadioConnectionWithUELost
	}
	if s.ID == 0 || s.ID > 15 {
		return nil, ngap.RadioUnknownPDUSessionID
	}
	t, err := ngap.DecodeSetupRequestTransfer(s.Transfer)
	if err != nil {
		c.counters.Malformed++
		return nil, ngap.ProtocolTransferSyntax
	}
	if len(t.Flows) == 0 || t.Uplink.TEID == 0 {
		return nil, ngap.ProtocolSemantic
	}
	if t.Uplink.Addr.Unmap().Is4() != c.cfg.N3.Addr().Unmap().Is4() {
		return nil, ngap.TransportResourceUnavailable
	}
	b := &bearer{
		id: s.ID, uplink: t.Uplink, upf: netip.AddrPortFrom(t.Uplink.Addr.Unmap(), gtpu.Port),
		def: t.Flows[0].QFI, radio: u.radio,
	}
	for _, f := range t.Flows {
		b.flows |= 1 << (f.QFI & 63)
		b.qfis = append(b.qfis, f.QFI)
	}
	if err := c.teids.add(b); err != nil {
		return nil, ngap.RadioResourcesNotAvailable
	}
	out, err := ngap.EncodeTransfer(&ngap.SetupResponseTransfer{
		Downlink: ident.FTEID{Addr: c.cfg.N3.Addr().Unmap(), TEID: b.teid}, Flows: b.qfis,
	})
	if err != nil {
		c.teids.remove(b)
		c.log.Error("transfer not encoded", "pdu_session", s.ID, "error", err)
		return nil, ngap.ProtocolSemantic
	}
	u.bearers[s.ID] = b
	c.bearers++
	u.radio.bearers[s.ID].Store(b)
	ok := c.deliver(u, ue.BearerUp{Session: s.ID, QFIs: b.qfis})
	if ok && s.NAS != nil {
		ok = c.deliver(u, ue.DownlinkNAS{NAS: s.NAS})
	}
	if !ok {
		c.removeBearer(u, b)
		return nil, ngap.RadioConnectionWithUELost
	}
	return out, 0
}

// sessionModify is clause 8.2.3. The simulated air enforces no session AMBR, so
// what remains is delivering the NAS message.
func (c *core) sessionModify(u *ueContext, m *ngap.PDUSessionResourceModifyRequest) {
	r := &ngap.PDUSessionResourceModifyResponse{IDs: u.ids()}
	for _, s := range m.Sessions {
		cause := ngap.Cause(0)
		var out []byte
		switch _, err := ngap.DecodeModifyRequestTransfer(s.Transfer); {
		case u.bearers[s.ID] == nil:
			cause = ngap.RadioUnknownPDUSessionID
		case err != nil:
			c.counters.Malformed++
			cause = ngap.ProtocolTransferSyntax
		case s.NAS != nil && !c.deliver(u, ue.DownlinkNAS{NAS: s.NAS}):
			cause = ngap.RadioConnectionWithUELost
		default:
			if out, err = ngap.EncodeTransfer(&ngap.ModifyResponseTransfer{}); err != nil {
				c.log.Error("transfer not encoded", "pdu_session", s.ID, "error", err)
				cause = ngap.ProtocolSemantic
			}
		}
		if cause != 0 {
			r.Failed = append(r.Failed, unsuccessful(s.ID, cause))
			continue
		}
		r.Sessions = append(r.Sessions, ngap.SessionTransfer{ID: s.ID, Transfer: out})
	}
	c.send(r)
}

// sessionRelease is clause 8.2.2. The NAS message goes first: with the bearer the
// UE would not know why. A session that does not exist counts as released.
func (c *core) sessionRelease(u *ueContext, m *ngap.PDUSessionResourceReleaseCommand) {
	if m.NAS != nil && !c.deliver(u, ue.DownlinkNAS{NAS: m.NAS}) {
		c.nonDelivery(u, m.NAS)
	}
	r := &ngap.PDUSessionResourceReleaseResponse{IDs: u.ids()}
	for _, s := range m.Sessions {
		if b := u.bearers[s.ID]; b != nil {
			c.removeBearer(u, b)
			c.deliver(u, ue.BearerDown{Session: s.ID})
		}
		out, err := ngap.EncodeTransfer(&ngap.ReleaseResponseTransfer{})
		if err != nil {
			c.log.Error("transfer not encoded", "pdu_session", s.ID, "error", err)
			continue
		}
		r.Sessions = append(r.Sessions, ngap.SessionTransfer{ID: s.ID, Transfer: out})
	}
	c.send(r)
}

func failAll(list []ngap.SessionSetup, cause ngap.Cause) (out []ngap.SessionTransfer) {
	for _, s := range list {
		out = append(out, unsuccessful(s.ID, cause))
	}
	return out
}

func unsuccessful(id sessionID, cause ngap.Cause) ngap.SessionTransfer {
	b, err := ngap.EncodeTransfer(&ngap.UnsuccessfulTransfer{Cause: cause})
	if err != nil {
		// Every cause this package sends has a place in the enumeration, which a
		// test proves; an empty transfer is still the right list.
		return ngap.SessionTransfer{ID: id}
	}
	return ngap.SessionTransfer{ID: id, Transfer: b}
}

// tunnelRefused: the UPF knows no such tunnel, so the session's user plane has
// gone. The AMF is asked to release the UE; its next service request sets the user
// plane up afresh (TS 23.527 clause 5.3.3; NGAP has no release of one session by
// the gNB other than PDU SESSION RESOURCE NOTIFY, which the testbed does not use).
func (c *core) tunnelRefused(at ident.FTEID) {
	for _, u := range c.ues {
		for _, b := range u.bearers {
			if b.uplink != at || b.refused.Swap(true) {
				continue
			}
			if u.state != ueReleasing {
				c.requestRelease(u, ngap.TransportResourceUnavailable)
			}
			return
		}
	}
}
