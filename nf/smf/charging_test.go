package smf

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/sbi"
)

// testCHF is a CHF as the interface demands: it counts what it has not seen before.
type testCHF struct {
	mu       sync.Mutex
	sessions map[sbi.ChargingRef]string
	seen     map[string]bool
	got      []string // invocations, repeats too
	total    sbi.UsedUnits
	last     sbi.ChargingData
	before   error // answered without looking
	after    error // answered although the invocation was taken
}

func newTestCHF() *testCHF {
	return &testCHF{sessions: map[sbi.ChargingRef]string{}, seen: map[string]bool{}}
}

func (c *testCHF) take(what string, d sbi.ChargingData) {
	used := ""
	if d.Used != nil {
		used = fmt.Sprintf(" %d/%d", d.Used.UplinkOctets, d.Used.DownlinkOctets)
	}
	c.got = append(c.got, fmt.Sprintf("%s %d%s", what, d.Sequence, used))
	c.last = d
	key := fmt.Sprint(d.ChargingID, d.Sequence)
	if d.Used == nil || c.seen[key] {
		return
	}
	c.seen[key] = true
	c.total.UplinkOctets += d.Used.UplinkOctets
	c.total.DownlinkOctets += d.Used.DownlinkOctets
	c.total.UplinkPackets += d.Used.UplinkPackets
	c.total.DownlinkPackets += d.Used.DownlinkPackets
}

func (c *testCHF) CreateCharging(_ context.Context, d sbi.ChargingData) (sbi.ChargingRef, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.before != nil {
		return "", c.before
	}
	c.take("create", d)
	ref := sbi.ChargingRef("ref-" + d.ChargingID)
	c.sessions[ref] = d.ChargingID
	return ref, c.after
}

func (c *testCHF) UpdateCharging(_ context.Context, ref sbi.ChargingRef, d sbi.ChargingData) error {
	return c.known("update", ref, d)
}

func (c *testCHF) ReleaseCharging(_ context.Context, ref sbi.ChargingRef, d sbi.ChargingData) error {
	return c.known("release", ref, d)
}

func (c *testCHF) known(what string, ref sbi.ChargingRef, d sbi.ChargingData) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.before != nil {
		return c.before
	}
	if _, ok := c.sessions[ref]; !ok {
		return &sbi.Problem{Status: 404, Cause: sbi.CauseContextNotFound}
	}
	c.take(what, d)
	return c.after
}

// set changes the answers; an invocation under way is done.
func (c *testCHF) set(before, after error) {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before, c.after = before, after
}

func (c *testCHF) taken() []string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.got
	c.got = nil
	return g
}

func (c *testCHF) wantTotal(t *testing.T, up, down uint64) {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total.UplinkOctets != up || c.total.DownlinkOctets != down {
		t.Errorf("charged %d/%d octets, want %d/%d", c.total.UplinkOctets, c.total.DownlinkOctets, up, down)
	}
}

// report has the UPF report traffic of the one session.
func (h *harness) report(up, down uint64) {
	h.t.Helper()
	r := pfcp.UsageReport{URR: 1, Trigger: pfcp.TriggerPeriod, UplinkBytes: up, DownlinkBytes: down}
	if up+down > 0 {
		r.UplinkPackets, r.DownlinkPackets = 1, 2
	}
	h.upf.request(1, &pfcp.SessionReportRequest{Usage: []pfcp.UsageReport{r}})
}

// release has the AMF end the session and the UPF make its last report (1/0 octets).
func (h *harness) release(ref sbi.SMContextRef) {
	h.t.Helper()
	if err := h.smf.ReleaseSMContext(h.t.Context(), ref, sbi.ReleaseDeregistration); err != nil {
		h.t.Fatal(err)
	}
	synctest.Wait()
}

func charged(t *testing.T, f func(h *harness, c *testCHF)) {
	t.Helper()
	c := newTestCHF()
	bubble(t, func(cfg *Config, h *harness) { h.chf = c; cfg.Usage.Keep = time.Minute }, func(h *harness) { f(h, c) })
}

