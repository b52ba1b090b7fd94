package rpc

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/manager"
)

// played is the manager's end of a line that a test plays.
type played struct {
	net.Conn
	in *frames
}

// lineTo runs a line of a desk over a pipe; ended gets what run returns.
func lineTo(t *testing.T, d *desk) (p *played, ended <-chan error) {
	ours, theirs := net.Pipe()
	l := newLine(ours, d)
	d.attach([]*line{l})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	ch := make(chan error, 1)
	go func() { ch <- l.run(ctx) }()
	return &played{theirs, newFrames(theirs, maxQuestion)}, ch
}

// next returns the next question, or false for a ping.
func (p *played) next(t *testing.T) (question, bool) {
	t.Helper()
	for {
		m, ok, err := p.in.next()
		if err == nil && !ok {
			if err = p.in.fill(); err == nil {
				continue
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(m) == 0 {
			return question{}, false
		}
		q, err := parseQuestion(m)
		if err != nil {
			t.Fatal(err)
		}
		return q, true
	}
}

func (p *played) send(t *testing.T, b []byte) {
	t.Helper()
	if _, err := p.Write(b); err != nil {
		t.Fatal(err)
	}
}

var (
	someQuestion = manager.ResolveRequest{Hit: netip.MustParseAddrPort("192.0.2.1:40000"), ConnectionID: "c"}
	someRoute    = manager.Route{Device: netip.MustParseAddrPort("10.0.0.1:22"), Inner: netip.MustParseAddrPort("192.0.2.9:9000")}
)

type outcomeOf struct {
	route manager.Route
	err   error
}

func (d *desk) asking(q manager.ResolveRequest, deadline time.Time) chan outcomeOf {
	ch := make(chan outcomeOf, 2) // a second answer would be seen
	d.ask(&q, "", deadline, func(r manager.Route, err error) { ch <- outcomeOf{r, err} })
	return ch
}

// Answers come in any order; those that nobody waits for are passed over.
func TestAnswersInAnyOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(false, 0)
		p, ended := lineTo(t, d)
		begin := time.Now()
		a, b, c := d.asking(someQuestion, time.Time{}), d.asking(someQuestion, time.Time{}), d.asking(someQuestion, begin.Add(time.Second))
		var ids []uint64
		for range 3 {
			q, _ := p.next(t)
			ids = append(ids, q.id)
		}
		if out := <-c; out.err != context.DeadlineExceeded || time.Since(begin) != time.Second {
			t.Errorf("after %s: %v; want its deadline after 1s", time.Since(begin), out.err)
		}
		r1, r2 := someRoute, someRoute
		r1.ConnectionID, r2.ConnectionID = "first", "second"
		var all []byte
		for _, f := range [][]byte{appendRoute(nil, ids[2], &r1), appendRoute(nil, 999, &r1), appendRoute(nil, ids[1], &r2), appendRoute(nil, ids[1], &r1), appendRoute(nil, ids[0], &r1)} {
			all = append(all, f...)
		}
		p.send(t, all)
		if out := <-a; out.err != nil || out.route.ConnectionID != "first" {
			t.Errorf("first question: %+v", out)
		}
		if out := <-b; out.err != nil || out.route.ConnectionID != "second" {
			t.Errorf("second question: %+v", out)
		}
		p.Close()
		<-ended
		d.close()
		synctest.Wait()
		if len(a)+len(b)+len(c) > 0 {
			t.Error("a question was answered twice")
		}
	})
}

// A manager that is silent is asked whether it is there, and is gone if it does not say.
func TestSilentManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(false, 0)
		p, ended := lineTo(t, d)
		begin := time.Now()
		for range 10 {
			if _, is := p.next(t); is {
				t.Error("a question; want a ping")
			}
			p.send(t, appendPing(nil))
		}
		if took := time.Since(begin); took < 10*time.Second || took > 30*time.Second {
			t.Errorf("10 pings took %s", took)
		}
		select {
		case err := <-ended:
			t.Fatalf("ended although pings were answered: %v", err)
		default:
		}
		begin = time.Now()
		a := d.asking(someQuestion, time.Time{})
		go p.in.fill() // it reads no more than a little
		if err := <-ended; !errors.Is(err, errSilent) {
			t.Errorf("ended: %v; want errSilent", err)
		}
		if took := time.Since(begin); took > 5*pingSilence {
			t.Errorf("it took %s to notice", took)
		}
		if out := <-a; !errors.Is(out.err, manager.CodeManagerAway) {
			t.Errorf("the question: %v; want %s", out.err, manager.CodeManagerAway)
		}
		p.Close()
		d.close()
	})
}

// A manager that says what cannot be ends the line; its questions are asked on the next.
func TestMalformedAnswers(t *testing.T) {
	for name, b := range map[string][]byte{
		"too long":           {0x7f, 0xff, 0xff, 0xff},
		"no message":         {0, 0, 0, 2, 0xff, 0xff},
		"without an outcome": {0, 0, 0, 2, 0x08, 0x01},
		"without a device":   appendRoute(nil, 1, &manager.Route{Inner: someRoute.Inner}),
		"without a code":     appendFailure(nil, 1, &manager.Error{}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(true, time.Minute)
				p, ended := lineTo(t, d)
				a := d.asking(someQuestion, time.Now().Add(time.Hour))
				p.next(t)
				p.send(t, b)
				if err := <-ended; !errors.Is(err, errMessage) {
					t.Errorf("ended: %v; want errMessage", err)
				}
				p, ended = lineTo(t, d)
				q, _ := p.next(t)
				p.send(t, appendRoute(nil, q.id, &someRoute))
				if out := <-a; out.err != nil {
					t.Errorf("asked again: %v", out.err)
				}
				p.Close()
				<-ended
				d.close()
			})
		})
	}
}

