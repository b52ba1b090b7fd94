package amf

import (
	"context"
	"log/slog"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/sbi"
)

// transfer sends what an SMF wants a UE and its gNB to have. It returns a Problem
// if that is not possible.
func (u *ue) transfer(s *smContext, m sbi.N1N2Message) error {
	if u.conn == nil || !u.secure {
		return problem(409, causeUEIdle, "UE has no N2 connection")
	}
	if len(m.N2) == 0 {
		u.sendN1(s.id, m.N1)
		return nil
	}
	var n1 []byte
	if len(m.N1) > 0 {
		n1 = u.pdu(&nas.DLNASTransport{PayloadType: nas.PayloadN1SM, Payload: m.N1, PDUSessionID: s.id})
		u.a.stats.nasSent.Add(1)
	}
	ids := u.conn.ids()
	switch m.N2Type {
	case sbi.N2SetupRequest:
		s.up = sbi.UPActivating
		u.setupResources([]ngap.SessionSetup{{ID: s.id, NAS: n1, SNSSAI: s.snssai, Transfer: m.N2}})
	case sbi.N2ModifyRequest:
		u.sendResource(&ngap.PDUSessionResourceModifyRequest{
			IDs: ids, Sessions: []ngap.SessionSetup{{ID: s.id, NAS: n1, SNSSAI: s.snssai, Transfer: m.N2}},
		})
	case sbi.N2ReleaseCommand:
		if s.up != sbi.UPActivated && s.up != sbi.UPActivating {
			// The gNB has no resources to release: only the UE is told.
			u.downlinkPDU(n1)
			return nil
		}
		u.sendResource(&ngap.PDUSessionResourceReleaseCommand{
			IDs: ids, NAS: n1, Sessions: []ngap.SessionTransfer{{ID: s.id, Transfer: m.N2}},
		})
	default:
		return problem(400, sbi.CauseMandatoryIEIncorrect, "N2 information of type "+string(m.N2Type))
	}
	return nil
}

// setupResources is PDU Session Resource Setup (TS 38.413 clause 8.2.1), or Initial
// Context Setup if the gNB has no UE context yet.
func (u *ue) setupResources(setups []ngap.SessionSetup) {
	if len(setups) == 0 || u.conn == nil {
		return
	}
	if u.conn.context == contextNone {
		u.setupContext(nil, setups)
		return
	}
	u.sendResource(&ngap.PDUSessionResourceSetupRequest{IDs: u.conn.ids(), AMBR: u.wireAMBR(), Sessions: setups})
}

// sendResource sends a PDU session procedure once the gNB has the UE context.
func (u *ue) sendResource(m ngap.Message) {
	if u.conn.context == contextPending {
		u.conn.waiting = append(u.conn.waiting, m)
		return
	}
	u.send(u.conn, m)
}

// wireAMBR returns the UE-AMBR; unlimited becomes the largest rate NGAP can say
// (4 Tbit/s, TS 38.413 clause 9.3.1.4).
func (u *ue) wireAMBR() *ident.AMBR {
	const most = 4_000_000_000_000
	a := u.ambr
	if a.Uplink == 0 {
		a.Uplink = most
	}
	if a.Downlink == 0 {
		a.Downlink = most
	}
	return &a
}

// resourcesSetUp takes the results of a setup to the SMF.
func (u *ue) resourcesSetUp(done, failed []ngap.SessionTransfer) {
	for _, t := range done {
		if s := u.sessions[t.ID]; s != nil {
			s.up = sbi.UPActivated
			u.forwardN2(s, t.Transfer, sbi.N2SetupResponse)
		}
	}
	for _, t := range failed {
		if s := u.sessions[t.ID]; s != nil {
			s.up = sbi.UPDeactivated
			u.log(slog.LevelWarn, "gNB could not set up PDU session", "pdu_session", s.id)
			u.forwardN2(s, t.Transfer, sbi.N2SetupFail)
		}
	}
}

