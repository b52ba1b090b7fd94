package upf

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/gtpu"
	"github.com/simreach/simreach/internal/wire/pfcp"
)

func TestSessionLife(t *testing.T) {
	inBubble(t, nil, func(l *lab) {
		l.associate()
		req := establishment()
		r := request[*pfcp.SessionEstablishmentResponse](l, 0, req)
		if r.Cause != pfcp.CauseAccepted || r.FSEID == nil || r.FSEID.Addr != upfAddr || len(r.Created) != 1 ||
			r.Created[0].ID != 1 || r.Created[0].FTEID.Addr != upfAddr || r.Created[0].FTEID.TEID == 0 {
			t.Fatalf("establishment: %+v", r)
		}
		id, teid := r.FSEID.SEID, r.Created[0].FTEID.TEID
		if !l.uplink(teid) || !l.downlink() {
			t.Error("packets do not flow both ways")
		}
		if h := l.atGNB(); h.TEID != 0x200 || !h.HasQFI || h.QFI != 9 || h.Uplink {
			t.Errorf("gNB got %+v, want TEID 0x200 and QFI 9, downlink", h)
		}
		st := l.Status().Sessions[0]
		if st.SEID != id || st.UE.V4 != ueAddr || st.TEIDs[0] != teid || st.Usage.UplinkBytes != 100 {
			t.Errorf("status %+v", st)
		}

		// Path switch: another gNB tunnel, End Marker into the old one.
		m := request[*pfcp.SessionModificationResponse](l, id, &pfcp.SessionModificationRequest{
			Update: pfcp.Rules{FARs: []pfcp.FAR{{ID: 2, Forward: &pfcp.Forwarding{
				Destination: new(pfcp.Access), Outer: &ident.FTEID{Addr: gnbAddr, TEID: 0x300}, SendEndMarker: true}}}},
		})
		if m.Cause != pfcp.CauseAccepted {
			t.Fatalf("modification: cause %d", m.Cause)
		}
		if h := l.atGNB(); h.Type != gtpu.EndMarker || h.TEID != 0x200 {
			t.Errorf("old tunnel got %+v, want an End Marker", h)
		}
		l.downlink()
		if h := l.atGNB(); h.Type != gtpu.GPDU || h.TEID != 0x300 {
			t.Errorf("gNB got %+v, want TEID 0x300", h)
		}

		// Query tells what was counted, deletion what came since.
		m = request[*pfcp.SessionModificationResponse](l, id, &pfcp.SessionModificationRequest{QueryURRs: []uint32{1}})
		if len(m.Usage) != 1 || m.Usage[0].Trigger != pfcp.TriggerImmediate || m.Usage[0].UplinkBytes != 100 || m.Usage[0].DownlinkBytes != 200 || m.Usage[0].Sequence != 0 {
			t.Errorf("query: %+v", m.Usage)
		}
		l.uplink(teid)
		d := request[*pfcp.SessionDeletionResponse](l, id, &pfcp.SessionDeletionRequest{})
		if d.Cause != pfcp.CauseAccepted || len(d.Usage) != 1 || d.Usage[0].Trigger != pfcp.TriggerTermination ||
			d.Usage[0].UplinkBytes != 100 || d.Usage[0].DownlinkBytes != 0 || d.Usage[0].Sequence != 1 {
			t.Errorf("deletion: %+v", d)
		}
		if l.uplink(teid) || l.downlink() {
			t.Error("packets flow after deletion")
		}
		if d = request[*pfcp.SessionDeletionResponse](l, id, &pfcp.SessionDeletionRequest{}); d.Cause != pfcp.CauseSessionNotFound {
			t.Errorf("second deletion: cause %d, want 65", d.Cause)
		}
		if n := l.Status().Datapath.Sessions; n != 0 {
			t.Errorf("%d sessions left in the datapath", n)
		}
	})
}

func TestExplicitTEIDsAreHonoured(t *testing.T) {
	inBubble(t, nil, func(l *lab) {
		l.associate()
		restored := establishment()
		restored.Rules.PDRs[0].PDI.ChooseTEID = false
		restored.Rules.PDRs[0].PDI.FTEID = &ident.FTEID{Addr: upfAddr, TEID: 0xabc}
		id, _ := l.session(restored)
		if !l.uplink(0xabc) {
			t.Error("no packets for the TEID that the CP function chose")
		}
		other := establishment()
		other.FSEID.SEID++
		other.Rules.PDRs[0].PDI.FTEID, other.Rules.PDRs[0].PDI.ChooseTEID = &ident.FTEID{Addr: upfAddr, TEID: 0xabc}, false
		if r := request[*pfcp.SessionEstablishmentResponse](l, 0, other); r.Cause != pfcp.CauseRuleCreationFailure {
			t.Errorf("TEID in use: cause %d, want 73", r.Cause)
		}
		other.Rules.PDRs[0].PDI.FTEID = &ident.FTEID{Addr: gnbAddr, TEID: 0xdef}
		if r := request[*pfcp.SessionEstablishmentResponse](l, 0, other); r.Cause != pfcp.CauseRuleCreationFailure {
			t.Errorf("F-TEID on a foreign address: cause %d, want 73", r.Cause)
		}
		// The CP function may set the same session up again: it replaces the old one.
		again, _ := l.session(restored)
		if again == id || len(l.Status().Sessions) != 1 || !l.uplink(0xabc) {
			t.Errorf("session set up again: %+v", l.Status().Sessions)
		}
	})
}

