package relay

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config configures a Relayer. The zero value is usable.
type Config struct {
	// IdleTimeout ends a link over which no byte went either way for that long, with
	// Cause Idle. 0: never.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// Loops is how many event loops carry links between kernel sockets, at most 64.
	// Linux has them.
	// 0: one for each processor that the program may use.
	Loops int `yaml:"loops"`
	// Kept is how many connections to one inner relay, on each event loop, may wait for
	// another client after theirs has gone. 0: 32. Negative: none, each client has one of
	// its own.
	Kept int `yaml:"kept"`
}

const defaultKept = 32

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	switch {
	case c.IdleTimeout < 0:
		return errors.New("relayer: idle_timeout must not be negative")
	case c.Loops < 0 || c.Loops > maxLoops:
		return errors.New("relayer: loops must be 0 to 64")
	}
	return nil
}

const maxLoops = 64

var (
	// ErrStopped is why links are cut when the context of Run ends, and when Start
	// is called later than that.
	ErrStopped = errors.New("the relay stopped")
	// ErrDismissed is why a link of Greet or GreetAgain is cut that is to read no request
	// any more. One that has read a request goes on.
	ErrDismissed = errors.New("no request is read any more")
	// ErrIdle is Result.Err of a link with Cause Idle.
	ErrIdle = errors.New("no byte either way within the idle timeout")
)

// NewRelayer checks cfg. Links can be started at once; those between kernel sockets
// move bytes once Run runs.
func NewRelayer(cfg Config) (*Relayer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Relayer{cfg: cfg, ready: make(chan struct{})}
	for range cmp.Or(cfg.Loops, min(runtime.GOMAXPROCS(0), maxLoops)) {
		if l := newLoop(cfg.IdleTimeout, max(cmp.Or(cfg.Kept, defaultKept), 0)); l != nil {
			r.loops = append(r.loops, l)
		}
	}
	return r, nil
}

// HasLoops reports whether links between kernel sockets, and Call, are served by event
// loops.
func (r *Relayer) HasLoops() bool { return len(r.loops) > 0 }

// Ready is closed once links move bytes, or Run has failed.
func (r *Relayer) Ready() <-chan struct{} { return r.ready }

// Run carries the links until ctx ends. It then cuts the live ones with ErrStopped and
// returns when done has returned for the last of them. It must be called once. An
// error means that the system has no descriptors for it, or the like; the links are
// cut then, too.
func (r *Relayer) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, l := range r.loops {
		defer l.close() // also of those that are not prepared: something may wait there
	}
	for _, l := range r.loops {
		if err := l.prepare(); err != nil {
			close(r.ready)
			r.stop()
			return err
		}
	}
	for _, l := range r.loops {
		group.Go(l.run)
	}
	close(r.ready)
	<-ctx.Done()
	r.stop()
	return group.Wait()
}

// stop cuts all links and waits for those on goroutines.
func (r *Relayer) stop() {
	for _, l := range r.loops {
		l.stop()
	}
	r.mu.Lock()
	r.stopped = true
	live := slices.Collect(maps.Keys(r.links))
	r.mu.Unlock()
	for _, l := range live {
		l.Cut(ErrStopped)
	}
	r.running.Wait()
}

// Link is a relayed connection that Start made. Its methods may be called from any
// goroutine, also after its end.
type Link struct {
	counters Counters
	total    *Counters
	done     func(Result)
	split    *splitter // of a link on goroutines
	kept     keeper    // of the connection to another relay; nil: it ends with the link
	loop     *loop     // of the others
	slot     uint32    // belongs to the loop
	task     task      // the connection is still being set up; nil: it is not
	isCut    bool      // this and why are guarded by the loop's mutex
	why      error
}

// newLinkOf makes a link that has relayed n bytes.
func newLinkOf(n int, total *Counters, done func(Result)) *Link {
	l := &Link{total: total, done: done}
	if n > 0 {
		l.counters.AToB.Store(uint64(n))
		if total != nil {
			total.AToB.Add(uint64(n))
		}
	}
	return l
}

// over tells the owner.
func (l *Link) over(c Cause, err error) {
	res := Result{Cause: c, Err: err}
	res.AToB, res.BToA = l.Bytes()
	l.done(res)
}

// Bytes returns how many bytes were written to b and to a so far.
func (l *Link) Bytes() (aToB, bToA uint64) {
	return l.counters.AToB.Load(), l.counters.BToA.Load()
}

// Cut resets both connections at once; the Result is Cause Cut with why as Err. It
// does nothing on a link that has ended or was cut, and does not block.
func (l *Link) Cut(why error) { CutAll([]*Link{l}, why) }