// TS 32.255 clause 5.2.2: a charging session for each PDU session, from its
// establishment to its end, with the traffic of each report once.
func TestCharging(t *testing.T) {
	charged(t, func(h *harness, c *testCHF) {
		create := h.context(imsi1)
		create.PEI = "imeisv-4370816125816151"
		ref, err := h.smf.CreateSMContext(h.t.Context(), create)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantStrings(t, "before the user plane is up", c.taken())
		up := h.setupResponse(gnbA)
		place := ident.Location{
			TAI:   ident.TAI{PLMN: create.GUAMI.PLMN, TAC: 7},
			NRCGI: ident.NRCGI{PLMN: create.GUAMI.PLMN, Cell: 9},
		}
		up.Location = &place
		begin := time.Now()
		h.update(ref, up)
		wantStrings(t, "established", c.taken(), "create 1")
		h.advance(time.Second)
		h.report(100, 2000)
		wantStrings(t, "first report", c.taken(), "update 2 100/2000")
		want := sbi.ChargingData{
			SMF: "smf-1", Sequence: 2, At: begin.Add(time.Second), ChargingID: c.last.ChargingID, SUPI: imsi1, PEI: create.PEI, Session: 5,
			DNN: "internet", SNSSAI: slice1, Address: h.session(imsi1).Address, UPF: "upf1", Location: place, AMBR: mbps, Started: begin,
			Used: &sbi.UsedUnits{
				UplinkOctets: 100, DownlinkOctets: 2000, UplinkPackets: 1, DownlinkPackets: 2, From: begin, To: begin.Add(time.Second),
			},
		}
		if d := cmp.Diff(want, c.last, cmpAddr); d != "" {
			t.Errorf("charging data (-want +got):\n%s", d)
		}
		h.report(0, 0)
		wantStrings(t, "a report without traffic", c.taken())
		h.release(ref)
		wantStrings(t, "the last report comes with the end", c.taken(), "release 3 1/0")
		c.wantTotal(t, 101, 2000)
		if c.last.Stopped.IsZero() || c.last.AMBR != mbps || c.last.UPF != "upf1" {
			t.Errorf("release %+v, want its end, AMBR and UPF", c.last)
		}
	})
}

// The CHF hears of another session AMBR at once, and of the same one not again.
func TestChargingHearsOfTheAMBR(t *testing.T) {
	charged(t, func(h *harness, c *testCHF) {
		ref := h.active(imsi1)
		c.taken()
		slow := ident.AMBR{Uplink: 32_000, Downlink: 64_000}
		done := h.setAMBR(slow)
		synctest.Wait()
		h.update(ref, sbi.UpdateSMContext{N1: n1(t, &nas.PDUSessionModificationComplete{SMHeader: nas.SMHeader{PDUSessionID: 5}})})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		wantStrings(t, "another AMBR", c.taken(), "update 2")
		if c.last.AMBR != slow || c.last.Used != nil {
			t.Errorf("the CHF was told %+v, want %v and no traffic", c.last, slow)
		}
		if err := <-h.setAMBR(slow); err != nil {
			t.Fatal(err)
		}
		wantStrings(t, "the same again", c.taken())
		h.report(10, 1)
		wantStrings(t, "traffic", c.taken(), "update 3 10/1")
	})
}

// A CHF that does not answer loses nothing: traffic waits, and an invocation whose
// answer was lost is repeated under its number.
func TestChargingRepeats(t *testing.T) {
	charged(t, func(h *harness, c *testCHF) {
		ref := h.active(imsi1)
		c.taken()
		c.set(errors.New("away"), nil)
		for range 3 {
			h.report(10, 1)
			h.advance(time.Second)
		}
		wantStrings(t, "with the CHF away", c.taken())
		c.set(nil, errors.New("answer lost"))
		h.advance(2 * chargingRetryMost)
		got := c.taken()
		if len(got) < 2 || got[0] != "update 2 10/1" || got[1] != got[0] {
			t.Fatalf("with answers lost the CHF got %q, want the first report again and again", got)
		}
		c.set(nil, nil)
		h.advance(chargingRetryMost)
		got = c.taken()
		wantStrings(t, "answered again: the repeat, and what had accumulated", got, "update 2 10/1", "update 3 20/2")
		c.wantTotal(t, 30, 3)
		h.release(ref)
		c.wantTotal(t, 31, 3)
	})
}

// A CHF that restarted without its sessions gets another Create with the traffic.
func TestChargingAfterRestartOfCHF(t *testing.T) {
	forget := func(c *testCHF) {
		synctest.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		clear(c.sessions)
	}
	charged(t, func(h *harness, c *testCHF) {
		ref := h.active(imsi1)
		c.taken()
		forget(c)
		h.report(10, 1)
		wantStrings(t, "forgotten before an update", c.taken(), "create 2 10/1")
		h.report(5, 1)
		wantStrings(t, "goes on", c.taken(), "update 3 5/1")
		forget(c)
		h.release(ref)
		wantStrings(t, "forgotten before the end", c.taken(), "create 4 1/0", "release 5")
		c.wantTotal(t, 16, 2)
	})
}