func TestRejectionsChangeNothing(t *testing.T) {
	inBubble(t, nil, func(l *lab) {
		if r := request[*pfcp.SessionEstablishmentResponse](l, 0, establishment()); r.Cause != pfcp.CauseNoAssociation {
			t.Errorf("establishment without association: cause %d, want 72", r.Cause)
		}
		if r := request[*pfcp.SessionModificationResponse](l, 5, &pfcp.SessionModificationRequest{}); r.Cause != pfcp.CauseNoAssociation {
			t.Errorf("modification without association: cause %d, want 72", r.Cause)
		}
		l.associate()
		if r := request[*pfcp.SessionModificationResponse](l, 5, &pfcp.SessionModificationRequest{}); r.Cause != pfcp.CauseSessionNotFound {
			t.Errorf("modification of no session: cause %d, want 65", r.Cause)
		}
		for name, change := range map[string]func(*pfcp.Rules){
			"PDR names a FAR that is not there": func(r *pfcp.Rules) { r.PDRs[0].FAR = 9 },
			"PDR names a QER that is not there": func(r *pfcp.Rules) { r.QERs = nil },
			"PDR names a URR that is not there": func(r *pfcp.Rules) { r.URRs = nil },
			"no outer header downlink":          func(r *pfcp.Rules) { r.FARs[1].Forward.Outer = nil },
			"outer header stays on uplink":      func(r *pfcp.Rules) { r.PDRs[0].RemoveOuterHeader = false },
			"uplink back to Access":             func(r *pfcp.Rules) { r.FARs[0].Forward.Destination = new(pfcp.Access) },
			"unknown network instance":          func(r *pfcp.Rules) { r.PDRs[1].PDI.NetworkInstance = "nowhere" },
			"two FARs of one ID":                func(r *pfcp.Rules) { r.FARs[1].ID = 1 },
			"drop and forward at once":          func(r *pfcp.Rules) { r.FARs[0].Action = pfcp.ActionDrop | pfcp.ActionForward },
			"downlink without UE address":       func(r *pfcp.Rules) { r.PDRs[1].PDI.UEAddress = nil },
		} {
			req := establishment()
			change(&req.Rules)
			if r := request[*pfcp.SessionEstablishmentResponse](l, 0, req); r.Cause != pfcp.CauseRuleCreationFailure || r.FSEID != nil {
				t.Errorf("%s: %+v, want cause 73", name, r)
			}
		}
		if st := l.Status(); len(st.Sessions) != 0 || st.Datapath.Sessions != 0 {
			t.Fatalf("rejected establishments left %d sessions", len(st.Sessions))
		}

		id, teid := l.session(establishment())
		for name, m := range map[string]*pfcp.SessionModificationRequest{
			"second part fails": {
				Update: pfcp.Rules{
					FARs: []pfcp.FAR{{ID: 1, Action: pfcp.ActionDrop}},
					QERs: []pfcp.QER{{ID: 44}},
				}},
			"removes a FAR in use":   {Remove: pfcp.RuleIDs{FARs: []uint32{1}}},
			"removes an unknown PDR": {Remove: pfcp.RuleIDs{PDRs: []uint16{7}}},
			"creates what exists":    {Create: pfcp.Rules{URRs: []pfcp.URR{{ID: 1, Volume: true}}}},
			"queries an unknown URR": {QueryURRs: []uint32{6}},
		} {
			if r := request[*pfcp.SessionModificationResponse](l, id, m); r.Cause != pfcp.CauseRuleCreationFailure {
				t.Errorf("%s: cause %d, want 73", name, r.Cause)
			}
			if !l.uplink(teid) || !l.downlink() {
				t.Errorf("%s: a rejected modification has changed the rules", name)
			}
		}
		// An address is one session's only.
		second := establishment()
		second.FSEID.SEID++
		if r := request[*pfcp.SessionEstablishmentResponse](l, 0, second); r.Cause != pfcp.CauseRuleCreationFailure {
			t.Errorf("UE address in use: cause %d, want 73", r.Cause)
		}
	})
}

