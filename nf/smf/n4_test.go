package smf

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/memnet"
	"github.com/simreach/simreach/internal/wire/pfcp"
)

var lossy = memnet.Config{Loss: 0.33, Seed: 7}

// TestT1N1 is TS 29.244 clause 6.4: N1 attempts, T1 apart, the same bytes each time.
func TestT1N1(t *testing.T) {
	bubble(t, func(c *Config, _ *harness) { c.Timers.T1, c.Timers.N1 = 700*time.Millisecond, 4 }, func(h *harness) {
		h.upf.taken()
		h.upf.setOverride(func(m pfcp.Message) (pfcp.Message, bool) {
			_, ok := m.(*pfcp.SessionDeletionRequest)
			return nil, !ok
		})
		start := time.Now()
		_, err := h.smf.n4.request(h.t.Context(), upfAddr, 77, &pfcp.SessionDeletionRequest{})
		if !errors.Is(err, ErrTimeout) || time.Since(start) != 4*700*time.Millisecond {
			t.Errorf("got %v after %s, want ErrTimeout after 4 times 700 ms", err, time.Since(start))
		}
		got := h.upf.taken()
		if len(got) != 4 {
			t.Fatalf("got %d attempts, want 4", len(got))
		}
		for i, r := range got {
			if at := r.at.Sub(start); at != time.Duration(i)*700*time.Millisecond {
				t.Errorf("attempt %d after %s, want %s", i, at, time.Duration(i)*700*time.Millisecond)
			}
			if string(r.raw) != string(got[0].raw) || r.h.SEID != 77 {
				t.Errorf("attempt %d differs", i)
			}
		}

		ctx, cancel := context.WithTimeout(h.t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := h.smf.n4.request(ctx, upfAddr, 77, &pfcp.SessionDeletionRequest{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", err)
		}
		if n := len(h.smf.n4.pending); n != 0 {
			t.Errorf("got %d pending, want 0", n)
		}
		if _, err := h.smf.n4.request(h.t.Context(), upfAddr, 0, &pfcp.AssociationReleaseRequest{}); !errors.Is(err, pfcp.ErrUnencodable) {
			t.Errorf("got %v, want ErrUnencodable", err)
		}
	})
}

// TestN4Malformed is TS 29.244 clause 7.6: the answer each fault gets, and that
// nothing else suffers.
func TestN4Malformed(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		h.active(imsi1)
		send := func(b ...byte) []pfcp.Message {
			h.upf.mu.Lock()
			h.upf.answers = nil
			h.upf.raw(smfAddr, b)
			h.upf.mu.Unlock()
			synctest.Wait()
			h.upf.mu.Lock()
			defer h.upf.mu.Unlock()
			return h.upf.answers
		}
		if a := send(0x20, 1); len(a) != 0 {
			t.Errorf("too short: got %+v, want silence", a)
		}
		if a := send(0x20, 99, 0, 4, 0, 0, 9, 0); len(a) != 0 {
			t.Errorf("unknown type: got %+v, want silence", a)
		}
		if a := send(0x40, 1, 0, 4, 0, 0, 9, 0); len(a) != 1 || a[0].Type() != pfcp.TypeVersionNotSupported {
			t.Errorf("version 2: got %+v, want Version Not Supported", a)
		}
		a := send(0x20, 5, 0, 4, 0, 0, 9, 0)
		if r, ok := a[0].(*pfcp.AssociationSetupResponse); !ok || r.Cause != pfcp.CauseMandatoryIEMissing {
			t.Errorf("association setup without IEs: got %+v, want cause 66", a)
		}
		a = send(0x20, 9, 0, 4, 0, 0, 9, 0)
		if r, ok := a[0].(*pfcp.AssociationReleaseResponse); !ok || r.Cause != pfcp.CauseMandatoryIEMissing {
			t.Errorf("association release without IEs: got %+v, want cause 66", a)
		}
		a = send(0x21, 56, 0, 12, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 9, 0)
		if r, ok := a[0].(*pfcp.SessionReportResponse); !ok || r.Cause != pfcp.CauseMandatoryIEMissing || r.OffendingIE != 39 {
			t.Errorf("report without report type: got %+v, want cause 66 and IE 39", a)
		}
		if a := send(0x21, 51, 0, 12, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 9, 0); len(a) != 0 {
			t.Errorf("malformed response: got %+v, want silence", a)
		}
		if a := h.upf.request(0, &pfcp.SessionReportResponse{Cause: 1}); len(a) != 0 {
			t.Errorf("response to nothing: got %+v, want silence", a)
		}
		c := h.smf.Status().Counters
		if c.PFCPMalformed != 7 || c.PFCPUnmatched != 1 {
			t.Errorf("got %d malformed, %d unmatched, want 7 and 1", c.PFCPMalformed, c.PFCPUnmatched)
		}
		h.active(supi(2))
	})
}