// resourcesModified takes the results of a modification to the SMF.
func (u *ue) resourcesModified(done, failed []ngap.SessionTransfer) {
	for _, t := range done {
		if s := u.sessions[t.ID]; s != nil {
			u.forwardN2(s, t.Transfer, sbi.N2ModifyResponse)
		}
	}
	for _, t := range failed {
		if s := u.sessions[t.ID]; s != nil {
			u.forwardN2(s, t.Transfer, sbi.N2ModifyFail)
		}
	}
}

// resourcesReleased takes the results of a release to the SMF.
func (u *ue) resourcesReleased(done []ngap.SessionTransfer) {
	for _, t := range done {
		if s := u.sessions[t.ID]; s != nil {
			s.up = sbi.UPDeactivated
			u.forwardN2(s, t.Transfer, sbi.N2ReleaseResponse)
		}
	}
}

// forwardN2 delivers a transfer of the gNB to the SMF.
func (u *ue) forwardN2(s *smContext, transfer []byte, typ sbi.N2Type) {
	loc := u.location()
	s.update(sbi.UpdateSMContext{N2: transfer, N2Type: typ, Location: &loc}, func(u *ue, upd sbi.UpdatedSMContext, err error) {
		if err != nil {
			u.updateFailed(s, err)
			return
		}
		u.updated(s, upd)
	})
}

// deactivate tells the SMF that a session's user plane is gone (TS 23.502 clause
// 4.2.6 step 5).
func (u *ue) deactivate(s *smContext) {
	if s.up != sbi.UPActivated && s.up != sbi.UPActivating {
		return
	}
	s.up = sbi.UPDeactivated
	s.update(sbi.UpdateSMContext{UPState: sbi.UPDeactivated}, func(u *ue, _ sbi.UpdatedSMContext, err error) {
		if err != nil {
			u.updateFailed(s, err)
		}
	})
}

// reactivate asks the SMF to bring the user planes in want up again (TS 23.502
// clause 4.2.3.2 step 4) and calls then with the resources to set up, and the
// sessions for which that failed. It calls then at once if there is nothing to ask.
func (u *ue) reactivate(want *nas.SessionSet, then func(*ue, []ngap.SessionSetup, nas.SessionSet)) {
	var setups []ngap.SessionSetup
	var failed nas.SessionSet
	pending := 0
	epoch := u.epoch
	if want != nil {
		for id := ident.PDUSessionID(1); id <= 15; id++ {
			if *want&(1<<id) == 0 {
				continue
			}
			s := u.sessions[id]
			if s == nil {
				failed |= 1 << id
				continue
			}
			pending++
			s.up = sbi.UPActivating
			loc := u.location()
			result := func(u *ue, upd sbi.UpdatedSMContext, err error) {
				if u.epoch != epoch {
					return
				}
				switch {
				case err != nil:
					s.up = sbi.UPDeactivated
					failed |= 1 << id
					u.updateFailed(s, err)
				case len(upd.N2) > 0:
					setups = append(setups, ngap.SessionSetup{ID: id, SNSSAI: s.snssai, Transfer: upd.N2})
				}
				if pending--; pending == 0 {
					then(u, setups, failed)
				}
			}
			if !u.activate(s, &loc, result) {
				s.up = sbi.UPDeactivated
				failed |= 1 << id
				pending--
			}
		}
	}
	if pending == 0 {
		then(u, setups, failed)
	}
}

// activate is the update of reactivate. Its outcome arrives also when the session
// was dropped meanwhile, so that the procedure waiting for it goes on.
func (u *ue) activate(s *smContext, loc *ident.Location, result func(*ue, sbi.UpdatedSMContext, error)) bool {
	return s.do(func(ctx context.Context) {
		var upd sbi.UpdatedSMContext
		err := error(problem(404, sbi.CauseContextNotFound, "no SM context"))
		if s.ref != "" {
			upd, err = s.a.smf.UpdateSMContext(ctx, s.ref, sbi.UpdateSMContext{UPState: sbi.UPActivating, Location: loc})
		}
		s.owner.Load().post(func(u *ue) { result(u, upd, err) })
	})
}