func TestModificationReplacesRules(t *testing.T) {
	inBubble(t, nil, func(l *lab) {
		l.associate()
		id, teid := l.session(establishment())
		l.uplink(teid)
		modify := func(m *pfcp.SessionModificationRequest) *pfcp.SessionModificationResponse {
			t.Helper()
			r := request[*pfcp.SessionModificationResponse](l, id, m)
			if r.Cause != pfcp.CauseAccepted {
				t.Fatalf("cause %d", r.Cause)
			}
			return r
		}
		modify(&pfcp.SessionModificationRequest{Update: pfcp.Rules{QERs: []pfcp.QER{{ID: 1, Gates: &pfcp.GateStatus{UplinkClosed: true}}}}})
		if l.uplink(teid) || !l.downlink() {
			t.Error("closed uplink gate: want downlink only")
		}
		// What an update does not name stays: gates when the rate changes, the rate
		// when the gates do, the destination when the tunnel does.
		modify(&pfcp.SessionModificationRequest{Update: pfcp.Rules{QERs: []pfcp.QER{{ID: 1, MBR: &ident.AMBR{Uplink: 8_000, Downlink: 8_000}}}}})
		if l.uplink(teid) || !l.downlink() {
			t.Error("an update of the rate alone has opened a gate")
		}
		modify(&pfcp.SessionModificationRequest{Update: pfcp.Rules{QERs: []pfcp.QER{{ID: 1, Gates: &pfcp.GateStatus{}}}}})
		if !l.uplink(teid) {
			t.Error("uplink gate still closed")
		}
		if q := l.rulesOf(id).qers[1]; q.QFI != 9 || q.MBR == nil || q.MBR.Uplink != 8_000 {
			t.Errorf("QER %+v, want QFI and rate as they were", q)
		}
		modify(&pfcp.SessionModificationRequest{Update: pfcp.Rules{QERs: []pfcp.QER{{ID: 1, MBR: &ident.AMBR{}}}}})
		if q := l.rulesOf(id).qers[1]; q.MBR == nil || *q.MBR != (ident.AMBR{}) {
			t.Errorf("QER %+v, want its rate removed", q)
		}
		modify(&pfcp.SessionModificationRequest{Update: pfcp.Rules{FARs: []pfcp.FAR{{ID: 2, Forward: &pfcp.Forwarding{Outer: &ident.FTEID{Addr: gnbAddr, TEID: 0x500}}}}}})
		if f := l.rulesOf(id).fars[2]; *f.Forward.Destination != pfcp.Access || f.Action != pfcp.ActionForward || !l.downlink() {
			t.Errorf("FAR %+v, want destination and action as they were", f)
		}
		modify(&pfcp.SessionModificationRequest{Update: pfcp.Rules{FARs: []pfcp.FAR{{ID: 2, Action: pfcp.ActionDrop}}}})
		if l.downlink() {
			t.Error("forwarded by a FAR that drops")
		}
		modify(&pfcp.SessionModificationRequest{Update: pfcp.Rules{FARs: []pfcp.FAR{{ID: 2, Action: pfcp.ActionForward}}}})
		if !l.downlink() {
			t.Error("a FAR that forwards again has lost its parameters")
		}
		r := modify(&pfcp.SessionModificationRequest{
			Remove: pfcp.RuleIDs{URRs: []uint32{1}},
			Create: pfcp.Rules{URRs: []pfcp.URR{{ID: 2, Volume: true}}},
			Update: pfcp.Rules{PDRs: []pfcp.PDR{{ID: 1, URRs: []uint32{2}}, {ID: 2, URRs: []uint32{2}}}},
		})
		if len(r.Usage) != 1 || r.Usage[0].URR != 1 || r.Usage[0].Trigger != pfcp.TriggerTermination || r.Usage[0].UplinkBytes != 200 {
			t.Errorf("usage of the removed URR: %+v", r.Usage)
		}
		// A second uplink PDR with a TEID of its own.
		addr := netip.MustParseAddr("10.60.0.2")
		r = modify(&pfcp.SessionModificationRequest{Create: pfcp.Rules{PDRs: []pfcp.PDR{{ID: 3, Precedence: 5, RemoveOuterHeader: true, FAR: 1,
			PDI: pfcp.PDI{Source: pfcp.Access, ChooseTEID: true, UEAddress: &ident.UEAddress{V4: addr}, UEIsSource: true}}}}})
		if len(r.Created) != 1 || r.Created[0].ID != 3 || !l.uplink(r.Created[0].FTEID.TEID) || !l.uplink(teid) {
			t.Errorf("created %+v", r.Created)
		}
	})
}

func TestRetransmittedRequestGetsTheSameAnswer(t *testing.T) {
	inBubble(t, nil, func(l *lab) {
		l.associate()
		r := request[*pfcp.SessionEstablishmentResponse](l, 0, establishment())
		l.send(pfcp.Header{Sequence: l.sequence}, establishment())
		_, m := l.want()
		if again := m.(*pfcp.SessionEstablishmentResponse); *again.FSEID != *r.FSEID || again.Created[0] != r.Created[0] {
			t.Errorf("answered %+v, then %+v", r, again)
		}
		st := l.Status()
		if len(st.Sessions) != 1 || st.N4.Retransmissions != 1 {
			t.Errorf("%d sessions, %d retransmissions, want 1 and 1", len(st.Sessions), st.N4.Retransmissions)
		}
		// The memory of it ends.
		time.Sleep(time.Minute)
		synctest.Wait()
		l.mu.Lock()
		if n := len(l.answered); n != 0 {
			t.Errorf("%d responses are still remembered after a minute", n)
		}
		l.mu.Unlock()
	})
}

// rulesOf is the rules of a session as they stand.
func (l *lab) rulesOf(id ident.SEID) ruleBook {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sessions[id].rules.clone()
}