// The report of a session that has ended is kept for Usage.Keep, and then counted lost.
func TestChargingIsGivenUp(t *testing.T) {
	charged(t, func(h *harness, c *testCHF) {
		ref := h.active(imsi1)
		c.set(errors.New("away"), nil)
		h.release(ref)
		h.advance(50 * time.Second)
		if n := h.smf.Status().Counters.ChargingLost; n != 0 {
			t.Errorf("%d reports lost after 50 s, want none within Keep", n)
		}
		h.advance(20 * time.Second)
		if n := h.smf.Status().Counters.ChargingLost; n != 1 {
			t.Errorf("%d reports lost after 70 s, want 1", n)
		}
		c.taken()
		c.set(nil, nil)
		h.advance(time.Minute)
		wantStrings(t, "afterwards", c.taken())
	})
}

// delete_session of an operator: 5GSM cause #39 makes the UE come back (TS 24.501
// clause 6.3.3.3).
func TestRecreate(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		h.create(imsi1)
		synctest.Wait()
		h.active(supi(7))
		if err := h.smf.Recreate(h.t.Context(), supi(7), 5); err != nil {
			t.Fatal(err)
		}
		m := h.amf.taken()
		if len(m) != 1 || m[0].N2Type != sbi.N2ReleaseCommand {
			t.Fatalf("the AMF got %+v, want a release with the gNB's part", m)
		}
		if c := decodeN1[*nas.PDUSessionReleaseCommand](t, m[0].N1); c.Cause != nas.SMReactivationRequested {
			t.Errorf("5GSM cause %d, want 39", c.Cause)
		}
		if err := h.smf.Recreate(h.t.Context(), supi(7), 5); err != nil {
			t.Errorf("while it is released: %v, want nil", err)
		}
		if err := h.smf.Recreate(h.t.Context(), supi(8), 5); !isProblem(err, 404) {
			t.Errorf("unknown session: %v, want a Problem 404", err)
		}
	})
}

// A subscriber that was barred after registration gets no session, and is told why.
func TestSessionOfBarredSubscriber(t *testing.T) {
	bubble(t, func(_ *Config, h *harness) {
		h.udm.err = &sbi.Problem{Status: 403, Cause: sbi.CauseNoPSSubscription}
	}, func(h *harness) {
		h.create(imsi1)
		m := h.amf.taken()
		if len(m) != 1 {
			t.Fatalf("the AMF got %+v, want the reject", m)
		}
		if r := decodeN1[*nas.PDUSessionEstablishmentReject](t, m[0].N1); r.Cause != 8 {
			t.Errorf("5GSM cause %d, want 8, operator determined barring", r.Cause)
		}
	})
}

func TestSessionsOf(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		before := time.Now()
		h.active(imsi1)
		h.advance(time.Second)
		h.report(3, 4)
		list, err := h.smf.SessionsOf(h.t.Context(), imsi1)
		if err != nil || len(list) != 1 {
			t.Fatalf("SessionsOf = %+v, %v, want one session", list, err)
		}
		want := sbi.SessionInfo{
			SUPI: imsi1, Session: 5, DNN: "internet", SNSSAI: slice1, Address: h.session(imsi1).Address, UPF: "upf1", AMBR: mbps,
			State: "active", Created: before,
			Used: sbi.UsedUnits{
				UplinkOctets: 3, DownlinkOctets: 4, UplinkPackets: 1, DownlinkPackets: 2, From: before, To: before.Add(time.Second),
			},
		}
		if list[0] != want {
			t.Errorf("session\n got %+v\nwant %+v", list[0], want)
		}
		ref := h.create(supi(2))
		h.create(supi(3))
		if list, _ := h.smf.SessionsOf(h.t.Context(), ""); len(list) != 3 || list[0].SUPI > list[1].SUPI || list[1].SUPI > list[2].SUPI {
			t.Errorf("of all: %+v, want three in the order of their SUPIs", list)
		}
		h.release(ref)
		if list, err := h.smf.SessionsOf(h.t.Context(), supi(2)); err != nil || list == nil || len(list) != 0 {
			t.Errorf("after its release: %+v, %v, want an empty list", list, err)
		}
	})
}
