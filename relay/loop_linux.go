package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	slabSize   = 1024
	maxEvents  = 256
	wakeKey    = -1 // of the eventfd among the events
	pairEvents = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET
)

// loop carries links between kernel sockets in one goroutine, and sets connections up.
// It owns their descriptors.
type loop struct {
	epoll, wake int
	file        *os.File        // of epoll
	poller      syscall.RawConn // of file
	idle        *wheel          // nil without an idle timeout
	late        *wheel          // tasks, by their deadlines
	born        time.Time

	// Of the goroutine.
	deadline int64 // of file, by clock; 0: none
	buffer   []byte
	events   []unix.EpollEvent
	slabs    [][]pair
	links    []*Link // by slot; nil for a free one
	free     uint32  // first free slot, or noSlot
	pipes    pipes
	kept     int                      // how many connections a pool has at most
	pools    map[netip.AddrPort]*pool // of inner relays
	spilled  map[uint64][]byte        // pending bytes for which there was no pipe
	again    []uint32                 // slots that have more to do, with their direction
	batch    []uint32                 // spare memory of again
	dying    []*Link                  // cut: they are to be tidied up
	now      int64                    // by clock, when the last events came
	waiting  atomic.Int64             // connections in pools; anyone may read it

	mu      sync.Mutex // guards the rest
	starts  []newLink
	cuts    []*Link
	open    bool // wake is usable
	stopped bool
	awake   bool // the loop looks at starts and cuts before it waits the next time
}

// newLink is a link, or a task, on its way to the loop.
type newLink struct {
	link   *Link
	socket [2]*Socket // of a link
	side   int8       // that speaks frames, if link.kept is not nil
}

// noFD is the descriptor of a socket that is closed.
const noFD = -1

// noSlot is the index of no slot.
const noSlot = ^uint32(0)

func newLoop(idle time.Duration, kept int) *loop {
	l := &loop{kept: kept, free: noSlot, born: time.Now(), pipes: pipes{limit: maxPipes}, late: newWheel(0, lateTick)}
	if idle > 0 {
		l.idle = newWheel(idle, max(idle/wheelTurn, time.Millisecond))
	}
	return l
}

// prepare opens what run needs.
func (l *loop) prepare() error {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("relayer: epoll: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(ep)
		return fmt.Errorf("relayer: eventfd: %w", err)
	}
	fail := func(call string, err error) error {
		unix.Close(wake)
		unix.Close(ep)
		return fmt.Errorf("relayer: %s: %w", call, err)
	}
	// Edge-triggered: each write to the eventfd is an event, and it is never read.
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: wakeKey}); err != nil {
		return fail("epoll_ctl", err)
	}
	// The runtime waits for it as for any other descriptor: a thread that waits in a
	// system call would have the scheduler look after it all the time.
	if err := unix.SetNonblock(ep, true); err != nil {
		return fail("fcntl", err)
	}
	l.file = os.NewFile(uintptr(ep), "epoll")
	if l.poller, err = l.file.SyscallConn(); err != nil {
		return fail("poller", err)
	}
	l.epoll, l.wake = ep, wake
	l.buffer, l.events = make([]byte, bufferedMax), make([]unix.EpollEvent, maxEvents)
	l.spilled, l.pools = map[uint64][]byte{}, map[netip.AddrPort]*pool{}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = true
	l.wakeLocked() // for links that were started before
	return nil
}

// close closes what prepare opened; links that were never taken up are cut.
func (l *loop) close() {
	l.mu.Lock()
	was := l.open
	l.open, l.stopped = false, true
	starts := l.starts
	l.starts, l.cuts = nil, nil
	l.mu.Unlock()
	for _, s := range starts {
		s.refuse(ErrStopped)
	}
	if was {
		l.pipes.close()
		unix.Close(l.wake)
		_ = l.file.Close()
	}
}

// start gives a link, or a task, to run.
func (l *loop) start(s newLink) {
	if err := l.enqueue(s); err != nil {
		s.refuse(err)
	}
}

// enqueue returns why run will not take a link up.
func (l *loop) enqueue(s newLink) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case s.link.isCut: // a task may be, before it begins
		return s.link.why
	case l.stopped:
		return ErrStopped
	}
	l.starts = append(l.starts, s)
	l.wakeLocked()
	return nil
}

