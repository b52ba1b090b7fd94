package rpc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A connection for questions begins with an HTTP/1.1 request to upgrade (RFC 9110 clause
// 7.8), so that it comes in where everything else does, with the same authorisation.
const (
	questionsPath    = "/simreach.relay.v1/questions"
	questionsUpgrade = "simreach-questions"
	headerSession    = "Simreach-Session"
)

// A relay that has heard nothing on a line for pingSilence sends a ping, and takes a
// manager from which it has heard nothing deadSilences times as long for gone. The
// manager looks at the attachment instead, without which a line is not there.
const (
	pingSilence  = time.Second
	deadSilences = 4
)

// maxSpareBuffer bounds the buffers that are kept for the next batch.
const maxSpareBuffer = 256 << 10

var errSilent = errors.New("the manager does not answer pings")

// line is a relay's connection for questions. Who asks on an idle one writes to it, which
// spares the question a wait for another goroutine. Else run does: whatever waits when one
// write has ended goes out with the next.
type line struct {
	conn  net.Conn
	now   *atOnce // nil: only run writes
	desk  *desk
	wake  chan struct{} // capacity 1: out has something
	heard atomic.Uint64 // reads

	// desk.mu guards:
	out     []byte // frames to send
	spare   []byte // for the next ones, while out is written
	writing bool   // somebody is
	open    int    // questions that the manager has not answered
}

func newLine(conn net.Conn, d *desk) *line {
	return &line{conn: conn, now: newAtOnce(conn), desk: d, wake: make(chan struct{}, 1)}
}

// line connects for an attachment. ctx bounds that only.
func (e *endpoint) line(ctx context.Context, session string, d *desk) (_ *line, err error) {
	dial := e.dial
	if e.tls != nil {
		dial = dialTLS(dial, e.tls, "http/1.1")
	}
	conn, err := dial(ctx, "tcp", e.address)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, conn.Close())
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, welcomeTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.address+questionsPath, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", questionsUpgrade)
	req.Header.Set(headerSession, session)
	if e.tls == nil {
		req.Header.Set("Authorization", "Bearer "+e.secret)
	}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		// Its body is not closed: that would read all of it. The connection ends.
		why, _ := io.ReadAll(io.LimitReader(resp.Body, maxDetail))
		return nil, fmt.Errorf("%w: %s: %q", errMessage, resp.Status, bytes.TrimSpace(why))
	}
	if r.Buffered() > 0 {
		return nil, fmt.Errorf("%w: an answer before a question", errMessage)
	}
	return newLine(conn, d), nil
}

// run carries questions and answers until ctx ends or the connection does, and returns
// why. Questions without an answer go back to the desk.
func (l *line) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { cancel(l.write(ctx)) })
	wg.Go(func() { cancel(l.watch(ctx)) })
	cancel(l.read())
	l.end()
	wg.Wait()
	l.desk.lost(l)
	return context.Cause(ctx)
}

// end ends the line.
func (l *line) end() { _ = l.conn.Close() } // it is of no more use, whatever that says

func (l *line) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// takeLocked returns what its caller has to write and then report to wrote; nothing
// while somebody else writes.
func (l *line) takeLocked() []byte {
	if l.writing || len(l.out) == 0 {
		return nil
	}
	out := l.out
	l.out, l.spare, l.writing = l.spare[:0], nil, true
	return out
}

// wrote ends a writing, of which n bytes have left.
func (l *line) wrote(out []byte, n int) {
	l.desk.mu.Lock()
	l.writing = false
	if n < len(out) {
		l.out = slices.Concat(out[n:], l.out)
	}
	if cap(out) <= maxSpareBuffer {
		l.spare = out
	}
	more := len(l.out) > 0
	l.desk.mu.Unlock()
	if more {
		l.signal()
	}
}

// writeNow writes what takeLocked returned, without waiting.
func (l *line) writeNow(out []byte) {
	n, err := l.now.Write(out)
	l.wrote(out, n)
	if err != nil {
		l.end()
	}
}

// write sends what those who ask do not.
func (l *line) write(ctx context.Context) error {
	for {
		select {
		case <-l.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
		// Goroutines that can run may ask, too: one system call sends all their questions.
		runtime.Gosched()
		l.desk.mu.Lock()
		out := l.takeLocked()
		l.desk.mu.Unlock()
		if len(out) == 0 {
			continue
		}
		n, err := l.conn.Write(out)
		l.wrote(out, n)
		if err != nil {
			return err
		}
	}
}

// watch ends the line with ctx, and when the manager is silent.
func (l *line) watch(ctx context.Context) error {
	defer l.end()
	tick := time.NewTicker(pingSilence)
	defer tick.Stop()
	var last uint64
	silent := 0
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if now := l.heard.Load(); now != last {
			last, silent = now, 0
			continue
		}
		if silent++; silent >= deadSilences {
			return errSilent
		}
		l.desk.mu.Lock()
		l.out = appendPing(l.out)
		l.desk.mu.Unlock()
		l.signal()
	}
}

// read takes answers, all that one read returns at a time.
func (l *line) read() error {
	in := newFrames(l.conn, maxRoute)
	for {
		if err := in.fill(); err != nil {
			return err
		}
		l.heard.Add(1)
		for {
			m, ok, err := in.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if len(m) == 0 { // a ping came back
				continue
			}
			id, route, failure, err := parseAnswer(m)
			if err != nil {
				return err
			}
			l.desk.answered(l, id, route, failure)
		}
	}
}
