package relay

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"
)

// runRelayer runs r until the test ends, or stop is called.
func runRelayer(t testing.TB, r *Relayer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	<-r.Ready()
	return stop
}

func TestConfig(t *testing.T) {
	for _, c := range []Config{{IdleTimeout: -1}, {Loops: -1}, {Loops: 65}} {
		if _, err := NewRelayer(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

// Links that live when the relayer stops are cut; those that come later, too.
func TestStop(t *testing.T) {
	for _, as := range []carrier{onLoop, asUserspace} {
		t.Run(as.name, func(t *testing.T) {
			r, err := NewRelayer(Config{})
			if err != nil {
				t.Fatal(err)
			}
			stop := runRelayer(t, r)
			ended := make(chan Result, 2)
			start := func() *bench {
				a, client := tcpPair(t)
				b, device := tcpPair(t)
				x := &bench{client: client, device: device}
				x.link = r.Start(as.conn(a), as.conn(b), nil, func(res Result) { ended <- res })
				return x
			}
			x := start()
			send(t, x.client, "hello")
			expect(t, x.device, "hello", "before the stop")
			stop()
			select {
			case res := <-ended:
				if res.Cause != Cut || !errors.Is(res.Err, ErrStopped) {
					t.Errorf("a link that lived: %+v; want cut with ErrStopped", res)
				}
			default:
				t.Error("Run returned before done was called")
			}
			expectReset(t, x.client, "the relayer stopped")
			expectReset(t, x.device, "the relayer stopped")
			y := start()
			if res := <-ended; res.Cause != Cut || !errors.Is(res.Err, ErrStopped) {
				t.Errorf("a link after the end: %+v; want cut with ErrStopped", res)
			}
			expectReset(t, y.client, "after the end")
			y.link.Cut(nil) // does nothing
		})
	}
}

// A link may be started before Run.
func TestStartBeforeRun(t *testing.T) {
	r, err := NewRelayer(Config{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan Result, 2)
	var xs []*bench
	for range 2 {
		a, client := tcpPair(t)
		b, device := tcpPair(t)
		xs = append(xs, &bench{client: client, device: device, link: r.Start(a, b, nil, func(res Result) { ended <- res })})
	}
	send(t, xs[0].client, "early")
	xs[1].link.Cut(io.ErrNoProgress)
	runRelayer(t, r)
	expect(t, xs[0].device, "early", "sent before Run")
	if res := <-ended; res.Cause != Cut || res.Err != io.ErrNoProgress {
		t.Errorf("a link that was cut before Run: %+v", res)
	}
	// The loop counts what it has written before it looks at the answer.
	send(t, xs[0].device, "late")
	expect(t, xs[0].client, "late", "the answer")
	if up, _ := xs[0].link.Bytes(); up != 5 {
		t.Errorf("%d bytes went up; want 5", up)
	}
}

// A relayer that never runs leaves nothing behind when it is told to stop at once.
func TestStartWithoutRunning(t *testing.T) {
	r, err := NewRelayer(Config{})
	if err != nil {
		t.Fatal(err)
	}
	a, client := tcpPair(t)
	b, _ := tcpPair(t)
	ended := make(chan Result, 1)
	r.Start(a, b, nil, func(res Result) { ended <- res })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if res := <-ended; res.Cause != Cut {
		t.Errorf("result %+v; want cut", res)
	}
	expectReset(t, client, "the relayer stopped")
}

func TestIdleTimeout(t *testing.T) {
	forAll(t, func(t *testing.T, as carrier) {
		const idle = 200 * time.Millisecond
		a, client := tcpPair(t)
		b, device := tcpPair(t)
		ended := make(chan Result, 1)
		as.relayer(t, Config{IdleTimeout: idle}).Start(as.conn(a), as.conn(b), nil, func(r Result) { ended <- r })
		tick := time.NewTicker(idle / 4)
		defer tick.Stop()
		var last time.Time
		for i := range 12 { // three times the timeout, with traffic one way or the other
			from, to := client, device
			if i%2 == 1 {
				from, to = device, client
			}
			last = time.Now()
			send(t, from, "x")
			expect(t, to, "x", "a link that is not idle")
			<-tick.C
		}
		select {
		case r := <-ended:
			if r.Cause != Idle || r.Err != ErrIdle {
				t.Errorf("result %+v; want idle", r)
			}
			if took := time.Since(last); took < idle {
				t.Errorf("cut %s after the last byte; want at least %s", took, idle)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("an idle link lives")
		}
		expectReset(t, client, "idle")
		expectReset(t, device, "idle")
	})
}

// Many links, of which some are busy: those that are not are the ones to go.
func TestIdleTimeoutOfMany(t *testing.T) {
	const n, idle = 60, 300 * time.Millisecond
	r := onLoop.relayer(t, Config{IdleTimeout: idle, Loops: 1})
	ended := make(chan int, n)
	benches := make([]bench, n)
	for i := range benches {
		a, client := tcpPair(t)
		b, device := tcpPair(t)
		benches[i] = bench{client: client, device: device}
		r.Start(a, b, nil, func(res Result) {
			if res.Cause != Idle {
				t.Errorf("link %d: %+v", i, res)
			}
			ended <- i
		})
	}
	tick := time.NewTicker(idle / 6)
	defer tick.Stop()
	for len(ended) < n-n/3 {
		for i := 0; i < n; i += 3 {
			send(t, benches[i].client, "x")
			expect(t, benches[i].device, "x", "a busy link")
		}
		<-tick.C
	}
	for range n - n/3 {
		if i := <-ended; i%3 == 0 {
			t.Errorf("link %d was busy and ended", i)
		}
	}
	for range n / 3 {
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("links that are idle by now live on")
		}
	}
}

func TestCutIsIdempotent(t *testing.T) {
	forAll(t, func(t *testing.T, as carrier) {
		x := newBench(t, as)
		first := errors.New("first")
		x.link.Cut(first)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { x.link.Cut(errors.New("later")) })
		}
		wg.Wait()
		if r := x.wait(t, "it was cut"); r.Cause != Cut || r.Err != first {
			t.Errorf("result %+v; want the first reason", r)
		}
		x.link.Cut(nil)
	})
}
