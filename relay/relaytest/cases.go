package relaytest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// checks are the cases, in the order in which they are run.
func checks() []check {
	both := func(f func(r *run, first, then func(client, device End) End)) (fromClient, fromDevice func(*run)) {
		client := func(c, _ End) End { return c }
		device := func(_, d End) End { return d }
		return func(r *run) { f(r, client, device) }, func(r *run) { f(r, device, client) }
	}
	var list []check
	add := func(name string, resets bool, f func(r *run, first, then func(client, device End) End)) {
		fromClient, fromDevice := both(f)
		list = append(list, check{name + "/client", resets, fromClient}, check{name + "/device", resets, fromDevice})
	}
	add("half-close", false, halfClose)
	list = append(list, check{"empty", false, empty})
	add("reset", true, resetTravels)
	add("reset-after-fin", true, resetAfterFIN)
	add("reset-while-stalled", true, resetWhileStalled)
	return append(list,
		check{"one-byte-writes", false, oneByteWrites},
		check{"bulk-both-ways", false, bulkBothWays},
		check{"narrow", false, narrow},
		check{"zero-window", false, zeroWindow},
		check{"simultaneous-close", false, simultaneousClose},
		check{"last-bytes", false, lastBytes},
		check{"refused", true, refused},
		check{"unreachable", true, unreachable},
		check{"silent", true, silent},
		check{"short-connections", false, shortConnections},
		check{"idle-connections", false, idleConnections},
	)
}

// halfClose: FIN of one side reaches the other after the bytes before it, and the other
// direction lives for as long as it likes.
func halfClose(r *run, first, then func(client, device End) End) {
	c, d := r.open()
	a, b := first(c, d), then(c, d)
	r.say(a, "last words")
	r.must(a.CloseWrite(), "FIN")
	r.hear(b, "last words", "what was sent before FIN")
	r.expectEnd(b, "FIN travels on")
	for range 3 {
		r.say(b, "answer")
		r.hear(a, "answer", "data against a half-closed direction")
	}
	n := int64(1 << 20)
	if r.Lossy {
		n = 128 << 10
	}
	sent := begin(func() error { return newStream(1).write(b, n) })
	r.must(newStream(1).verify(a, n), "bulk against a half-closed direction")
	r.all(sent)
	r.must(b.CloseWrite(), "FIN")
	r.expectEnd(a, "the second FIN")
}

// empty: a connection that carries nothing ends as others do.
func empty(r *run) {
	c, d := r.open()
	r.must(c.Close(), "close")
	r.expectEnd(d, "the client's close arrives as FIN")
}

// resetTravels: RST of one side becomes RST on the other.
func resetTravels(r *run, first, then func(client, device End) End) {
	c, d := r.open()
	a, b := first(c, d), then(c, d)
	r.say(a, "hello")
	r.hear(b, "hello", "before the reset")
	r.reset(a)
	r.expectReset(b)
}

