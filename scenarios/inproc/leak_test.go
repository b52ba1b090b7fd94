package inproc

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/scenariotest"
	"github.com/simreach/simreach/ue"
)

// usage is what this process holds.
type usage struct {
	goroutines, files int
	heap              uint64 // bytes alive
}

func measure(t *testing.T) usage {
	t.Helper()
	var m runtime.MemStats
	for range 3 { // pools and finalizers take more than one
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return usage{runtime.NumGoroutine(), len(files), m.HeapAlloc}
}

// leftovers lists what the network functions still hold although every UE has
// deregistered.
func (t *topology) leftovers() []string {
	t.parts.mu.Lock()
	defer t.parts.mu.Unlock()
	var out []string
	add := func(n int, format string, args ...any) {
		if n != 0 {
			out = append(out, fmt.Sprintf(format, args...)+fmt.Sprintf(": %d, want none", n))
		}
	}
	a := t.parts.amf.Status()
	for _, u := range a.UEs {
		add(1, "AMF: %s in %s, connected %v, sessions %d", u.SUPI, u.State, u.Connected, len(u.Sessions))
	}
	for _, g := range a.GNBs {
		add(g.UEs, "AMF: connections through %s", g.Name)
	}
	s := t.parts.smf.Status()
	add(len(s.Sessions), "SMF: sessions")
	for _, u := range s.UPFs {
		add(u.Sessions, "SMF: sessions on %s", u.Name)
		for _, p := range u.Pools {
			add(p.Used, "SMF: addresses of %s on %s", p.DNN, u.Name)
		}
	}
	d := t.parts.udm.Status()
	// Its challenges stay until they expire, so that a lost answer can be asked for again.
	add(d.AMFs, "UDM: AMF registrations")
	add(d.Sessions, "UDM: SMF registrations")
	for name, u := range t.parts.upfs {
		st := u.Status()
		add(len(st.Sessions), "%s: PFCP sessions", name)
		add(st.Datapath.Sessions, "%s: sessions of the datapath", name)
	}
	for name, g := range t.parts.gnbs {
		st := g.Status()
		add(st.UEs, "%s: UE contexts", name)
		add(st.Sessions, "%s: PDU session resources", name)
	}
	for name, u := range t.parts.ues {
		for _, x := range u.UE.Status().Sessions {
			if x.State != ue.SMInactive {
				add(1, "%s: session %d in %s", name, x.Info.ID, x.State)
			}
		}
	}
	return out
}

// steady returns a check that the number of goroutines has not changed for a while:
// spare ones end after a second without work.
func steady() func() []string {
	const quiet = 1500 * time.Millisecond
	last, since := runtime.NumGoroutine(), time.Now()
	return func() []string {
		if n := runtime.NumGoroutine(); n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) < quiet {
			return []string{fmt.Sprintf("%d goroutines, not yet for long", last)}
		}
		return nil
	}
}

// TestHundredUEsLeaveNothing has a hundred UEs register, answer one relayed HTTP
// request each and deregister, five times over, and compares what the process
// holds. The first round leaves what is made once, at first use (connections between
// relays, manager and core, the database's connections, pools): goroutines must go back
// to what there was after it. What a round leaves on the heap for a while is bounded by
// time: PFCP answers and authentication challenges that may be asked for again, audit
// records in the relays' logs, endpoints in TIME-WAIT.
func TestHundredUEsLeaveNothing(t *testing.T) {
	const (
		limit  = 60 * time.Second
		growth = 400 << 10 // of the heap from round to round
	)
	s := scenariotest.Library(t, "hundred-ues", "")
	start := time.Now()
	l, err := New().Start(t.Context(), s, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	top, ok := l.(*topology)
	if !ok {
		t.Fatalf("a lab is a %T", l)
	}
	defer func() {
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	scenariotest.Perform(t, s, l)
	scenariotest.Settle(t, top.leftovers)
	scenariotest.Settle(t, steady())
	before := measure(t)
	var rounds []usage
	for range 4 {
		began := time.Now()
		scenariotest.Perform(t, s, l)
		took := time.Since(began)
		scenariotest.Settle(t, top.leftovers)
		scenariotest.Settle(t, func() (out []string) {
			if n := runtime.NumGoroutine(); n > before.goroutines {
				stacks := make([]byte, 1<<20)
				out = append(out, fmt.Sprintf("%d goroutines, %d after the first round\n%s", n, before.goroutines, stacks[:runtime.Stack(stacks, true)]))
			}
			return out
		})
		u := measure(t)
		t.Logf("round of %v: %d goroutines (%d before), %d files (%d before), %d KB alive (%d before)",
			took.Round(time.Millisecond),
			u.goroutines, before.goroutines, u.files, before.files, u.heap>>10, before.heap>>10)
		rounds = append(rounds, u)
	}
	second, last := rounds[1], rounds[3]
	if last.files > second.files {
		t.Errorf("%d files are open after four rounds, %d after two", last.files, second.files)
	}
	if last.heap > second.heap+2*growth {
		t.Errorf("two rounds leave %d KB on the heap, want at most %d", (last.heap-second.heap)>>10, 2*growth>>10)
	}
	if d := time.Since(start); d > limit {
		t.Errorf("took %v, want at most %v", d, limit)
	}
}