// refuse ends a link or a task that no loop takes up.
func (s newLink) refuse(why error) {
	if t := s.link.task; t != nil {
		t.refuse(why)
		return
	}
	s.socket[0].Abort()
	s.socket[1].Abort()
	s.link.done(Result{Cause: Cut, Err: why})
}

// cut has the loop cut links; the first reason of each counts.
func (l *loop) cut(links []*Link, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return
	}
	for _, link := range links {
		if !link.isCut {
			link.isCut, link.why = true, why
			l.cuts = append(l.cuts, link)
		}
	}
	l.wakeLocked()
}

// stop has run cut all links and return.
func (l *loop) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	l.wakeLocked()
}

func (l *loop) wakeLocked() {
	if !l.open || l.awake {
		return
	}
	l.awake = true
	var one = [8]byte{1}
	_, _ = writeNow(int32(l.wake), one[:]) // fails only when the counter is full, and then it is awake
}

// run carries links until stop.
func (l *loop) run() error {
	var over bool
	var failed syscall.Errno
	// work is done when the loop is to end. Until then it is called whenever there may be
	// events. What comes while it works has it called again: it need not look whether
	// there is more before the goroutine waits.
	work := func(uintptr) bool {
		for n := len(l.events); n == len(l.events) || l.busy(); {
			if n, failed = epollNow(l.epoll, l.events); failed == unix.EINTR {
				n, failed = 0, 0
			}
			if failed != 0 {
				return true
			}
			if over = l.round(l.events[:n]); over {
				return true
			}
		}
		l.setDeadline()
		return false
	}
	for !over {
		err := l.poller.Read(work)
		if failed != 0 {
			err = failed
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			// What is due comes after the events that wait: work does both.
			l.deadline = 0
			_ = l.file.SetReadDeadline(time.Time{}) // fails only on a closed file, as will the wait
		case err != nil:
			l.cutAll(err)
			return fmt.Errorf("relayer: epoll: %w", err)
		}
	}
	l.cutAll(ErrStopped)
	return nil
}

// round does what events allow, what is due and what others want. It reports whether the
// loop was told to stop.
func (l *loop) round(events []unix.EpollEvent) (stop bool) {
	l.rouse()
	for i := range events {
		if ev := &events[i]; ev.Fd != wakeKey {
			l.handle(ev)
		}
	}
	l.goOn()
	l.expire()
	// Slots are given out here only, after the last event that may mean their
	// former owner.
	if l.orders() {
		return true
	}
	l.bury()
	return false
}

// busy reports whether there is something to do without an event.
func (l *loop) busy() bool { return len(l.again) > 0 || len(l.dying) > 0 }

// rouse notes that the loop is awake: nobody has to wake it.
func (l *loop) rouse() {
	l.now = l.clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.awake = true
}

// setDeadline ends the wait for events at the next tick of a wheel.
func (l *loop) setDeadline() {
	next, now := l.deadline, l.clock()
	if at := l.nextTick(now); at != 0 {
		next = at
	} else if next <= now {
		next = 0
	}
	if next == l.deadline {
		return
	}
	l.deadline = next
	at := time.Time{}
	if next != 0 {
		at = l.born.Add(time.Duration(next))
	}
	_ = l.file.SetReadDeadline(at) // fails only on a closed file, as will the wait
}

// nextTick returns when a wheel has something to do, 0 while there is nothing.
func (l *loop) nextTick(now int64) int64 {
	at := l.late.next(now)
	if l.idle == nil {
		return at
	}
	if idle := l.idle.next(now); at == 0 || idle != 0 && idle < at {
		return idle
	}
	return at
}

// clock returns the ns since the loop was made.
func (l *loop) clock() int64 { return int64(time.Since(l.born)) }

func (l *loop) at(i uint32) *pair { return &l.slabs[i/slabSize][i%slabSize] }