// expectReset reads until e ends, which it must do with RST.
func (r *run) expectReset(e End) {
	if _, err := io.Copy(io.Discard, e); !isReset(err) {
		r.stop("the other side was reset: read ended with %v; want a reset", err)
	}
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// resetAfterFIN: a side that has sent FIN and then is gone is noticed though nobody
// reads from it any more. The other side, which is silent, learns of it within 10 s.
func resetAfterFIN(r *run, first, then func(client, device End) End) {
	c, d := r.open()
	a, b := first(c, d), then(c, d)
	r.must(a.CloseWrite(), "FIN")
	r.expectEnd(b, "FIN travels on")
	r.reset(a)
	// Reads say EOF now as before; writes fail once RST has come. A byte that leaves
	// before makes the relay notice by itself, so there is one every second at most.
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range 10 {
		if bad, known := failed(b); known {
			if bad {
				return
			}
		} else if _, err := b.Write([]byte("x")); isReset(err) {
			return
		}
		<-tick.C
	}
	r.stop("10 s after the reset that followed FIN the other side knows nothing of it")
}

// resetWhileStalled: a side that is gone is noticed though the other takes none of its
// bytes.
func resetWhileStalled(r *run, first, then func(client, device End) End) {
	c, d := r.open()
	a, b := first(c, d), then(c, d)
	if n := r.fill(a); n < 64<<10 {
		r.stop("only %d bytes could be sent", n)
	}
	r.reset(a)
	ended := begin(func() error {
		for { // RST says nothing to who does not read: but writes fail
			if _, err := b.Write([]byte("x")); err != nil {
				return err
			}
			pause := time.NewTimer(20 * time.Millisecond)
			<-pause.C
		}
	})
	select {
	case err := <-ended:
		if !isReset(err) {
			r.stop("the stalled side's write failed with %v; want a reset", err)
		}
	case <-time.After(10 * time.Second):
		r.stop("10 s after the reset the stalled side knows nothing of it")
	}
}

// fill writes until nothing more is taken, and returns how much was.
func (r *run) fill(to End) (n int64) {
	chunk := make([]byte, 256<<10)
	for {
		r.must(to.SetWriteDeadline(time.Now().Add(300*time.Millisecond)), "deadline")
		m, err := to.Write(chunk)
		n += int64(m)
		if isTimeout(err) {
			return n
		}
		r.must(err, "fill")
	}
}

// oneByteWrites: bytes one at a time, as a person types them, both ways at once.
func oneByteWrites(r *run) {
	n := 3000
	if r.Lossy {
		n = 100
	}
	c, d := r.open()
	write := func(to End, seed byte) func() error {
		return func() error {
			text := make([]byte, n)
			_, _ = newStream(seed).random.Read(text)
			for i := range text {
				if _, err := to.Write(text[i : i+1]); err != nil {
					return err
				}
			}
			return to.CloseWrite()
		}
	}
	up, down := begin(write(c, 1)), begin(write(d, 2))
	read := begin(func() error { return newStream(1).verify(d, int64(n)) })
	r.must(newStream(2).verify(c, int64(n)), "down")
	r.all(up, down, read)
	r.expectEnd(c, "FIN after the last byte")
	r.expectEnd(d, "FIN after the last byte")
}

// bulkBothWays: much, both ways at once, every byte of which is checked.
func bulkBothWays(r *run) {
	n := int64(64 << 20)
	switch {
	case r.Bulk != 0:
		n = r.Bulk
	case r.Lossy:
		n = 256 << 10
	case Full():
		n = 1 << 30
	}
	c, d := r.open()
	send := func(to End, seed byte) func() error {
		return func() error {
			return errors.Join(newStream(seed).write(to, n), to.CloseWrite())
		}
	}
	up, down := begin(send(c, 1)), begin(send(d, 2))
	read := begin(func() error { return newStream(1).verify(d, n) })
	r.must(newStream(2).verify(c, n), "down")
	r.all(up, down, read)
	r.expectEnd(c, "FIN after the last byte")
	r.expectEnd(d, "FIN after the last byte")
}

// zeroWindow: a device that does not read for a while loses nothing, and the other
// direction does not suffer.
func zeroWindow(r *run) {
	stall := time.Second
	if Full() {
		stall = 20 * time.Second
	}
	c, d := r.open()
	size := int64(24 << 20)
	if r.Lossy {
		size = 512 << 10
	}
	sent := begin(func() error {
		return errors.Join(newStream(1).write(c, size), c.CloseWrite())
	})
	over := time.NewTimer(stall)
	tick := time.NewTicker(stall / 20)
	defer tick.Stop()
	for stalled := true; stalled; {
		r.say(d, "alive")
		r.hear(c, "alive", "against a direction that is stalled")
		select {
		case <-over.C:
			stalled = false
		case <-tick.C:
		}
	}
	r.must(newStream(1).verify(d, size), "after the stall")
	r.all(sent)
	r.expectEnd(d, "FIN after the stall")
}

// simultaneousClose: both sides end at the same moment, and both get all.
func simultaneousClose(r *run) {
	rounds := 50
	if r.Lossy {
		rounds = 5
	}
	for range rounds {
		c, d := r.open()
		var wg sync.WaitGroup
		for _, e := range []End{c, d} {
			wg.Go(func() {
				_, _ = io.WriteString(e, "goodbye") // what is lost shows at the other end
				_ = e.CloseWrite()
			})
		}
		wg.Wait()
		for _, e := range []End{c, d} {
			r.hear(e, "goodbye", "simultaneous close")
			r.expectEnd(e, "simultaneous close")
		}
	}
}

// lastBytes: a side that sends and closes at once loses nothing, however slow the other
// reads.
func lastBytes(r *run) {
	n := int64(4 << 20)
	if r.Lossy {
		n = 256 << 10
	}
	c, d := r.open()
	sent := begin(func() error { return errors.Join(newStream(1).write(c, n), c.Close()) })
	pause := time.NewTimer(100 * time.Millisecond)
	<-pause.C
	r.must(newStream(1).verify(d, n), "what was sent before the close")
	r.all(sent)
	r.expectEnd(d, "the close")
}

// ends fails unless a client's connection at an address ends, or is not made, within a
// time.
func (r *run) ends(at netip.AddrPort, within time.Duration) {
	ctx, cancel := context.WithTimeout(r.t.Context(), within)
	defer cancel()
	dial := r.Dial
	if dial == nil {
		dial = func(ctx context.Context, at netip.AddrPort) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", at.String())
		}
	}
	c, err := dial(ctx, at)
	if err != nil {
		if ctx.Err() != nil {
			r.stop("neither connected nor refused within %s: %w", within, err)
		}
		return
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	r.must(c.SetDeadline(deadline), "deadline")
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || isTimeout(err) {
		r.stop("read %d bytes, %v; want the end of the connection within %s", n, err, within)
	}
}

// refused: a device that refuses ends the client's connection at once.
func refused(r *run) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	r.must(err, "listen")
	addr := addrPort(l.Addr())
	r.must(l.Close(), "close")
	at := r.Open(r.t, addr)
	r.ends(at, 10*time.Second)
}

