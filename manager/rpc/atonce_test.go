//go:build unix

package rpc

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/simreach/simreach/manager"
)

// tcpLine is a line of a desk over TCP that nobody runs yet.
func tcpLine(t *testing.T, d *desk) (*line, *played) {
	t.Helper()
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	ours, err := net.Dial("tcp", at.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := at.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	l := newLine(ours, d)
	d.attach([]*line{l})
	return l, &played{theirs, newFrames(theirs, maxQuestion)}
}

func runLine(t *testing.T, l *line) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
}

// Who asks on an idle line writes the question, with no other goroutine; what is asked
// while one is open leaves it to the line.
func TestIdleLineIsWrittenAtOnce(t *testing.T) {
	d := newDesk(false, 0)
	defer d.close()
	l, p := tcpLine(t, d)
	first := d.asking(someQuestion, time.Time{})
	q, _ := p.next(t)
	second := d.asking(someQuestion, time.Time{})
	d.mu.Lock()
	waits := len(l.out)
	d.mu.Unlock()
	if waits == 0 {
		t.Error("a second question did not wait for the line")
	}
	runLine(t, l)
	q2, _ := p.next(t)
	p.send(t, appendRoute(appendRoute(nil, q.id, &someRoute), q2.id, &someRoute))
	for i, ch := range []chan outcomeOf{first, second} {
		if out := <-ch; out.err != nil {
			t.Errorf("question %d: %v", i+1, out.err)
		}
	}
	third := d.asking(someQuestion, time.Time{}) // idle again, and run does not write first
	q, _ = p.next(t)
	p.send(t, appendRoute(nil, q.id, &someRoute))
	if out := <-third; out.err != nil {
		t.Error(out.err)
	}
}

// A connection without room for a question, or for all of it, holds up nobody, and the
// question arrives as it is.
func TestFullLineHoldsUpNobody(t *testing.T) {
	d := newDesk(false, 0)
	defer d.close()
	l, p := tcpLine(t, d)
	var sent int64
	for n := -1; n != 0; sent += int64(n) {
		var err error
		if n, err = l.now.Write(make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
	}
	ask := someQuestion
	for len(ask.ConnectionID) < maxQuestion/2 {
		ask.ConnectionID += "long"
	}
	var all []chan outcomeOf
	var ids []string
	for i := range 3 {
		q := ask
		q.ConnectionID += fmt.Sprint(i)
		ids = append(ids, q.ConnectionID)
		all = append(all, d.asking(q, time.Time{})) // returns
	}
	runLine(t, l)
	if _, err := io.CopyN(io.Discard, p, sent); err != nil {
		t.Fatal(err)
	}
	for i := range all {
		q, _ := p.next(t)
		if q.ConnectionID != ids[i] {
			t.Fatalf("question %d has become %q", i, q.ConnectionID)
		}
		p.send(t, appendRoute(nil, q.id, &manager.Route{ConnectionID: ids[i], Device: someRoute.Device, Inner: someRoute.Inner}))
	}
	for i, ch := range all {
		if out := <-ch; out.err != nil || out.route.ConnectionID != ids[i] {
			t.Errorf("question %d: %+v", i, out)
		}
	}
}

// What a write leaves over goes out before what has come in the meantime.
func TestRestOfAWriteGoesFirst(t *testing.T) {
	d := newDesk(false, 0)
	l := newLine(nil, d)
	l.out = []byte("question")
	out := l.takeLocked()
	l.out = append(l.out, "next"...)
	if more := l.takeLocked(); more != nil {
		t.Errorf("two write at one time, one of them %q", more)
	}
	l.wrote(out, len("ques"))
	select {
	case <-l.wake:
	default:
		t.Error("nobody is told of the rest")
	}
	if rest := l.takeLocked(); string(rest) != "tionnext" {
		t.Errorf("%q is written next", rest)
	}
}