// handle carries out what an event allows.
func (l *loop) handle(ev *unix.EpollEvent) {
	i, s := uint32(ev.Fd)>>1, int(ev.Fd&1)
	p, link := l.at(i), l.links[i]
	if link == nil || p.generation != uint32(ev.Pad) || p.cut {
		return // of a socket that is closed here, and for a moment open in a child, or on its way to another slot
	}
	sock := &p.side[s]
	failure := ev.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0
	if failure {
		sock.failed = true
	}
	if failure || ev.Events&unix.EPOLLRDHUP != 0 {
		sock.over = true
	}
	if link.task != nil {
		sock.readable = sock.readable || sock.over || ev.Events&unix.EPOLLIN != 0
		sock.writable = sock.writable || failure || ev.Events&unix.EPOLLOUT != 0
		link.task.step(l, i, p)
		return
	}
	if failure || ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP) != 0 {
		sock.readable = true
		if l.turn(i, p, s) == ended {
			return
		}
	}
	if failure || ev.Events&unix.EPOLLOUT != 0 {
		sock.writable = true
		// Without anything to write the other direction has nothing to do.
		if h := &p.half[1-s]; h.pending > 0 || h.eof || p.side[1-s].readable {
			l.turn(i, p, 1-s)
		}
	}
}

// turn pumps a direction and queues it if there is more.
func (l *loop) turn(i uint32, p *pair, d int) outcome {
	o := l.pump(i, p, d)
	switch {
	case o == more && !p.half[d].queued:
		p.half[d].queued = true
		l.again = append(l.again, i<<1|uint32(d))
	case o == waits && p.side[d].failed:
		// Nobody reads from a side that has sent FIN, nor from one whose other side
		// takes nothing: a reset of it shows here only.
		if e := socketError(p.fd[d]); e != 0 {
			return l.failed(i, p, d, "poll", e)
		}
		p.side[d].failed = false // both its directions have ended in order
	}
	return o
}

// goOn gives the directions that had more to do another turn.
func (l *loop) goOn() {
	if len(l.again) == 0 {
		return
	}
	l.again, l.batch = l.batch[:0], l.again
	for _, k := range l.batch {
		i, d := k>>1, int(k&1)
		p := l.at(i)
		if l.links[i] == nil || !p.half[d].queued {
			continue
		}
		p.half[d].queued = false
		l.turn(i, p, d)
	}
}

// orders takes up new links and tasks and cuts others until there are none left, and
// reports whether it was told to stop.
func (l *loop) orders() (stop bool) {
	for {
		l.mu.Lock()
		starts, cuts := l.starts, l.cuts
		if len(starts) == 0 && len(cuts) == 0 {
			l.awake, stop = false, l.stopped
			l.mu.Unlock()
			return stop
		}
		l.starts, l.cuts = nil, nil
		l.mu.Unlock()
		for _, s := range starts {
			if s.link.task != nil {
				l.begin(s.link)
			} else {
				l.add(s)
			}
		}
		l.cutLinks(cuts)
	}
}

func (l *loop) cutLinks(cuts []*Link) {
	// Whoever loses access loses it with the client's side: thousands of those come
	// first, and what is ours to tidy up afterwards.
	for _, link := range cuts {
		i := link.slot
		switch {
		case i == noSlot:
		case link.task != nil:
			link.task.fail(l, i, l.at(i), link.why)
		default:
			l.silence(i)
			l.dying = append(l.dying, link)
		}
	}
}

// silence resets the client's side of a pair and has no event of it count any more.
func (l *loop) silence(i uint32) {
	p := l.at(i)
	p.cut, p.half[0].queued, p.half[1].queued = true, false, false
	if !resetNow(p.fd[0]) {
		abortFD(p.fd[0])
		p.fd[0] = noFD
	}
	if l.idle != nil {
		l.idle.remove(l, p)
	}
}

// burials is how many pairs that were cut are tidied up before others have their turn.
const burials = 32

// bury tidies up after some of the links that were cut.
func (l *loop) bury() {
	n := min(len(l.dying), burials)
	if n == 0 {
		return
	}
	runtime.Gosched() // the clients of another loop come first
	for k, link := range l.dying[:n] {
		if i := link.slot; i != noSlot {
			l.abort(i, l.at(i), Cut, link.why)
		}
		l.dying[k] = nil
	}
	if l.dying = l.dying[n:]; len(l.dying) == 0 {
		l.dying = nil
	}
}

