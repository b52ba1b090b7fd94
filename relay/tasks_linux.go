package relay

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lateTick is how much later than its deadline a task may fail.
const lateTick = 16 * time.Millisecond

// task sets a connection up, on a loop and in a slot of its links. The loop calls the
// methods. What is over has released its slot and owns no descriptor.
type task interface {
	begin(l *loop, i uint32, p *pair)
	// step goes on after an event, which p.side tells of.
	step(l *loop, i uint32, p *pair)
	// fail ends it.
	fail(l *loop, i uint32, p *pair, why error)
	// refuse is fail before begin.
	refuse(why error)
}

// begin gives a task its slot.
func (l *loop) begin(link *Link) {
	if c, ok := link.task.(*call); ok && c.again(l, link) {
		return
	}
	i, p := l.take(link, [2]int32{noFD, noFD})
	link.task.begin(l, i, p)
}

// until gives a task a deadline in place of the former.
func (l *loop) until(i uint32, p *pair, d time.Duration) {
	l.late.remove(l, p)
	p.moved = l.clock() + int64(d)
	l.late.add(l, i, p)
}

// endTask releases the slot of a task.
func (l *loop) endTask(i uint32, p *pair) {
	l.late.remove(l, p)
	l.release(i, p)
}

// dial begins to connect side 1 of a task.
func (l *loop) dial(i uint32, p *pair, to netip.AddrPort, o TCPOptions) error {
	fd, call, e := dialNow(to, o)
	if e != 0 {
		return callError(call, e)
	}
	p.fd[1] = fd
	if e := l.watch(i, p, 1, false); e != 0 {
		return callError("epoll_ctl", e)
	}
	return nil
}

// connected returns whether side 1 of a task is, or has failed.
func (p *pair) connected() (bool, error) {
	if !p.side[1].writable {
		return false, nil
	}
	e := socketError(p.fd[1])
	if e == 0 && toItself(p.fd[1]) { // nobody listens there
		e = unix.ECONNREFUSED
	}
	if e != 0 {
		return false, callError("connect", e)
	}
	return true, nil
}

// errBye is a bye in place of a head.
var errBye = fmt.Errorf("%w: the connection is not used again", ErrMalformed)

// head takes a head off a socket if it has come as a whole; nil, nil: not yet. What it
// returns is good until the loop's buffer is used again.
func (l *loop) head(fd int32, s *side) ([]byte, error) {
	b := l.buffer[:MaxHead]
	n, e := peekNow(fd, b)
	switch {
	case e == unix.EAGAIN:
		s.readable = false
		return nil, nil
	case e != 0:
		return nil, callError("recv", e)
	case n == 0:
		return nil, io.ErrUnexpectedEOF
	}
	end := bytes.Index(b[:n], []byte(headEnd))
	switch {
	case bytes.Equal(b[:min(n, frameHead)], frames(frameBye)):
		return nil, errBye
	case end >= 0:
		if _, e := receiveNow(fd, b[:end+len(headEnd)]); e != 0 {
			return nil, callError("recv", e)
		}
		return b[:end+len(headEnd)], nil
	case n == len(b):
		return nil, ErrHeadTooLarge
	case s.over:
		return nil, io.ErrUnexpectedEOF
	}
	return nil, nil
}

// socket makes fd, which is in the loop's epoll, somebody's.
func (l *loop) socket(fd int32) *Socket { return &Socket{fd: fd, loop: l} }

// Call prepares what c says: Link.Begin begins it, and Link.Cut ends it, also before that.
// nil: there is no event loop.
func (r *Relayer) Call(c Call) *Link { return r.newTask(&call{Call: c}) }

func (r *Relayer) newTask(t task) *Link {
	if len(r.loops) == 0 {
		return nil
	}
	return r.nextLoop().newLink(&Link{task: t})
}

// newLink makes a link the loop's.
func (l *loop) newLink(link *Link) *Link {
	link.loop, link.slot = l, noSlot
	return link
}

// Begin begins what Relayer.Call has prepared, without blocking.
func (l *Link) Begin() { l.loop.start(newLink{link: l}) }

func (r *Relayer) nextLoop() *loop { return r.loops[r.turn.Add(1)%uint64(len(r.loops))] }

// call is a Call under way: it connects, asks and waits for the answer.
type call struct {
	Call
	asked    bool
	accepted bool   // by the inner relay, perhaps before all of head was sent
	frames   bool   // are asked for
	framed   bool   // as accepted
	used     bool   // the connection has served another client
	head     []byte // the request
	sent     int    // how much of it
}

// again begins on a connection that waits for another client; false: there is none.
func (c *call) again(l *loop, link *Link) bool {
	if c.Fresh {
		return false
	}
	i, p, ok := l.reuse(link, l.pool(c.To))
	if !ok {
		return false
	}
	c.used = true
	l.until(i, p, c.Timeout)
	c.step(l, i, p)
	return true
}

func (c *call) begin(l *loop, i uint32, p *pair) {
	l.until(i, p, c.Timeout)
	c.dial(l, i, p)
}

