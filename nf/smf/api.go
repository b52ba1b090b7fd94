package smf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/sbi"
)

// CreateSMContext implements sbi.Sessions (TS 29.502 clause 5.2.2.2). What the
// request alone shows to be impossible is refused here with *sbi.SessionRefusal;
// the rest of the establishment follows by N1N2Transfer. A session under the same
// SUPI and session ID is released first.
func (a *SMF) CreateSMContext(ctx context.Context, req sbi.CreateSMContext) (sbi.SMContextRef, error) {
	if _, err := ident.ParseSUPI(string(req.SUPI)); err != nil {
		return "", problem(http.StatusBadRequest, sbi.CauseMandatoryIEIncorrect, "%v", err)
	}
	if req.Session < 1 || req.Session > 15 {
		return "", problem(http.StatusBadRequest, sbi.CauseMandatoryIEIncorrect, "PDU session ID %d: want 1 to 15", req.Session)
	}
	req.DNN = ident.DNN(strings.ToLower(string(req.DNN)))
	wish, err := a.readRequest(req)
	if err != nil {
		return "", err
	}

	key := sessionKey{req.SUPI, req.Session}
	a.mu.Lock()
	for a.next == 0 || a.bySEID[a.next] != nil {
		a.next++
	}
	seid := a.next
	a.next++
	s := newSession(a, sbi.SMContextRef(fmt.Sprintf("%s-%d-%016x", req.SUPI, req.Session, uint64(seid))), seid, req, wish)
	s.publish()
	old := a.byKey[key]
	a.byRef[s.ref], a.byKey[key], a.bySEID[seid] = s, s, s
	a.mu.Unlock()

	if old != nil {
		a.counters.superseded.Add(1)
		a.directory.released(old, key) // before the successor is announced
		old.inbox.post(event{kind: evSuperseded})
	}
	s.inbox.post(event{kind: evStart})
	if err := a.spawn(ctx, s.run); err != nil {
		a.drop(s)
		return "", err
	}
	return s.ref, nil
}

// readRequest decodes and checks the establishment request. A reserved PTI gets no
// answer of the SMF's (TS 24.501 clause 7.3.1); the AMF says that it was not forwarded.
func (a *SMF) readRequest(req sbi.CreateSMContext) (*nas.PDUSessionEstablishmentRequest, error) {
	refusal := func(m nas.Message, detail string) error {
		n1, err := nas.Encode(m)
		if err != nil {
			return problem(http.StatusInternalServerError, sbi.CauseSystemFailure, "%v", err)
		}
		return &sbi.SessionRefusal{Problem: *problem(http.StatusForbidden, causeN1Error, "%s", detail), N1: n1}
	}
	got, headed := peekHeader(req.N1)
	if headed && got.PTI == reservedPTI {
		a.counters.unexpectedN1.Add(1)
		return nil, problem(http.StatusForbidden, causeN1Error, "reserved PTI")
	}
	h := nas.SMHeader{PDUSessionID: req.Session, PTI: got.PTI}
	m, err := nas.Decode(req.N1)
	if err != nil {
		a.counters.malformedN1.Add(1)
		var de *nas.DecodeError
		if !errors.As(err, &de) || de.Cause == 0 {
			return nil, problem(http.StatusForbidden, causeN1Error, "%v", err)
		}
		if de.Type == nas.TypePDUSessionEstablishmentRequest {
			return nil, refusal(&nas.PDUSessionEstablishmentReject{SMHeader: h, Cause: nas.SMCause(de.Cause)}, err.Error())
		}
		return nil, refusal(&nas.SMStatus{SMHeader: h, Cause: nas.SMCause(de.Cause)}, err.Error())
	}
	wish, ok := m.(*nas.PDUSessionEstablishmentRequest)
	if !ok {
		a.counters.unexpectedN1.Add(1)
		return nil, refusal(&nas.SMStatus{SMHeader: h, Cause: nas.SMTypeNotCompatible}, fmt.Sprintf("message type %#x does not start a session", m.Type()))
	}
	if wish.PTI == 0 { // clause 7.3.1: a reject could not be told to belong to it
		a.counters.refused.Add(1)
		return nil, refusal(&nas.SMStatus{SMHeader: h, Cause: nas.SMInvalidPTI}, "no procedure transaction identity")
	}
	if cause, why := a.checkRequest(req, wish); cause != 0 {
		a.counters.refused.Add(1)
		a.log.Info("pdu session refused", "supi", req.SUPI, "pdu_session", req.Session, "cause", cause, "error", why)
		return nil, refusal(&nas.PDUSessionEstablishmentReject{SMHeader: h, Cause: cause}, why)
	}
	return wish, nil
}