// take gives a slot to a link or a task.
func (l *loop) take(link *Link, fd [2]int32) (uint32, *pair) {
	i := l.free
	if i == noSlot {
		i = l.grow()
	}
	p := l.at(i)
	l.free = p.next
	p.reset(fd)
	l.links[i], link.slot = link, i
	return i, p
}

// reset makes p new, in its slot.
func (p *pair) reset(fd [2]int32) {
	*p = pair{fd: fd, generation: p.generation, tick: noTick, tunnel: noSide}
	for d := range 2 {
		p.half[d].pipe = noPipe
	}
}

// release takes the slot back.
func (l *loop) release(i uint32, p *pair) {
	l.links[i].slot = noSlot
	l.links[i] = nil
	p.generation++
	p.next, l.free = l.free, i
}

// add registers a link.
func (l *loop) add(s newLink) {
	known := [2]bool{s.socket[0].loop == l, s.socket[1].loop == l}
	i, p := l.take(s.link, [2]int32{s.socket[0].take(), s.socket[1].take()})
	if l.idle != nil {
		p.moved = l.clock()
		l.idle.add(l, i, p)
	}
	if s.link.kept != nil {
		p.tunnel = s.side
		p.half[0].framed, p.half[1].framed = true, true
		p.half[s.side].count = s.socket[s.side].ahead
	}
	for side := range p.fd {
		p.side[side].writable = true
		if e := l.watch(i, p, side, known[side]); e != 0 {
			l.failed(i, p, side, "epoll_ctl", e)
			return
		}
	}
}

// watch has events of a socket come for slot i; known is whether they came for another
// one. What it is ready for at this moment is an event.
func (l *loop) watch(i uint32, p *pair, side int, known bool) syscall.Errno {
	op := unix.EPOLL_CTL_ADD
	if known {
		op = unix.EPOLL_CTL_MOD
	}
	ev := unix.EpollEvent{Events: pairEvents, Fd: int32(i<<1) | int32(side), Pad: int32(p.generation)}
	return epollControl(l.epoll, op, p.fd[side], &ev)
}

// grow adds a slab and returns its first slot, the others behind it.
func (l *loop) grow() uint32 {
	first := uint32(len(l.links))
	slab := make([]pair, slabSize)
	for k := range slab {
		slab[k].next = first + uint32(k) + 1
	}
	slab[slabSize-1].next = noSlot
	l.slabs = append(l.slabs, slab)
	l.links = append(l.links, make([]*Link, slabSize)...)
	return first
}

// remove frees the slot of a pair whose sockets are closed and tells its owner.
func (l *loop) remove(i uint32, p *pair, c Cause, err error) {
	link := l.tidy(i, p)
	l.release(i, p)
	link.over(c, err)
}

// tidy gives back what a pair has of the loop but its slot.
func (l *loop) tidy(i uint32, p *pair) *Link {
	for d := range 2 {
		h := &p.half[d]
		if h.pending > 0 && h.pipe == noPipe {
			delete(l.spilled, spillKey(i, d))
		}
		l.unpipe(h)
		h.queued = false
	}
	if l.idle != nil {
		l.idle.remove(l, p)
	}
	return l.links[i]
}

// cutAll cuts every link.
func (l *loop) cutAll(why error) {
	for i, link := range l.links {
		if link == nil {
			continue
		}
		i, p, reason := uint32(i), l.at(uint32(i)), why
		if p.cut {
			reason = link.why
		}
		if link.task != nil {
			link.task.fail(l, i, p, reason)
		} else {
			l.abort(i, p, Cut, reason)
		}
	}
}

// expire cuts the links over which nothing moved for the idle timeout, and fails the
// tasks whose time is over.
func (l *loop) expire() {
	for i := l.late.due(l, l.now); i != noSlot; i = l.late.due(l, l.now) {
		l.links[i].task.fail(l, i, l.at(i), os.ErrDeadlineExceeded)
	}
	if l.idle == nil {
		return
	}
	for i := l.idle.due(l, l.now); i != noSlot; i = l.idle.due(l, l.now) {
		l.abort(i, l.at(i), Idle, ErrIdle)
	}
}
