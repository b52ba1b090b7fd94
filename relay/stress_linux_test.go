package relay

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/testenv"
)

// world is what the connections of TestTasksOfAllKinds meet.
type world struct {
	*tasks
	seed    uint64
	inner   netip.AddrPort
	device  netip.AddrPort
	silent  netip.AddrPort
	nobody  netip.AddrPort
	pending sync.WaitGroup // owners that have not been told
	counts  [5]atomic.Int64
}

var errRandom = errors.New("by chance")

// serve accepts until the listener is closed.
func serve(l net.Listener, wg *sync.WaitGroup, f func(c *net.TCPConn, n uint64)) {
	wg.Go(func() {
		for n := uint64(0); ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f(c.(*net.TCPConn), n)
		}
	})
}

// sometime calls f a little later, or at once.
func sometime(r *rand.Rand, f func()) {
	if d := time.Duration(r.IntN(4000)-1000) * time.Microsecond; d > 0 {
		time.AfterFunc(d, f)
		return
	}
	f()
}

// greetOne is an inner relay with moods.
func (w *world) greetOne(c *net.TCPConn, n uint64) {
	r := rand.New(rand.NewPCG(w.seed, n))
	if r.IntN(20) == 0 {
		Abort(c)
		return
	}
	q, mood := w.greeting(r, time.Second)
	link := w.Greet(c, q)
	if mood == 5 {
		sometime(r, func() { link.Cut(errRandom) })
	}
}

// greeting is what an inner relay does with a request, or with several.
func (w *world) greeting(r *rand.Rand, timeout time.Duration) (_ Greeting, mood int) {
	mood = r.IntN(12)
	told, dial := w.once("Greet"), time.Duration(1+r.IntN(60))*time.Millisecond
	w.pending.Add(1)
	q := Greeting{
		Timeout: timeout, DialTimeout: dial,
		Requested: func(Request) (netip.AddrPort, Refusal) {
			switch mood {
			case 0:
				return netip.AddrPort{}, TicketInvalid
			case 1:
				return w.silent, ""
			case 2:
				return w.nobody, ""
			}
			return w.device, ""
		},
		Ended: func(outer, device *Socket, why Refusal, _ error) {
			told()
			defer w.pending.Done()
			switch {
			case why != "", outer == nil:
				return
			case mood == 3:
				outer.Abort()
				device.Abort()
				return
			}
			told := w.once("inner Join")
			w.pending.Add(1)
			link := w.Join(outer, device, 0, nil, func(Result) { told(); w.pending.Done() })
			if mood == 4 {
				link.Cut(errRandom)
			}
		},
	}
	if r.IntN(4) > 0 {
		q.Again = func(s *Socket) {
			q, mood := w.greeting(r, time.Duration(1+r.IntN(60))*time.Millisecond)
			w.counts[4].Add(1)
			if link := w.GreetAgain(s, q); mood == 5 {
				sometime(r, func() { link.Cut(errRandom) })
			}
		}
	}
	return q, mood
}

// callOne is an outer relay with a client.
func (w *world) callOne(t *testing.T, n uint64) {
	r := rand.New(rand.NewPCG(w.seed, n|1<<32))
	early := noise(r, r.IntN(2)*r.IntN(20_000))
	told := w.once("Call")
	answers := make(chan answer, 2)
	w.pending.Add(1)
	link := w.Call(Call{
		To: w.inner, Request: Request{Target: w.device, Ticket: "t"}, Timeout: time.Duration(1+r.IntN(120)) * time.Millisecond,
		Fresh:    r.IntN(8) == 0,
		Early:    func() []byte { return early },
		Answered: func(d *Socket, asked bool, err error) { told(); answers <- answer{d, asked, err}; w.pending.Done() },
	})
	mood := r.IntN(10)
	if mood == 0 {
		link.Cut(errRandom)
	}
	link.Begin()
	if mood == 1 {
		sometime(r, func() { link.Cut(errRandom) })
	}
	a := next(t, "an answer", answers)
	if a.err != nil {
		_, refused := errors.AsType[Refusal](a.err)
		switch {
		case refused:
			w.counts[1].Add(1)
		case errors.Is(a.err, errRandom) && mood <= 1, errors.Is(a.err, os.ErrDeadlineExceeded):
			w.counts[2].Add(1)
		default: // the inner relay was cut, or in a mood
			w.counts[3].Add(1)
		}
		return
	}
	w.counts[0].Add(1)
	if mood == 2 {
		a.device.Abort()
		return
	}
	near, client := tcpPair(t)
	defer client.Close()
	told = w.once("outer link")
	w.pending.Add(1)
	outer := w.link(near, a.device, len(early), r.IntN(3) == 0, func(Result) { told(); w.pending.Done() })
	client.SetDeadline(time.Now().Add(soon))
	switch mood {
	case 3:
		sometime(r, func() { outer.Cut(errRandom) })
	case 4:
		Abort(client)
		return
	}
	sent := noise(r, r.IntN([]int{10, 20_000, 100_000}[r.IntN(3)]))
	var wg sync.WaitGroup
	var werr error // the kernel tells of a reset once: either the writer or the reader
	wg.Go(func() {
		if _, werr = client.Write(sent); werr == nil {
			werr = client.CloseWrite()
		}
	})
	got, err := io.ReadAll(client)
	wg.Wait()
	if want := slices.Concat(early, sent); err == nil && werr == nil && !bytes.Equal(got, want) {
		t.Errorf("seed %d, connection %d: %d bytes came back in order; want the %d that were sent, or a reset", w.seed, n, len(got), len(want))
	}
}

