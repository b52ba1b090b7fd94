package upf

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/gtpu"
	"github.com/simreach/simreach/internal/wire/pfcp"
)

// wantReport waits for a session report and accepts it.
func (l *lab) wantReport() *pfcp.SessionReportRequest {
	l.t.Helper()
	h, m := l.want()
	r, ok := m.(*pfcp.SessionReportRequest)
	if !ok || h.SEID != cpSEID {
		l.t.Fatalf("got %T for SEID %#x, want a report", m, h.SEID)
	}
	l.send(pfcp.Header{SEID: l.Status().Sessions[0].SEID, Sequence: h.Sequence}, &pfcp.SessionReportResponse{Cause: pfcp.CauseAccepted})
	synctest.Wait()
	return r
}

func TestPeriodicReports(t *testing.T) {
	inBubble(t, nil, func(l *lab) {
		l.associate()
		req := establishment()
		req.Rules.URRs[0].Period = 10 * time.Second
		_, teid := l.session(req)
		for i := range uint32(3) {
			l.uplink(teid)
			start := time.Now()
			r := l.wantReport()
			if d := time.Since(start); d != 10*time.Second {
				t.Errorf("report %d after %v, want 10 s", i, d)
			}
			if len(r.Usage) != 1 || r.Usage[0].Trigger != pfcp.TriggerPeriod || r.Usage[0].UplinkBytes != 100 || r.Usage[0].Sequence != i {
				t.Errorf("report %d: %+v", i, r.Usage)
			}
			if u := r.Usage[0]; u.End.Sub(u.Start) != 10*time.Second {
				t.Errorf("report %d covers %v to %v", i, u.Start, u.End)
			}
		}
	})
}

func TestVolumeThresholdReports(t *testing.T) {
	inBubble(t, nil, func(l *lab) {
		l.associate()
		req := establishment()
		req.Rules.URRs[0].VolumeThreshold = 250
		_, teid := l.session(req)
		for i := range 2 {
			l.uplink(teid)
			l.uplink(teid)
			l.wantIdle(time.Minute, "below the threshold")
			l.uplink(teid)
			r := l.wantReport()
			if len(r.Usage) != 1 || r.Usage[0].Trigger != pfcp.TriggerVolume || r.Usage[0].UplinkBytes != 300 {
				t.Errorf("report %d: %+v, want 300 octets by volume", i, r.Usage)
			}
		}
	})
}

func TestErrorIndicationIsReportedOnce(t *testing.T) {
	inBubble(t, nil, func(l *lab) {
		l.associate()
		id, _ := l.session(establishment())
		tunnel := ident.FTEID{Addr: gnbAddr, TEID: 0x200}
		b, err := gtpu.EncodeErrorIndication(tunnel)
		if err != nil {
			t.Fatal(err)
		}
		l.fromGNB(b)
		if r := l.wantReport(); r.ErrorIndication == nil || *r.ErrorIndication != tunnel {
			t.Errorf("report %+v, want an error indication for %v", r, tunnel)
		}
		l.fromGNB(b)
		l.wantIdle(time.Minute, "the same again")
		// New rules, new report; and none for tunnels that are nobody's.
		request[*pfcp.SessionModificationResponse](l, id, &pfcp.SessionModificationRequest{
			Update: pfcp.Rules{FARs: []pfcp.FAR{{ID: 2, Action: pfcp.ActionForward}}}})
		l.fromGNB(b)
		if r := l.wantReport(); r.ErrorIndication == nil {
			t.Errorf("report %+v", r)
		}
		b, _ = gtpu.EncodeErrorIndication(ident.FTEID{Addr: gnbAddr, TEID: 0x999})
		l.fromGNB(b)
		l.wantIdle(time.Minute, "nobody's tunnel")
	})
}

// Somebody on N3 who knows a gNB's tunnel must not be able to have it taken down.
func TestErrorIndicationOfAnotherIsDropped(t *testing.T) {
	inBubble(t, nil, func(l *lab) {
		l.associate()
		l.session(establishment())
		b, err := gtpu.EncodeErrorIndication(ident.FTEID{Addr: gnbAddr, TEID: 0x200})
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.network.ListenUDP(netip.AddrPortFrom(strangerAddr, gtpu.Port))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.WriteBatch([]dgram.Datagram{{Buf: b, N: len(b), Addr: netip.AddrPortFrom(upfAddr, gtpu.Port)}}); err != nil {
			t.Fatal(err)
		}
		l.wantIdle(time.Minute, "an error indication of another")
		if c := l.Status().Datapath.Counters; c.ErrorIndicationsForeign != 1 || c.ErrorIndicationsReceived != 0 || !l.downlink() {
			t.Errorf("got %+v, want it counted and packets still forwarded", c)
		}
	})
}