func (c *call) dial(l *loop, i uint32, p *pair) {
	if err := l.dial(i, p, c.To, TCPOptions{}); err != nil {
		c.fail(l, i, p, err)
	}
}

func (c *call) step(l *loop, i uint32, p *pair) {
	if !c.asked {
		if !c.used {
			ok, err := p.connected()
			if err != nil {
				c.fail(l, i, p, err)
				return
			}
			if !ok {
				return
			}
		}
		c.asked = true
		if c.head == nil {
			r := c.Request
			if c.Early != nil {
				r.Early = c.Early()
			}
			if c.frames = l.kept > 0 && len(r.Early) <= math.MaxUint16; c.frames {
				r.frames, r.ahead = true, uint16(len(r.Early))
			}
			c.head = r.head()
		}
	}
	if c.sent < len(c.head) && p.side[1].writable {
		n, e := sendNow(p.fd[1], c.head[c.sent:])
		switch {
		case e == unix.EAGAIN:
			p.side[1].writable = false
		case e != 0:
			err := c.answer(l, p) // an inner relay that refuses need not read what follows
			if _, ok := errors.AsType[Refusal](err); !ok && err != errBye {
				err = callError("send", e)
			}
			c.failed(l, i, p, err)
			return
		default:
			c.sent += n
		}
	}
	if p.side[1].readable {
		if err := c.answer(l, p); err != nil {
			c.failed(l, i, p, err)
			return
		}
	}
	if !c.accepted || c.sent < len(c.head) {
		return
	}
	s := l.socket(p.fd[1])
	if c.framed {
		s.kept = l.pool(c.To)
	}
	l.endTask(i, p)
	c.Answered(s, true, nil)
}

// failed goes on after an error of the connection: with another one if the inner relay
// has said that it reads no request on this one.
func (c *call) failed(l *loop, i uint32, p *pair, err error) {
	if err != errBye || !c.used {
		c.fail(l, i, p, err)
		return
	}
	link, deadline := l.links[i], p.moved
	closeFD(p.fd[1])
	l.endTask(i, p)
	i, p = l.take(link, [2]int32{noFD, noFD}) // events of the old socket are not the new one's
	c.asked, c.used, c.sent = false, false, 0
	l.until(i, p, time.Duration(deadline-l.clock()))
	c.dial(l, i, p)
}

// answer takes the answer if it has come and was not taken before.
func (c *call) answer(l *loop, p *pair) error {
	if c.accepted {
		return nil
	}
	head, err := l.head(p.fd[1], &p.side[1])
	if err != nil || head == nil {
		return err
	}
	if c.framed, err = parseResponse(head); err != nil {
		return err
	}
	if c.framed && !c.frames {
		return errNotAsked
	}
	c.accepted = true
	return nil
}

func (c *call) fail(l *loop, i uint32, p *pair, why error) {
	// An inner relay that has not even got the request in all the time is not there: a
	// connection that waited does not know.
	asked := c.asked && (!errors.Is(why, os.ErrDeadlineExceeded) || c.sent == len(c.head) && allTaken(p.fd[1]))
	abortFD(p.fd[1])
	l.endTask(i, p)
	c.Answered(nil, asked, why)
}

func (c *call) refuse(why error) { c.Answered(nil, false, why) }

// Greet does what g says on a connection of an outer relay, which it owns, without
// blocking. nil: there is no event loop, or no descriptor, and nothing happens.
func (r *Relayer) Greet(c *net.TCPConn, g Greeting) *Link {
	if len(r.loops) == 0 {
		return nil
	}
	s, ok := NewSocket(c)
	if !ok {
		return nil
	}
	return r.GreetAgain(s, g)
}

// GreetAgain is Greet on a connection that Greeting.Again was called with.
func (r *Relayer) GreetAgain(s *Socket, g Greeting) *Link {
	link := &Link{task: &greet{Greeting: g, outer: s}}
	cmp.Or(s.loop, r.nextLoop()).newLink(link).Begin()
	return link
}

// greet is a Greeting under way.
type greet struct {
	Greeting
	outer   *Socket // before begin
	used    bool    // it has served a client before
	begun   bool    // and a part of another request has come
	framed  bool    // as was asked for
	ahead   uint16  // bytes of the client before the first frame
	dialing bool
}

func (g *greet) begin(l *loop, i uint32, p *pair) {
	p.fd[0], g.used = g.outer.take(), g.outer.loop == l
	wait := g.Timeout
	if g.used {
		wait = cmp.Or(g.Wait, wait)
	}
	l.until(i, p, wait)
	if e := l.watch(i, p, 0, g.used); e != 0 {
		g.fail(l, i, p, callError("epoll_ctl", e))
	}
}

