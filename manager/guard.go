package manager

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// freeFailures is how many failures cost nothing: people mistype.
	freeFailures = 5
	// firstDelay doubles with every failure beyond, up to maxDelay.
	firstDelay = 250 * time.Millisecond
	maxDelay   = 4 * time.Second
	// failuresLast is how long failures are remembered.
	failuresLast = 15 * time.Minute
	// maxWaiting bounds who waits for one name.
	maxWaiting = 32
	maxGuarded = 10_000
)

// guard slows down those who guess, for each name that is logged in to, whether there is
// such an account or not. Nobody is locked out: an attempt waits, and is then checked.
// When too many wait for one name, one of those goes that share a source with most
// others, so that guessers crowd out each other and not the account's owner. It counts
// in this process only. Any goroutine may use it.
type guard struct {
	mu    sync.Mutex // guards the map and what is in it
	names map[string]*attempts
}

type attempts struct {
	failures int
	checking int // attempts that may turn out to be failures
	last     time.Time
	waiting  []*waiter
}

type waiter struct {
	source netip.Addr
	gone   chan struct{} // closed when it has to go
}

// turn is an attempt that may be checked. Exactly one of its methods is called.
type turn struct {
	g    *guard
	name string
}

func newGuard() *guard { return &guard{names: map[string]*attempts{}} }

// enter waits until an attempt at name may be checked. Errors: CodeTooManyLogins; ctx's.
func (g *guard) enter(ctx context.Context, name string, source netip.Addr) (turn, error) {
	g.mu.Lock()
	a := g.attempts(name)
	a.last = time.Now()
	t := turn{g, name}
	if a.failures+a.checking < freeFailures {
		a.checking++
		g.mu.Unlock()
		return t, nil
	}
	w := &waiter{source: source, gone: make(chan struct{})}
	a.waiting = append(a.waiting, w)
	if len(a.waiting) > maxWaiting {
		a.crowdOut()
	}
	delay := min(firstDelay<<min(max(a.failures-freeFailures, 0), 10), maxDelay)
	g.mu.Unlock()

	timer := time.NewTimer(delay)
	defer timer.Stop()
	var err error
	select {
	case <-timer.C:
	case <-w.gone:
		return t, NewError(CodeTooManyLogins)
	case <-ctx.Done():
		err = ctx.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(a.waiting, w); i >= 0 {
		a.waiting = slices.Delete(a.waiting, i, i+1)
	} else if err == nil { // at the same moment
		return t, NewError(CodeTooManyLogins)
	}
	if err == nil {
		a.checking++
	}
	return t, err
}

// attempts returns what is known of a name. Names with somebody waiting or being checked
// are never forgotten.
func (g *guard) attempts(name string) *attempts {
	if a, ok := g.names[name]; ok {
		if a.checking == 0 && len(a.waiting) == 0 && time.Since(a.last) > failuresLast {
			a.failures = 0
		}
		return a
	}
	if len(g.names) >= maxGuarded {
		g.forgetOldest()
	}
	a := &attempts{}
	g.names[name] = a
	return a
}

func (g *guard) forgetOldest() {
	oldest, at := "", time.Time{}
	for name, a := range g.names {
		if a.checking == 0 && len(a.waiting) == 0 && (at.IsZero() || a.last.Before(at)) {
			oldest, at = name, a.last
		}
	}
	delete(g.names, oldest)
}

// crowdOut sends away one of those that share a source with most others.
func (a *attempts) crowdOut() {
	count := map[netip.Addr]int{}
	most := 0
	for _, w := range a.waiting {
		count[w.source]++
		most = max(most, count[w.source])
	}
	var from []int
	for i, w := range a.waiting {
		if count[w.source] == most {
			from = append(from, i)
		}
	}
	i := from[rand.IntN(len(from))]
	close(a.waiting[i].gone)
	a.waiting = slices.Delete(a.waiting, i, i+1)
}

func (t turn) end(change func(*attempts)) {
	t.g.mu.Lock()
	defer t.g.mu.Unlock()
	a := t.g.names[t.name]
	a.checking--
	a.last = time.Now()
	change(a)
	if a.failures == 0 && a.checking == 0 && len(a.waiting) == 0 {
		delete(t.g.names, t.name)
	}
}

// failed says that the attempt was wrong.
func (t turn) failed() { t.end(func(a *attempts) { a.failures++ }) }

// succeeded says that it was right.
func (t turn) succeeded() { t.end(func(a *attempts) { a.failures = 0 }) }

// leave says neither.
func (t turn) leave() { t.end(func(*attempts) {}) }