func TestLostErrorIndicationIsReportedAgain(t *testing.T) {
	inBubble(t, func(c *Config) { c.T1 = time.Second; c.N1 = 2 }, func(l *lab) {
		l.associate()
		l.session(establishment())
		b, err := gtpu.EncodeErrorIndication(ident.FTEID{Addr: gnbAddr, TEID: 0x200})
		if err != nil {
			t.Fatal(err)
		}
		l.fromGNB(b)
		l.want()
		l.want() // both attempts unanswered
		time.Sleep(time.Second)
		synctest.Wait()
		l.wantIdle(time.Minute, "without another indication")
		l.fromGNB(b)
		if r := l.wantReport(); r.ErrorIndication == nil {
			t.Errorf("report %+v, want the error indication again", r)
		}
	})
}

func TestDownlinkDataIsReportedOnce(t *testing.T) {
	inBubble(t, nil, func(l *lab) {
		l.associate()
		req := establishment()
		req.Rules.FARs[1] = pfcp.FAR{ID: 2, Action: pfcp.ActionBuffer | pfcp.ActionNotify}
		id, _ := l.session(req)
		for range 3 {
			if l.downlink() {
				t.Error("forwarded while buffering")
			}
		}
		if r := l.wantReport(); r.DownlinkData != 2 {
			t.Errorf("report %+v, want downlink data of PDR 2", r)
		}
		l.wantIdle(time.Minute, "more packets")
		request[*pfcp.SessionModificationResponse](l, id, &pfcp.SessionModificationRequest{Update: pfcp.Rules{FARs: []pfcp.FAR{
			{ID: 2, Action: pfcp.ActionForward, Forward: &pfcp.Forwarding{Destination: new(pfcp.Access), Outer: &ident.FTEID{Addr: gnbAddr, TEID: 0x200}}}}}})
		if !l.downlink() {
			t.Error("not forwarded after the gNB's tunnel is known")
		}
	})
}

// Usage in a report that never got through comes with the next report, here the one
// at deletion.
func TestUsageOfALostReportIsReportedAgain(t *testing.T) {
	inBubble(t, func(c *Config) { c.T1 = time.Second; c.N1 = 2 }, func(l *lab) {
		l.associate()
		req := establishment()
		req.Rules.URRs[0].Period = 10 * time.Second
		began := time.Now()
		id, teid := l.session(req)
		l.uplink(teid)
		for range 2 { // attempts, both unanswered
			if _, m := l.want(); m.(*pfcp.SessionReportRequest).Usage[0].UplinkBytes != 100 {
				t.Errorf("report %+v, want 100 octets", m)
			}
		}
		time.Sleep(time.Second)
		l.uplink(teid)
		synctest.Wait()
		if n := l.Status().N4.RequestsUnanswered; n != 1 {
			t.Fatalf("%d reports given up, want 1", n)
		}
		r := l.wantReport()
		if u := r.Usage[0]; u.UplinkBytes != 200 || u.UplinkPackets != 2 || u.Sequence != 1 || !u.Start.Equal(began.UTC().Truncate(time.Second)) {
			t.Errorf("next report %+v, want all 200 octets since %v", u, began)
		}
		l.uplink(teid)
		if d := request[*pfcp.SessionDeletionResponse](l, id, &pfcp.SessionDeletionRequest{}); d.Usage[0].UplinkBytes != 100 {
			t.Errorf("last report %+v, want the 100 octets that were left", d.Usage[0])
		}
	})
}

func TestReportIsSentAgainThenGivenUp(t *testing.T) {
	inBubble(t, func(c *Config) { c.T1 = time.Second; c.N1 = 4 }, func(l *lab) {
		l.associate()
		req := establishment()
		req.Rules.URRs[0].Period = time.Hour
		l.session(req)
		h, _ := l.want()
		start := time.Now()
		for i := range 3 {
			if again, _ := l.want(); again != h {
				t.Errorf("attempt %d: header %+v, want %+v", i+2, again, h)
			}
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("four attempts within %v, want 3 s", d)
		}
		l.wantIdle(time.Minute, "after N1 attempts")
		// The CP function does not know the session: neither do we from then on.
		h, _ = l.want()
		l.send(pfcp.Header{SEID: h.SEID, Sequence: h.Sequence}, &pfcp.SessionReportResponse{Cause: pfcp.CauseSessionNotFound})
		synctest.Wait()
		if n := len(l.Status().Sessions); n != 0 {
			t.Errorf("%d sessions, want none", n)
		}
	})
}