// UpdateSMContext implements sbi.Sessions (TS 29.502 clause 5.2.2.3).
func (a *SMF) UpdateSMContext(ctx context.Context, ref sbi.SMContextRef, req sbi.UpdateSMContext) (sbi.UpdatedSMContext, error) {
	s := a.find(ref)
	if s == nil {
		return sbi.UpdatedSMContext{}, notFound()
	}
	ev, err := a.updateEvent(req)
	if err != nil {
		return sbi.UpdatedSMContext{}, err
	}
	ev.location = req.Location
	return s.ask(ctx, ev)
}

// ReleaseSMContext implements sbi.Sessions (TS 29.502 clause 5.2.2.4).
func (a *SMF) ReleaseSMContext(ctx context.Context, ref sbi.SMContextRef, _ sbi.ReleaseCause) error {
	s := a.find(ref)
	if s == nil {
		return notFound()
	}
	_, err := s.ask(ctx, event{kind: evReleaseContext})
	return err
}

// SetAMBR implements sbi.SessionControl. It returns when the UE has confirmed, or
// when the UPF has if the UE cannot be reached. Errors: Problem CONTEXT_NOT_FOUND
// or INVALID_STATE (a procedure is running), *ModificationRejected (by the UE),
// *PFCPRejection (by the UPF), ErrTimeout (the UE was silent).
func (a *SMF) SetAMBR(ctx context.Context, supi ident.SUPI, id ident.PDUSessionID, ambr ident.AMBR) error {
	return a.control(ctx, supi, id, event{kind: evSetAMBR, ambr: ambr})
}

// Release implements sbi.SessionControl. It returns once the session can no longer
// be reached and its release has been started.
func (a *SMF) Release(ctx context.Context, supi ident.SUPI, id ident.PDUSessionID) error {
	return a.control(ctx, supi, id, event{kind: evRelease})
}

// Recreate implements sbi.SessionControl. It returns once the release has been started.
// A session that is still being established gives a Problem INVALID_STATE (409). A UE in
// CM-IDLE is not told, since there is no paging: the session is gone, and the UE finds
// out, and asks for another, when it next contacts the AMF.
func (a *SMF) Recreate(ctx context.Context, supi ident.SUPI, id ident.PDUSessionID) error {
	return a.control(ctx, supi, id, event{kind: evRecreate})
}

// SessionsOf implements sbi.SessionControl.
func (a *SMF) SessionsOf(ctx context.Context, supi ident.SUPI) ([]sbi.SessionInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := []sbi.SessionInfo{}
	a.mu.Lock()
	for key, s := range a.byKey {
		if supi != "" && key.supi != supi {
			continue
		}
		st := s.status.Load()
		out = append(out, sbi.SessionInfo{
			SUPI: st.SUPI, PEI: st.PEI, Session: st.Session, DNN: st.DNN, SNSSAI: st.SNSSAI, Address: st.Address, UPF: st.UPF,
			AMBR: st.AMBR, Location: st.Location, State: st.State, Created: st.Created,
			Used: sbi.UsedUnits{
				UplinkOctets: st.Usage.UplinkBytes, DownlinkOctets: st.Usage.DownlinkBytes,
				UplinkPackets: st.Usage.UplinkPackets, DownlinkPackets: st.Usage.DownlinkPackets,
				From: st.Created, To: st.Measured,
			},
		})
	}
	a.mu.Unlock()
	slices.SortFunc(out, func(x, y sbi.SessionInfo) int {
		return cmp.Or(cmp.Compare(x.SUPI, y.SUPI), cmp.Compare(x.Session, y.Session))
	})
	return out, nil
}

func (a *SMF) control(ctx context.Context, supi ident.SUPI, id ident.PDUSessionID, ev event) error {
	a.mu.Lock()
	s := a.byKey[sessionKey{supi, id}]
	a.mu.Unlock()
	if s == nil {
		return notFound()
	}
	_, err := s.ask(ctx, ev)
	return err
}

