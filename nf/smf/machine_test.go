package smf

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/sbi"
)

// deafConn is a socket that is never used.
type deafConn struct{ dgram.Conn }

func (deafConn) LocalAddr() netip.AddrPort { return smfAddr }

// machineSMF is an SMF that does not run; its one UPF is taken for associated.
func machineSMF(t *testing.T, cfg Config) *SMF {
	t.Helper()
	udm := &testUDM{}
	a, err := New(cfg, Deps{
		N4: deafConn{}, SubscriberData: udm, UEContext: udm, Rand: bytes.NewReader(make([]byte, 64)),
		AMF: func(sbi.NFID) (sbi.Communication, error) { return &testAMF{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range a.upfs.list {
		u.state, u.epoch = assocUp, 1
	}
	return a
}

// machine returns a session brought to a state by the machine's own steps.
func machine(t *testing.T, want state) *session {
	t.Helper()
	a := machineSMF(t, testConfig())
	req := sbi.CreateSMContext{SUPI: imsi1, Session: 5, DNN: "internet", SNSSAI: slice1}
	s := newSession(a, "ref", 1, req, request())
	step := func(ev event) { s.step(ev) }
	done := func(m pfcp.Message) { s.step(event{kind: evN4Done, token: s.token, response: m}) }
	if want == stEstablishing {
		step(event{kind: evStart})
		step(event{kind: evSubscribed, data: sbi.SessionData{AMBR: mbps}})
		return s
	}
	step(event{kind: evStart})
	step(event{kind: evSubscribed, data: sbi.SessionData{AMBR: mbps}})
	done(&pfcp.SessionEstablishmentResponse{Cause: pfcp.CauseAccepted, FSEID: &pfcp.FSEID{SEID: 2, Addr: upfAddr.Addr()},
		Created: []pfcp.CreatedPDR{{ID: 1, FTEID: ident.FTEID{Addr: netip.MustParseAddr("10.0.3.1"), TEID: 7}}}})
	step(event{kind: evN2SetupResponse, setup: &ngap.SetupResponseTransfer{Downlink: gnbA}})
	done(&pfcp.SessionModificationResponse{Cause: pfcp.CauseAccepted})
	switch want {
	case stModifying:
		step(event{kind: evSetAMBR, ambr: ident.AMBR{Uplink: 1, Downlink: 1}, call: &call{reply: make(chan callResult, 9)}})
	case stReleasing:
		step(event{kind: evRelease})
	case stReleased:
		step(event{kind: evReleaseContext})
	}
	if s.state != want {
		t.Fatalf("got state %s, want %s", stateNames[s.state], stateNames[want])
	}
	return s
}

// sample is an event of each kind, as a peer would cause it.
func sampleEvent(s *session, k eventKind) event {
	h := nas.SMHeader{PDUSessionID: 5, PTI: 3}
	if isAnswer(k) {
		h.PTI = s.answerPTI(k)
	}
	ev := event{kind: k, header: h, headed: k >= evN1ModificationRequest && k <= evN1Malformed}
	switch k {
	case evN1ModificationRequest:
		ev.n1 = &nas.PDUSessionModificationRequest{SMHeader: h}
	case evN1ModificationComplete:
		ev.n1 = &nas.PDUSessionModificationComplete{SMHeader: h}
	case evN1ModificationReject:
		ev.n1 = &nas.PDUSessionModificationCommandReject{SMHeader: h, Cause: nas.SMRequestRejected}
	case evN1ReleaseRequest:
		ev.n1 = &nas.PDUSessionReleaseRequest{SMHeader: h}
	case evN1ReleaseComplete:
		ev.n1 = &nas.PDUSessionReleaseComplete{SMHeader: h}
	case evN1Status:
		ev.n1 = &nas.SMStatus{SMHeader: h, Cause: nas.SMProtocolError}
	case evN1Unexpected:
		ev.n1 = request()
	case evN1Malformed:
		ev.n1Cause = nas.SMInvalidMandatoryIE
	case evN2SetupResponse:
		ev.setup = &ngap.SetupResponseTransfer{Downlink: gnbB}
	case evSetAMBR:
		ev.ambr = ident.AMBR{Uplink: 5, Downlink: 5}
	case evSubscribed:
		ev.data = sbi.SessionData{AMBR: mbps}
	case evN4Done:
		ev.token, ev.err = s.token, ErrTimeout
	case evReport:
		ev.report, ev.from = &pfcp.SessionReportRequest{}, transaction{peer: upfAddr}
	case evUPFLost, evUPFBack, evUPFRestarted:
		ev.upf, ev.epoch = s.grant.upf, 2
	case evTransferFailed:
		ev.tag, ev.err = tagModification, ErrTimeout
	}
	return ev
}

// TestTable steps every event in every state: a filled cell does not count as
// unexpected, an empty one is answered as TS 24.501 clause 7.4 and the SBI say.
func TestTable(t *testing.T) {
	fromUE := map[eventKind]bool{evN1ModificationRequest: true, evN1ModificationComplete: true, evN1ModificationReject: true,
		evN1ReleaseRequest: true, evN1ReleaseComplete: true, evN1Status: true, evN1Unexpected: true}
	fromGNB := map[eventKind]bool{evN2SetupResponse: true, evN2SetupFail: true, evN2ReleaseResponse: true, evN2ModifyResponse: true, evN2ModifyFail: true}
	calls := map[eventKind]bool{evN1Malformed: true, evActivate: true, evDeactivate: true, evReleaseContext: true, evSetAMBR: true, evRelease: true, evRecreate: true}
	for st := range numStates {
		for k := range numEvents {
			s := machine(t, st)
			ev := sampleEvent(s, k)
			c := &call{reply: make(chan callResult, 9)}
			if fromUE[k] || fromGNB[k] || calls[k] {
				ev.call = c
			}
			filled := procedures[st][k] != nil || userPlane[k] != nil
			waits := filled && k == evSetAMBR // answered by a later event
			replies, result := 0, callResult{}
			for _, act := range s.step(ev) {
				if r, ok := act.(reply); ok && r.call == c {
					replies, result = replies+1, r.result
				}
			}
			name := stateNames[st] + " event " + eventNames[k]
			if wantReplies := map[bool]int{true: 1}[ev.call != nil && !waits]; replies != wantReplies {
				t.Errorf("%s: got %d answers to the call, want %d", name, replies, wantReplies)
			}
			un1, un2 := s.counters.unexpectedN1.Load(), s.counters.unexpectedN2.Load()
			switch {
			case filled:
				if un1+un2 != 0 {
					t.Errorf("%s: counted as unexpected although the table has it", name)
				}
			case fromUE[k]:
				if un1 != 1 || decodeN1[*nas.SMStatus](t, result.out.N1).Cause != nas.SMTypeNotCompatible {
					t.Errorf("%s: want 5GSM STATUS 98", name)
				}
			case fromGNB[k]:
				if un2 != 1 || !isProblem(result.err, 403) {
					t.Errorf("%s: got %v, want a Problem 403", name, result.err)
				}
			case calls[k]:
				want := 409
				if st == stReleased {
					want = 404
				}
				if !isProblem(result.err, want) {
					t.Errorf("%s: got %v, want a Problem %d", name, result.err, want)
				}
			}
		}
	}
}

var eventNames = func() map[eventKind]string {
	list := []string{"start", "subscribed", "modification request", "modification complete", "modification reject", "release request",
		"release complete", "status", "unexpected", "malformed", "setup response", "setup fail", "release response", "modify response",
		"modify fail", "activate", "deactivate", "release context", "superseded", "set AMBR", "release", "recreate", "T3591", "T3592", "TN2",
		"transfer failed", "N4 done", "report", "UPF lost", "UPF back", "UPF restarted", "AMF done", "UDM done"}
	m := map[eventKind]string{}
	for i, n := range list {
		m[eventKind(i)] = n
	}
	return m
}()

func TestEventNames(t *testing.T) {
	if len(eventNames) != int(numEvents) {
		t.Fatalf("got %d names, want %d", len(eventNames), numEvents)
	}
}