func (g *greet) step(l *loop, i uint32, p *pair) {
	if g.dialing {
		g.dialed(l, i, p)
		return
	}
	head, err := l.head(p.fd[0], &p.side[0])
	if err == nil && head == nil {
		if g.used && !g.begun && p.side[0].readable { // a part is there
			g.begun = true
			l.until(i, p, g.Timeout)
		}
		return
	}
	if g.used && (err == io.ErrUnexpectedEOF || errors.As(err, new(syscall.Errno))) { // there is no other client
		g.leave(l, i, p)
		return
	}
	var r Request
	if err == nil {
		r, err = parseRequest(head)
	}
	if err == nil && p.side[0].failed { // it has gone, and no other event will say so
		err = callError("poll", socketError(p.fd[0]))
	}
	if err != nil {
		g.end(l, i, p, BadRequest, err)
		return
	}
	device, why := g.Requested(r)
	if why != "" {
		g.end(l, i, p, why, nil)
		return
	}
	g.dialing, g.framed, g.ahead = true, r.frames && g.Again != nil, r.ahead
	l.until(i, p, g.DialTimeout)
	if err := l.dial(i, p, device, g.TCP); err != nil {
		g.end(l, i, p, ClassifyDial(err), err)
	}
}

func (g *greet) dialed(l *loop, i uint32, p *pair) {
	ok, err := p.connected()
	switch {
	case err != nil:
		g.end(l, i, p, ClassifyDial(err), err)
		return
	case !ok && p.side[0].failed: // nobody waits for the device any more
		g.end(l, i, p, BadRequest, callError("poll", socketError(p.fd[0])))
		return
	case !ok:
		return
	}
	answer := accepted
	if g.framed {
		answer = acceptedFramed
	}
	if n, e := sendNow(p.fd[0], []byte(answer)); e != 0 || n < len(answer) {
		g.end(l, i, p, BadRequest, callError("send", e))
		return
	}
	outer, device := l.socket(p.fd[0]), l.socket(p.fd[1])
	if g.framed {
		outer.kept, outer.ahead = again(g.Again), g.ahead
	}
	l.endTask(i, p)
	g.Ended(outer, device, "", nil)
}

// end tells the outer relay why not.
func (g *greet) end(l *loop, i uint32, p *pair, why Refusal, err error) {
	abortFD(p.fd[1])
	if _, e := sendNow(p.fd[0], why.head()); e != 0 {
		abortFD(p.fd[0]) // it has gone
	} else {
		closeFD(p.fd[0])
	}
	l.endTask(i, p)
	g.Ended(nil, nil, why, err)
}

// leave ends it where nothing was asked.
func (g *greet) leave(l *loop, i uint32, p *pair) {
	bye(p.fd[0])
	l.endTask(i, p)
	g.Ended(nil, nil, "", nil)
}

// bye ends a connection on which no request is read any more.
func bye(fd int32) {
	_, _ = sendNow(fd, frames(frameBye)) // if it fails, the outer relay has gone
	closeFD(fd)
}

func (g *greet) fail(l *loop, i uint32, p *pair, why error) {
	late := errors.Is(why, os.ErrDeadlineExceeded)
	switch {
	case g.dialing && why == ErrDismissed: // too late
		return
	case g.used && !g.dialing && !(g.begun && late):
		g.leave(l, i, p)
		return
	}
	refusal := Draining
	switch {
	case late && g.dialing:
		refusal = DeviceTimeout
	case late, errors.As(why, new(syscall.Errno)):
		refusal = BadRequest
	}
	g.end(l, i, p, refusal, why)
}

func (g *greet) refuse(why error) {
	if g.outer.loop != nil { // it has served a client: nothing was asked
		bye(g.outer.take())
		g.Ended(nil, nil, "", nil)
		return
	}
	g.outer.Abort()
	g.Ended(nil, nil, Draining, why)
}

// Join is StartAfter between sockets, which it owns.
func (r *Relayer) Join(a, b *Socket, n int, total *Counters, done func(Result)) *Link {
	link := newLinkOf(n, total, done)
	side := int8(atOuter)
	if link.kept = a.kept; b.kept != nil {
		link.kept, side = b.kept, atInner
	}
	l := cmp.Or(b.loop, a.loop) // the same, if both have one
	if l == nil {
		l = r.nextLoop()
	}
	l.start(newLink{l.newLink(link), [2]*Socket{a, b}, side})
	return link
}

// startOnLoop is Start on an event loop; nil: it cannot be, and nothing has changed.
func (r *Relayer) startOnLoop(a, b Conn, n int, total *Counters, done func(Result)) *Link {
	at, ok1 := a.(*net.TCPConn)
	bt, ok2 := b.(*net.TCPConn)
	if len(r.loops) == 0 || !ok1 || !ok2 {
		return nil
	}
	afd, ok := duplicate(at)
	if !ok {
		return nil
	}
	bfd, ok := duplicate(bt)
	if !ok {
		closeFD(afd)
		return nil
	}
	// The runtime's poller forgets its descriptors before a loop registers ours.
	_ = at.Close()
	_ = bt.Close()
	return r.Join(&Socket{fd: afd}, &Socket{fd: bfd}, n, total, done)
}