// unreachable: so does one to which there is no way.
func unreachable(r *run) {
	if r.Unreachable.IsValid() {
		r.ends(r.Open(r.t, r.Unreachable), 10*time.Second)
	}
}

// silent: one that never answers does in the time that the relay says.
func silent(r *run) {
	if r.Silent.IsValid() {
		within := r.GivesUp
		if within == 0 {
			within = 10 * time.Second
		}
		r.ends(r.Open(r.t, r.Silent), within+5*time.Second)
	}
}

// echo serves every connection of the device until the test ends.
func (r *run) echo() {
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case c := <-r.accepted:
				wg.Go(func() {
					defer c.Close()
					stopped := make(chan struct{})
					defer close(stopped)
					wg.Go(func() {
						select {
						case <-ended:
							c.Close()
						case <-stopped:
						}
					})
					_, _ = io.Copy(c, c) // whatever happens shows at the client
				})
			case <-ended:
				return
			}
		}
	})
	r.t.Cleanup(func() { close(ended); wg.Wait() })
}

// shortConnections: many clients that connect, ask, hear and go.
func shortConnections(r *run) {
	n := 10_000
	switch {
	case r.Lossy:
		n = 40
	case !Full():
		n = 3000
	}
	r.echo()
	var left atomic.Int64
	left.Store(int64(n))
	work := func() error {
		return r.guard(func(r *run) {
			for left.Add(-1) >= 0 {
				c := r.dial(r.at)
				r.say(c, "request")
				r.must(c.CloseWrite(), "FIN")
				r.hear(c, "request", "the answer")
				r.expectEnd(c, "the end of the answer")
				r.must(c.Close(), "close")
			}
		})
	}
	var workers []<-chan error
	for range 16 {
		workers = append(workers, begin(work))
	}
	r.all(workers...)
}

// idleConnections: many connections that do nothing for a while are all alive after it.
func idleConnections(r *run) {
	n, idle := 5000, 2*time.Second
	if r.Idle != 0 {
		n = r.Idle
	}
	if Full() {
		idle = time.Minute
	}
	if r.Lossy {
		n = min(n, 40)
	}
	type pair struct{ client, device End }
	var pairs []pair
	for range n {
		c, d := r.open()
		pairs = append(pairs, pair{c, d})
		r.say(c, "hello")
	}
	pause := time.NewTimer(idle)
	<-pause.C
	for i, p := range pairs {
		r.hear(p.device, "hello", "before the idle time")
		r.say(p.device, "still here")
		r.hear(p.client, "still here", "after the idle time")
		if i%2 == 0 {
			r.must(p.client.Close(), "close")
			r.expectEnd(p.device, "the client's end")
		}
	}
}
