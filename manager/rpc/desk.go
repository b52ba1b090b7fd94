package rpc

import (
	"container/heap"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/simreach/simreach/manager"
)

// maxOpen bounds the questions that are not answered. It is far more than a relay lets
// clients wait.
const maxOpen = 1 << 16

var (
	errTooMany = errors.New("too many questions are not answered")
	errOver    = errors.New("the relay's control has ended")
	errAway    = errors.New("the relay is attached to no manager")
)

// asked is a question that is not answered. It is its desk's, which uses it again.
type asked struct {
	id       uint64
	q        manager.ResolveRequest
	trace    string
	answer   func(manager.Route, error)
	deadline time.Time // zero: none
	late     time.Time // until when it may wait for a manager; zero: it has not waited yet
	at       *line     // where it was asked; nil: it waits for a manager

	due   time.Time // while it is in a queue: when it leaves it at the latest
	in    *queue    // nil: none
	place int       // there
}

// desk has the questions of a client. They are asked on the lines of the attachment;
// those that a manager took along are asked again on the next one's, while they may wait.
// Its methods may be called from any goroutine and never block.
type desk struct {
	alternates bool          // there is another manager to wait for
	wait       time.Duration // how long for it, or for lines that are on their way

	mu     sync.Mutex // guards the rest, and out of every line
	over   bool
	coming bool    // a manager has welcomed the relay, and lines to it are on their way
	lines  []*line // of the attachment; none: there is none
	turn   uint    // of the lines
	lastID uint64
	open   map[uint64]*asked
	spare  []*asked
	timed  queue // asked with a deadline
	parked queue // without a manager

	timer  *time.Timer // runs expire
	armed  time.Time   // when; zero: not
	firing sync.WaitGroup
}

func newDesk(alternates bool, wait time.Duration) *desk {
	return &desk{alternates: alternates, wait: wait, open: map[uint64]*asked{}}
}

// outcome is an answer that is given when the desk is unlocked.
type outcome struct {
	answer func(manager.Route, error)
	err    error
}

func tell(all []outcome) {
	for _, o := range all {
		o.answer(manager.Route{}, o.err)
	}
}

func away(err error) error { return &manager.Error{Code: manager.CodeManagerAway, Err: err} }

// ask returns an ID for withdraw.
func (d *desk) ask(q *manager.ResolveRequest, trace string, deadline time.Time, answer func(manager.Route, error)) uint64 {
	err := askable(q, trace)
	if err == nil && !deadline.IsZero() && !time.Now().Before(deadline) {
		err = context.DeadlineExceeded
	}
	if err != nil {
		answer(manager.Route{}, err)
		return 0
	}
	d.mu.Lock()
	err = errOver
	if !d.over {
		err = errTooMany
	}
	if d.over || len(d.open) >= maxOpen {
		d.mu.Unlock()
		answer(manager.Route{}, away(err))
		return 0
	}
	d.lastID++
	id := d.lastID
	var x *asked
	if n := len(d.spare); n > 0 {
		x, d.spare = d.spare[n-1], d.spare[:n-1]
	} else {
		x = new(asked)
	}
	*x = asked{id: id, q: *q, trace: trace, answer: answer, deadline: deadline}
	d.open[id] = x
	if len(d.lines) == 0 {
		waits := d.parkLocked(x)
		d.mu.Unlock()
		if !waits {
			answer(manager.Route{}, away(errAway))
		}
		return id
	}
	l := d.putLocked(x)
	var out []byte
	if l.now != nil && l.open == 1 { // that one: there is nothing that it could go out with
		out = l.takeLocked()
	}
	d.mu.Unlock()
	if out != nil {
		l.writeNow(out)
	} else {
		l.signal()
	}
	return id
}

// askable returns what the manager would answer to a question that it would take for
// malformed: others are asked on the same connection.
func askable(q *manager.ResolveRequest, trace string) error {
	const rest = 64 // the other fields, and more
	switch {
	case !q.Hit.IsValid():
		return manager.NewError(manager.CodeUnknownEntry, q.Hit)
	case len(q.Target)+len(q.ConnectionID)+len(trace) > maxQuestion-rest:
		return manager.NewError(manager.CodeConnUnknownTarget)
	}
	return nil
}

// putLocked asks x on one of the lines, as soon as that writes.
func (d *desk) putLocked(x *asked) *line {
	d.turn++
	l := d.lines[d.turn%uint(len(d.lines))]
	x.at = l
	l.open++
	l.out = appendQuestion(l.out, x.id, &x.q, x.trace)
	if !x.deadline.IsZero() {
		d.enqueueLocked(&d.timed, x, x.deadline)
	}
	return l
}

// parkLocked has x wait for a manager; false if it may not, and is gone.
func (d *desk) parkLocked(x *asked) bool {
	x.at = nil
	x.in.remove(x)
	if d.over || !d.alternates && !d.coming {
		d.freeLocked(x)
		return false
	}
	if x.late.IsZero() {
		x.late = time.Now().Add(d.wait)
	}
	due := x.late
	if !x.deadline.IsZero() && x.deadline.Before(due) {
		due = x.deadline
	}
	d.enqueueLocked(&d.parked, x, due)
	return true
}