// link relays on an event loop, or else on goroutines.
func (w *world) link(client *net.TCPConn, device *Socket, early int, goroutines bool, done func(Result)) *Link {
	if goroutines {
		b, err := device.Conn()
		if err != nil {
			panic(err)
		}
		return w.StartAfter(overTCP{client}, b, early, nil, done)
	}
	a, ok := NewSocket(client)
	if !ok {
		panic("no descriptor")
	}
	return w.Join(a, device, early, nil, done)
}

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Connections by the thousand, of which many are refused, cut, reset, late, or all of it:
// each owner is told once, and nothing is left.
func TestTasksOfAllKinds(t *testing.T) {
	w := &world{tasks: newTasks(t, 2), seed: rand.Uint64(), silent: testenv.SilentAddress(t), nobody: testenv.FreePort(t)}
	defer func() {
		t.Logf("seed %d: %d connected, %d refused, %d cut or late, %d reset, %d times again", w.seed, w.counts[0].Load(), w.counts[1].Load(), w.counts[2].Load(), w.counts[3].Load(), w.counts[4].Load())
	}()
	listener := func() (net.Listener, netip.AddrPort) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l, l.Addr().(*net.TCPAddr).AddrPort()
	}
	var accepting, devices sync.WaitGroup
	li, inner := listener()
	ld, device := listener()
	w.inner, w.device = inner, device
	serve(li, &accepting, w.greetOne)
	serve(ld, &accepting, func(c *net.TCPConn, n uint64) {
		if rand.New(rand.NewPCG(w.seed, n|1<<33)).IntN(10) == 0 {
			Abort(c)
			return
		}
		devices.Go(func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(soon))
			io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) // without the pipes of package net
		})
	})
	end := time.Now().Add(3 * time.Second)
	var number atomic.Uint64
	var clients sync.WaitGroup
	for range 32 {
		clients.Go(func() {
			for time.Now().Before(end) {
				w.callOne(t, number.Add(1))
			}
		})
	}
	clients.Wait()
	li.Close()
	ld.Close()
	accepting.Wait()
	w.pending.Wait()
	devices.Wait()
	if w.counts[0].Load() == 0 || w.counts[1].Load() == 0 || w.counts[2].Load() == 0 || w.counts[4].Load() == 0 {
		t.Error("something never happened")
	}
}

// The same world ends in the middle of everything.
func TestTasksOfAllKindsStop(t *testing.T) {
	for range 10 {
		w := &world{tasks: newTasks(t, 2), seed: rand.Uint64(), silent: testenv.SilentAddress(t), nobody: testenv.FreePort(t)}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		w.inner, w.device = l.Addr().(*net.TCPAddr).AddrPort(), w.nobody
		var accepting, calls sync.WaitGroup
		serve(l, &accepting, w.greetOne)
		var n atomic.Int64
		enough := make(chan struct{})
		for range 200 {
			calls.Add(1)
			told := w.once("Call")
			link := w.Call(Call{
				To: w.inner, Request: Request{Target: w.device, Ticket: "t"}, Timeout: soon,
				Answered: func(d *Socket, _ bool, _ error) {
					told()
					if d != nil {
						d.Abort()
					}
					if n.Add(1) == 50 {
						close(enough)
					}
					calls.Done()
				},
			})
			link.Begin()
		}
		next(t, "some are answered", enough)
		w.stop()
		calls.Wait()
		l.Close()
		accepting.Wait()
		w.pending.Wait()
	}
}