// ask posts ev and waits for the session's answer.
func (s *session) ask(ctx context.Context, ev event) (sbi.UpdatedSMContext, error) {
	ev.call = &call{reply: make(chan callResult, 1)}
	if !s.inbox.post(ev) {
		return sbi.UpdatedSMContext{}, notFound()
	}
	select {
	case r := <-ev.call.reply:
		return r.out, r.err
	case <-s.done:
		select {
		case r := <-ev.call.reply: // it was the last thing the session did
			return r.out, r.err
		default:
			return sbi.UpdatedSMContext{}, notFound()
		}
	case <-ctx.Done():
		return sbi.UpdatedSMContext{}, ctx.Err()
	}
}

// updateEvent turns an update into the machine's event.
func (a *SMF) updateEvent(req sbi.UpdateSMContext) (event, error) {
	switch {
	case len(req.N1) > 0:
		return n1Event(req.N1), nil
	case req.N2Type != "":
		ev, err := n2Event(req.N2Type, req.N2)
		if err != nil {
			a.counters.malformedN2.Add(1)
			return event{}, badN2(err)
		}
		return ev, nil
	case req.UPState == sbi.UPActivating, req.UPState == sbi.UPActivated:
		return event{kind: evActivate}, nil
	case req.UPState == sbi.UPDeactivated:
		return event{kind: evDeactivate}, nil
	}
	return event{}, problem(http.StatusBadRequest, sbi.CauseInvalidFormat, "one of N1, N2 and UP state must be given")
}

func n1Event(pdu []byte) event {
	var ev event
	ev.header, ev.headed = peekHeader(pdu)
	m, err := nas.Decode(pdu)
	if err != nil {
		ev.kind = evN1Malformed
		var de *nas.DecodeError
		if errors.As(err, &de) {
			ev.n1Cause = nas.SMCause(de.Cause)
		}
		return ev
	}
	ev.n1 = m
	switch m.(type) {
	case *nas.PDUSessionModificationRequest:
		ev.kind = evN1ModificationRequest
	case *nas.PDUSessionModificationComplete:
		ev.kind = evN1ModificationComplete
	case *nas.PDUSessionModificationCommandReject:
		ev.kind = evN1ModificationReject
	case *nas.PDUSessionReleaseRequest:
		ev.kind = evN1ReleaseRequest
	case *nas.PDUSessionReleaseComplete:
		ev.kind = evN1ReleaseComplete
	case *nas.SMStatus:
		ev.kind = evN1Status
	default:
		ev.kind = evN1Unexpected
	}
	return ev
}

func n2Event(typ sbi.N2Type, b []byte) (event, error) {
	var err error
	switch typ {
	case sbi.N2SetupResponse:
		var t *ngap.SetupResponseTransfer
		if t, err = ngap.DecodeSetupResponseTransfer(b); err == nil && !t.Downlink.Addr.IsValid() {
			err = errors.New("smf: no downlink endpoint")
		}
		return event{kind: evN2SetupResponse, setup: t}, err
	case sbi.N2SetupFail, sbi.N2ModifyFail:
		_, err = ngap.DecodeUnsuccessfulTransfer(b)
		if typ == sbi.N2ModifyFail {
			return event{kind: evN2ModifyFail}, err
		}
		return event{kind: evN2SetupFail}, err
	case sbi.N2ReleaseResponse: // nothing in it matters; many gNBs send it empty
		return event{kind: evN2ReleaseResponse}, nil
	case sbi.N2ModifyResponse:
		_, err = ngap.DecodeModifyResponseTransfer(b)
		return event{kind: evN2ModifyResponse}, err
	}
	return event{}, fmt.Errorf("smf: N2 type %q does not come from a gNB", typ)
}

func (a *SMF) find(ref sbi.SMContextRef) *session {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.byRef[ref]
}

// hide makes a released session unknown to the API; its UPF may still report.
func (a *SMF) hide(s *session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.byRef, s.ref)
	if key := (sessionKey{s.supi, s.id}); a.byKey[key] == s {
		delete(a.byKey, key)
	}
}

// drop forgets a session that has ended.
func (a *SMF) drop(s *session) {
	a.hide(s)
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.bySEID, s.seid)
}