// A question waits for the next manager as long as it may, whatever it had before.
func TestParkedQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(true, 2*time.Second)
		begin := time.Now()
		short, long := d.asking(someQuestion, begin.Add(time.Second)), d.asking(someQuestion, begin.Add(time.Hour))
		none := d.asking(someQuestion, time.Time{})
		if out := <-short; out.err != context.DeadlineExceeded || time.Since(begin) != time.Second {
			t.Errorf("after %s: %v; want the deadline after 1s", time.Since(begin), out.err)
		}
		p, ended := lineTo(t, d)
		p.next(t)
		p.next(t)
		// The manager says that it has ended the attachment: that is no answer.
		p.send(t, appendFailure(nil, 2, manager.NewError(manager.CodeRelayNotAttached)))
		<-ended
		for _, ch := range []chan outcomeOf{long, none} {
			if out := <-ch; !errors.Is(out.err, manager.CodeManagerAway) || time.Since(begin) != 2*time.Second {
				t.Errorf("after %s: %v; want %s after 2s", time.Since(begin), out.err, manager.CodeManagerAway)
			}
		}
		d.close()
		if out := <-d.asking(someQuestion, time.Time{}); !errors.Is(out.err, manager.CodeManagerAway) {
			t.Errorf("when it is over: %v; want %s", out.err, manager.CodeManagerAway)
		}
		if len(d.open) > 0 || len(d.timed) > 0 || len(d.parked) > 0 {
			t.Error("a question is left")
		}
	})
}

// Deadlines need not come in order.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(true, time.Hour)
		begin := time.Now()
		late := d.asking(someQuestion, begin.Add(3*time.Second))
		early := d.asking(someQuestion, begin.Add(time.Second))
		between := d.asking(someQuestion, begin.Add(2*time.Second))
		over := d.asking(someQuestion, begin.Add(-time.Second))
		for i, ch := range []chan outcomeOf{over, early, between, late} {
			if out := <-ch; out.err != context.DeadlineExceeded || time.Since(begin) != time.Duration(i)*time.Second {
				t.Errorf("question %d after %s: %v", i, time.Since(begin), out.err)
			}
		}
		d.close()
	})
}

// What the manager would take for malformed is not asked: it would end the connection of
// all others.
func TestUnaskable(t *testing.T) {
	long := someQuestion
	long.Target = strings.Repeat("x", maxQuestion)
	for _, c := range []struct {
		q    manager.ResolveRequest
		want manager.Code
	}{{long, manager.CodeConnUnknownTarget}, {manager.ResolveRequest{}, manager.CodeUnknownEntry}} {
		d := newDesk(true, time.Hour)
		if out := <-d.asking(c.q, time.Time{}); !errors.Is(out.err, c.want) {
			t.Errorf("%v; want %s", out.err, c.want)
		}
		d.close()
	}
	// The longest that is asked is taken.
	long.Target = strings.Repeat("x", maxQuestion-64-len(long.ConnectionID))
	long.Client = netip.MustParseAddrPort("[2001:db8::1]:1")
	if err := askable(&long, ""); err != nil {
		t.Error(err)
	}
	if n := len(appendQuestion(nil, 1<<63, &long, "")); n > maxQuestion+lengthSize {
		t.Errorf("%d bytes; want at most %d", n, maxQuestion+lengthSize)
	}
}

// As many as there may be are asked again at once when a manager goes: who asks meanwhile
// waits.
func TestManyQuestionsMove(t *testing.T) {
	d := newDesk(true, time.Hour)
	a, b := newLine(nil, d), newLine(nil, d)
	d.attach([]*line{a})
	begin := time.Now()
	for i := range maxOpen {
		d.ask(&someQuestion, "", begin.Add(time.Hour+time.Duration(i)*time.Microsecond), func(manager.Route, error) {})
	}
	begin = time.Now()
	d.lost(a)
	d.attach([]*line{b})
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("%d questions took %s to move", maxOpen, took)
	}
	if len(d.timed) != maxOpen || len(d.parked) > 0 {
		t.Errorf("%d asked, %d waiting; want %d asked", len(d.timed), len(d.parked), maxOpen)
	}
	d.close()
}

// There is a bound to what is not answered.
func TestTooManyQuestions(t *testing.T) {
	d := newDesk(true, time.Hour)
	n := 0
	for range maxOpen {
		d.ask(&someQuestion, "", time.Time{}, func(manager.Route, error) { n++ })
	}
	if n > 0 {
		t.Errorf("%d answers", n)
	}
	if out := <-d.asking(someQuestion, time.Time{}); !errors.Is(out.err, errTooMany) {
		t.Errorf("one more: %v; want errTooMany", out.err)
	}
	if d.close(); n != maxOpen {
		t.Errorf("%d answers at the end; want %d", n, maxOpen)
	}
}

// A manager that refuses a line says why, and is not listened to for longer.
func TestLineRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		go func() {
			if _, err := http.ReadRequest(bufio.NewReader(theirs)); err != nil {
				t.Error(err)
			}
			theirs.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9999\r\n\r\nThe relay is not attached.\n"))
			theirs.Write(make([]byte, maxDetail))
		}()
		e := &endpoint{address: "192.0.2.1:1", secret: "s", dial: func(context.Context, string, string) (net.Conn, error) { return ours, nil }}
		begin := time.Now()
		_, err := e.line(t.Context(), "s", newDesk(false, 0))
		if !errors.Is(err, errMessage) || !strings.Contains(err.Error(), "not attached") {
			t.Errorf("%v; want what the manager said", err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("after %s; want at once", took)
		}
		theirs.Close()
	})
}