// CutAll is Cut of many links: no end of one waits for what another leaves to be tidied
// up.
func CutAll(links []*Link, why error) {
	on := map[*loop][]*Link{} // those on goroutines have none
	for _, l := range links {
		on[l.loop] = append(on[l.loop], l)
	}
	for loop, some := range on {
		if loop != nil {
			loop.cut(some, why)
		}
	}
	for _, l := range on[nil] {
		l.split.condemn(Cut, why)
	}
	for _, l := range on[nil] {
		l.split.abort()
	}
}

// Start relays between a and b without blocking, and owns both from now on: the caller
// must not touch them again. total may be nil; it is added to as bytes flow.
//
// Bytes are copied in both directions until both have ended (R15, R19). A FIN on one
// side becomes a FIN on the other, after the bytes that came before it, and the other
// direction goes on for as long as it likes. A reset on one side, also one that follows
// a FIN or comes while the other side takes no bytes, becomes a reset on the other.
//
// done is called exactly once, when both connections are closed. That may be before
// Start returns, and on a goroutine which carries other links too: done must not
// block for long, and must not take a lock that its caller holds around Start. After
// Run's end Start cuts the link at once.
//
// Between two *net.TCPConn the bytes are copied by an event loop, and the link costs
// two descriptors and no goroutine; any other pair costs two goroutines.
func (r *Relayer) Start(a, b Conn, total *Counters, done func(Result)) *Link {
	return r.StartAfter(a, b, 0, total, done)
}

// StartAfter is Start where n bytes that came from a have been written to b already:
// they count.
func (r *Relayer) StartAfter(a, b Conn, n int, total *Counters, done func(Result)) *Link {
	if l := r.startOnLoop(a, b, n, total, done); l != nil {
		return l
	}
	l := newLinkOf(n, total, done)
	if l.split = (&splitter{a: a, b: b}); total == nil {
		l.total = &Counters{}
	}
	if !r.enter(l) {
		l.Cut(ErrStopped)
		done(Result{Cause: Cut, Err: ErrStopped})
		return l
	}
	go func() {
		defer r.running.Done()
		res := r.copyBoth(l)
		r.mu.Lock()
		delete(r.links, l)
		r.mu.Unlock()
		done(res)
	}()
	return l
}

// enter remembers a link that goroutines carry; false means that Run has ended.
func (r *Relayer) enter(l *Link) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return false
	}
	if r.links == nil {
		r.links = map[*Link]struct{}{}
	}
	r.links[l] = struct{}{}
	r.running.Add(1)
	return true
}

// copyBoth runs a link on goroutines of its own, to its end.
func (r *Relayer) copyBoth(l *Link) Result {
	s := l.split
	now := time.Now().UnixNano()
	ab := &direction{split: s, src: s.a, dst: s.b, srcCause: ResetA, dstCause: ResetB, bytes: &l.counters.AToB, total: &l.total.AToB, moved: &s.moved}
	ba := &direction{split: s, src: s.b, dst: s.a, srcCause: ResetB, dstCause: ResetA, bytes: &l.counters.BToA, total: &l.total.BToA, moved: &s.moved}
	ab.other, ba.other = ba, ab
	s.moved.Store(now)
	w := startWatch(ab, ba, r.stallCheck, r.cfg.IdleTimeout)
	var wg sync.WaitGroup
	wg.Go(func() { ab.run(r) })
	ba.run(r)
	wg.Wait()
	w.stop()
	s.abort() // a cut may have come no further than to the client's side
	s.a.Close()
	s.b.Close()
	res := Result{Cause: Closed}
	res.AToB, res.BToA = l.Bytes()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != 0 {
		res.Cause, res.Err = s.cause, s.err
	}
	s.ended = 2
	return res
}

// splitter is what the two directions share.
type splitter struct {
	a, b  Conn
	moved atomic.Int64 // when the last bytes moved, in ns since 1970

	mu    sync.Mutex // guards the rest
	cause Cause
	err   error
	ended int // directions that ended with FIN
}

// fail resets both sides; only the first failure counts.
func (s *splitter) fail(c Cause, err error) {
	if s.condemn(c, err) {
		s.abort()
	}
}

// condemn notes why both sides are to be reset, and resets the client's without
// closing it; false means that they were before, or have ended.
func (s *splitter) condemn(c Cause, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != 0 || s.ended == 2 {
		return false
	}
	s.cause, s.err = c, err
	disconnect(s.a)
	return true
}

// abort closes both sides with a reset, if they are still open.
func (s *splitter) abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause == 0 {
		return // they have ended in order
	}
	Abort(s.a)
	Abort(s.b)
}

// finished counts a direction that ended with FIN and reports whether the other
// still runs.
func (s *splitter) finished() (alone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended++
	return s.ended == 1
}
