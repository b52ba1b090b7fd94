package smf

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

func sessionEvent(n int, addr string) sbi.SessionEvent {
	return sbi.SessionEvent{SUPI: supi(n), Session: 1, DNN: "internet", UPF: "upf1", Address: ident.UEAddress{V4: netip.MustParseAddr(addr)}}
}

func brief(list []sbi.SessionEvent) []string {
	var out []string
	for _, e := range list {
		out = append(out, fmt.Sprintf("%s %s %s %s", e.Type, e.SUPI.IMSI()[12:], e.Address.V4, e.UPF))
	}
	return out
}

func TestDirectory(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	d := newDirectory(100, func() time.Time { return at })
	s := d.subscribe(false)
	old, successor := new(int), new(int)

	d.established(old, sessionEvent(1, "10.0.0.1"))
	d.established(old, sessionEvent(1, "10.0.0.1"))
	wantStrings(t, "once", brief(d.take(s)), "PDU_SES_EST 001 10.0.0.1 upf1")

	d.established(successor, sessionEvent(1, "10.0.0.2"))
	wantStrings(t, "only the address changed", brief(d.take(s)), "UE_IP_CH 001 10.0.0.2 upf1")

	moved := sessionEvent(1, "10.0.0.2")
	moved.UPF = "upf2"
	d.established(successor, moved)
	wantStrings(t, "elsewhere", brief(d.take(s)), "PDU_SES_REL 001 10.0.0.2 upf1", "PDU_SES_EST 001 10.0.0.2 upf2")

	d.released(old, sessionKey{supi(1), 1})
	wantStrings(t, "not the owner", brief(d.take(s)))
	d.released(successor, sessionKey{supi(1), 1})
	d.released(successor, sessionKey{supi(1), 1})
	wantStrings(t, "released", brief(d.take(s)), "PDU_SES_REL 001 10.0.0.2 upf2")
}

// TestImmediateReport: TS 29.508 clause 4.2.3, the sessions that exist come first.
func TestImmediateReport(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		h.active(supi(1))
		with, without := h.events(true), h.events(false)
		wantStrings(t, "with immediate report", with(), "PDU_SES_EST 001/5 10.45.0.2 upf1")
		wantStrings(t, "without", without())
		h.active(supi(2))
		wantStrings(t, "then both", with(), "PDU_SES_EST 002/5 10.45.0.3 upf1")
		wantStrings(t, "then both", without(), "PDU_SES_EST 002/5 10.45.0.3 upf1")
	})
}

func TestCancelSubscription(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		var mu sync.Mutex
		n := 0
		cancel, err := h.smf.Subscribe(h.t.Context(), sbi.EventSubscription{}, func(sbi.SessionEvent) {
			mu.Lock()
			defer mu.Unlock()
			n++
		})
		if err != nil {
			t.Fatal(err)
		}
		h.active(supi(1))
		cancel()
		cancel()
		h.active(supi(2))
		mu.Lock()
		defer mu.Unlock()
		if n != 1 || h.smf.Status().Subscribers != 0 {
			t.Errorf("got %d events, %d subscribers, want 1 and 0", n, h.smf.Status().Subscribers)
		}
	})
}

// TestSlowSubscriber: one that does not keep up delays nobody, and ends with the
// truth.
func TestSlowSubscriber(t *testing.T) {
	bubble(t, func(c *Config, _ *harness) { c.EventQueue = 4 }, func(h *harness) {
		h.active(supi(0))
		hold := make(chan struct{})
		var mu sync.Mutex
		var got []sbi.SessionEvent
		_, err := h.smf.Subscribe(h.t.Context(), sbi.EventSubscription{ImmediateReport: true}, func(e sbi.SessionEvent) {
			<-hold
			mu.Lock()
			defer mu.Unlock()
			got = append(got, e)
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i <= 20; i++ {
			ref := h.active(supi(i))
			if i%2 == 0 {
				if err := h.smf.ReleaseSMContext(h.t.Context(), ref, ""); err != nil {
					t.Fatal(err)
				}
			}
		}
		h.active(supi(0)) // the one that it was told of, at another address
		close(hold)
		synctest.Wait()
		if n := h.smf.Status().Counters.EventResyncs; n != 1 {
			t.Errorf("got %d overflows, want 1", n)
		}

		believed := map[ident.SUPI]string{}
		mu.Lock()
		defer mu.Unlock()
		for _, e := range got {
			if e.Type == sbi.SessionReleased {
				delete(believed, e.SUPI)
			} else {
				believed[e.SUPI] = e.Address.V4.String()
			}
		}
		var want int
		for _, s := range h.smf.Status().Sessions {
			want++
			if believed[s.SUPI] != s.Address.V4.String() {
				t.Errorf("%s: the subscriber believes %q, true is %s", s.SUPI, believed[s.SUPI], s.Address.V4)
			}
		}
		if len(believed) != want || want != 11 {
			t.Errorf("the subscriber believes in %d sessions, there are %d, want 11", len(believed), want)
		}
	})
}

// TestReported: whoever asked for the present sessions is told when it has them all,
// once, also if there are none.
func TestReported(t *testing.T) {
	for _, sessions := range []int{0, 3} {
		t.Run(fmt.Sprint(sessions), func(t *testing.T) {
			bubble(t, nil, func(h *harness) {
				for i := range sessions {
					h.active(supi(i))
				}
				var mu sync.Mutex
				var got []string
				add := func(s string) {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, s)
				}
				want := make([]string, sessions)
				for i := range want {
					want[i] = string(sbi.SessionEstablished)
				}
				cancel, err := h.smf.Subscribe(h.t.Context(),
					sbi.EventSubscription{ImmediateReport: true, Reported: func() { add("reported") }},
					func(e sbi.SessionEvent) { add(string(e.Type)) })
				if err != nil {
					t.Fatal(err)
				}
				defer cancel()
				synctest.Wait()
				h.active(supi(9))
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				wantStrings(t, "in order", got, append(want, "reported", string(sbi.SessionEstablished))...)
			})
		})
	}
}
