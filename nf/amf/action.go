package amf

import (
	"context"
	"time"

	"github.com/simreach/simreach/internal/wire/ngap"
)

// action is something a procedure wants done outside the UE's own state. The
// worker performs actions in order when the procedure has returned.
type action interface {
	perform(ctx context.Context, u *ue)
}

func (u *ue) perform(ctx context.Context) {
	for len(u.out) > 0 {
		out := u.out
		u.out = nil
		for _, a := range out {
			a.perform(ctx, u)
		}
	}
}

// sendN2 sends an NGAP message on a UE's stream.
type sendN2 struct {
	c *n2conn
	m ngap.Message
}

func (s sendN2) perform(ctx context.Context, u *ue) { u.a.send(ctx, s.c.gnb, s.c.stream, s.m) }

// call runs a call of another network function in its own goroutine. What it
// returns is posted to the UE, unless the UE has begun another procedure since.
type call struct {
	epoch uint64
	run   func(context.Context) func(*ue)
	fail  func(*ue) // the call could not even be queued
}

func (c call) perform(_ context.Context, u *ue) {
	ok := u.a.calls.submit(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, u.a.cfg.CallTimeout)
		defer cancel()
		then := c.run(ctx)
		if then == nil {
			return
		}
		u.post(func(u *ue) {
			if u.epoch == c.epoch {
				then(u)
			}
		})
	})
	if !ok {
		u.a.stats.callOverloads.Add(1)
		if c.fail != nil {
			c.fail(u)
		}
	}
}

// postTo hands work to another UE context.
type postTo struct {
	to   *ue
	f    func(*ue)
	dead func() // runs instead if that context has ended
}

func (p postTo) perform(context.Context, *ue) {
	if !p.to.postOr(p.f, p.dead) {
		p.dead()
	}
}

// startTimer and stopTimer work on the UE's timers.
type startTimer struct {
	id  timerID
	gen uint64
	d   time.Duration
}

func (s startTimer) perform(_ context.Context, u *ue) {
	if u.gens[s.id] != s.gen {
		return // stopped again by the same procedure
	}
	u.timers[s.id] = time.AfterFunc(s.d, func() {
		u.post(func(u *ue) {
			if u.gens[s.id] == s.gen {
				u.timeout(s.id)
			}
		})
	})
}

// send lists an NGAP message to be sent.
func (u *ue) send(c *n2conn, m ngap.Message) { u.out = append(u.out, sendN2{c, m}) }

// call lists a call of another network function; run returns what to do with its
// outcome. If it cannot be queued, fail runs at once.
func (u *ue) call(run func(context.Context) func(*ue), fail func(*ue)) {
	u.out = append(u.out, call{epoch: u.epoch, run: run, fail: fail})
}