// TestUnknownUPF: heartbeats are answered to anyone, associations only to UPFs
// that are configured.
func TestUnknownUPF(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		stranger := newTestUPF(h, up2Addr)
		defer stranger.kill()
		a := stranger.request(0, &pfcp.HeartbeatRequest{Recovery: time.Now()})
		if len(a) != 1 || a[0].Type() != pfcp.TypeHeartbeatResponse {
			t.Errorf("got %+v, want a heartbeat response", a)
		}
		a = stranger.request(0, &pfcp.AssociationSetupRequest{Node: pfcp.NodeID{Addr: up2Addr.Addr()}, Recovery: time.Now()})
		if len(a) != 1 || a[0].(*pfcp.AssociationSetupResponse).Cause != pfcp.CauseRejected {
			t.Errorf("got %+v, want rejected", a)
		}
		a = stranger.request(0, &pfcp.AssociationReleaseRequest{Node: pfcp.NodeID{Addr: up2Addr.Addr()}})
		if len(a) != 1 || a[0].(*pfcp.AssociationReleaseResponse).Cause != pfcp.CauseNoAssociation {
			t.Errorf("got %+v, want no association", a)
		}
		if n := h.smf.Status().Counters.PFCPUnknownPeer; n != 2 {
			t.Errorf("got %d, want 2", n)
		}
		if a := h.upf.request(0, &pfcp.AssociationSetupRequest{Node: pfcp.NodeID{FQDN: "upf.example"}, Recovery: h.upf.recovery}); len(a) != 1 {
			t.Errorf("got %+v, want a known address accepted under any name", a)
		}
	})
}

// TestStrangerOnN4 is somebody on N4 who names a UPF of ours and one of its sessions,
// from an address that is not the UPF's: nothing of it counts.
func TestStrangerOnN4(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		h.active(imsi1)
		stranger := newTestUPF(h, up2Addr)
		defer stranger.kill()
		node := pfcp.NodeID{Addr: upfAddr.Addr()}
		later := time.Now().Add(time.Hour)
		a := stranger.request(0, &pfcp.AssociationSetupRequest{Node: node, Recovery: later})
		if len(a) != 1 || a[0].(*pfcp.AssociationSetupResponse).Cause != pfcp.CauseRejected {
			t.Errorf("setup: got %+v, want rejected", a)
		}
		a = stranger.request(0, &pfcp.AssociationReleaseRequest{Node: node})
		if len(a) != 1 || a[0].(*pfcp.AssociationReleaseResponse).Cause != pfcp.CauseNoAssociation {
			t.Errorf("release: got %+v, want no association", a)
		}
		stranger.request(0, &pfcp.HeartbeatRequest{Recovery: later})
		before := h.session(imsi1)
		for _, m := range []*pfcp.SessionReportRequest{
			{ErrorIndication: &gnbA}, {Usage: []pfcp.UsageReport{{URR: 1, Trigger: pfcp.TriggerPeriod, UplinkBytes: 99}}},
		} {
			a = stranger.request(before.SEID, m)
			if len(a) != 1 || a[0].(*pfcp.SessionReportResponse).Cause != pfcp.CauseSessionNotFound {
				t.Errorf("report: got %+v, want session not found", a)
			}
		}
		if s := h.session(imsi1); s != before {
			t.Errorf("got session %+v, want it as before: %+v", s, before)
		}
		st := h.smf.Status()
		if u := st.UPFs[0]; u.State != "associated" || u.Losses != 0 || u.Recovery.Equal(later) {
			t.Errorf("got UPF %+v, want its association as before", u)
		}
		if n := st.Counters.PFCPUnknownPeer; n != 4 {
			t.Errorf("got %d counted, want 4", n)
		}
		if m := h.upf.taken(); len(m) != 0 {
			t.Errorf("the UPF got %+v, want nothing", m)
		}
	})
}

// TestHeartbeatByUPF: the UPF's own heartbeat also tells of its restart.
func TestHeartbeatByUPF(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		h.active(imsi1)
		h.advance(5*time.Second + 10*time.Millisecond) // just after a heartbeat
		h.upf.kill()
		h.upf.start()
		if _, ok := h.upf.request(0, &pfcp.HeartbeatRequest{Recovery: h.upf.recovery})[0].(*pfcp.HeartbeatResponse); !ok {
			t.Error("want a heartbeat response")
		}
		if h.upf.count() != 1 {
			t.Error("want the session restored at once")
		}
	})
}

func TestAnswersForgotten(t *testing.T) {
	n := newN4(deafConn{}, Timers{}, nil, pfcp.NodeID{}, time.Time{}, 0)
	for i := range maxAnswers + 10 {
		if n.repeat(transaction{upfAddr, uint32(i)}) {
			t.Fatalf("request %d taken for a repeat", i)
		}
	}
	if len(n.answers) != maxAnswers || len(n.order) != maxAnswers {
		t.Errorf("got %d answers, want %d", len(n.answers), maxAnswers)
	}
	if !n.repeat(transaction{upfAddr, maxAnswers}) {
		t.Error("a recent request was not recognised")
	}
	n.forget(upfAddr.Addr())
	if len(n.answers) != 0 || len(n.order) != 0 {
		t.Errorf("got %d answers after forget, want 0", len(n.answers))
	}
}