// freeLocked forgets x, which is in no queue.
func (d *desk) freeLocked(x *asked) {
	delete(d.open, x.id)
	*x = asked{}
	if len(d.spare) < 1024 {
		d.spare = append(d.spare, x)
	}
}

// withdraw forgets a question; false if it has been answered, or is being answered.
func (d *desk) withdraw(id uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.open[id]
	if x == nil {
		return false
	}
	x.in.remove(x)
	d.freeLocked(x)
	return true
}

// answered takes an answer that came on a line. What nobody waits for is passed over.
func (d *desk) answered(l *line, id uint64, r manager.Route, failure *manager.Error) {
	d.mu.Lock()
	l.open--
	x := d.open[id]
	if x == nil || x.at != l {
		d.mu.Unlock()
		return
	}
	if failure != nil && another(failure) { // the manager has ended the attachment
		d.leaveLocked(l)
		answer := x.answer
		waits := d.parkLocked(x)
		d.mu.Unlock()
		l.end()
		if !waits {
			answer(manager.Route{}, away(failure))
		}
		return
	}
	answer := x.answer
	x.in.remove(x)
	d.freeLocked(x)
	d.mu.Unlock()
	if failure != nil {
		answer(manager.Route{}, failure)
		return
	}
	answer(r, nil)
}

// attach has questions asked on the lines of an attachment.
func (d *desk) attach(lines []*line) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return
	}
	d.lines, d.coming = lines, false
	for x := d.parked.first(); x != nil; x = d.parked.first() {
		d.parked.remove(x)
		d.putLocked(x).signal()
	}
}

// expect has questions wait for lines that are on their way: clients may come from the
// moment that the manager counts the relay as attached.
func (d *desk) expect() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.coming = true
}

// despair undoes expect, if attach has not.
func (d *desk) despair() {
	var out []outcome
	d.mu.Lock()
	if d.coming && !d.alternates {
		for x := d.parked.first(); x != nil; x = d.parked.first() {
			out = append(out, outcome{x.answer, away(errAway)})
			d.parked.remove(x)
			d.freeLocked(x)
		}
	}
	d.coming = false
	d.mu.Unlock()
	tell(out)
}

// leaveLocked has nothing more asked on the lines of which l is one.
func (d *desk) leaveLocked(l *line) {
	for _, other := range d.lines {
		if other == l {
			d.lines = nil
			return
		}
	}
}

// detach takes the lines of an attachment away that has ended, or is ending.
func (d *desk) detach(lines []*line) {
	for _, l := range lines {
		d.lost(l)
	}
}

// lost has the questions of a line that has ended asked elsewhere.
func (d *desk) lost(l *line) {
	var out []outcome
	d.mu.Lock()
	d.leaveLocked(l)
	l.out = nil
	for _, x := range d.open {
		if x.at != l {
			continue
		}
		if answer := x.answer; !d.parkLocked(x) {
			out = append(out, outcome{answer, away(errAway)})
		}
	}
	d.mu.Unlock()
	tell(out)
}

// enqueueLocked puts x into a queue until a time.
func (d *desk) enqueueLocked(q *queue, x *asked, due time.Time) {
	x.due, x.in = due, q
	heap.Push(q, x)
	d.armLocked(due)
}

// armLocked has expire run at a time, or earlier.
func (d *desk) armLocked(at time.Time) {
	if d.over || (!d.armed.IsZero() && !at.Before(d.armed)) {
		return
	}
	d.armed = at
	d.firing.Add(1)
	if d.timer == nil {
		d.timer = time.AfterFunc(time.Until(at), d.expire)
	} else if d.timer.Reset(time.Until(at)) {
		d.firing.Done() // that of the time before
	}
}

// expire answers the questions whose time is over.
func (d *desk) expire() {
	defer d.firing.Done()
	var out []outcome
	d.mu.Lock()
	d.armed = time.Time{}
	now := time.Now()
	for _, q := range []*queue{&d.timed, &d.parked} {
		for x := q.first(); x != nil && !x.due.After(now); x = q.first() {
			err := context.DeadlineExceeded
			if x.deadline.IsZero() || x.deadline.After(now) {
				err = away(errAway)
			}
			out = append(out, outcome{x.answer, err})
			q.remove(x)
			d.freeLocked(x)
		}
		if x := q.first(); x != nil {
			d.armLocked(x.due)
		}
	}
	d.mu.Unlock()
	tell(out)
}

// close answers what is left, and everything from now on.
func (d *desk) close() {
	var out []outcome
	d.mu.Lock()
	d.over = true
	d.lines = nil
	for _, x := range d.open {
		out = append(out, outcome{x.answer, away(errOver)})
		x.in.remove(x)
		d.freeLocked(x)
	}
	if d.timer != nil && d.timer.Stop() {
		d.firing.Done()
	}
	d.mu.Unlock()
	tell(out)
	d.firing.Wait()
}

// queue has questions, the one that is due first at its beginning (container/heap).
type queue []*asked

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	a := x.(*asked)
	a.place = len(*q)
	*q = append(*q, a)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return x
}

// first returns the question that is due first; nil: there is none.
func (q queue) first() *asked {
	if len(q) == 0 {
		return nil
	}
	return q[0]
}

// remove takes x out of the queue; out of none is harmless.
func (q *queue) remove(x *asked) {
	if q != nil {
		heap.Remove(q, x.place)
		x.in = nil
	}
}
