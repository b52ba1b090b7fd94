package smf

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

// Charging: TS 32.255 clause 5.2.2, TS 32.291 clause 6.1. Each PDU session has an
// account. Traffic goes into it whenever the UPF has reported some, and one goroutine
// at a time empties it, one invocation after another, so that a CHF that is slow or away
// holds nobody up: what accumulates meanwhile goes out in the next invocation.

const (
	chargingRetryFirst = 100 * time.Millisecond
	chargingRetryMost  = 5 * time.Second
	// chargingWindow bounds the invocations under way at the CHF.
	chargingWindow = 64
)

// charger is what the accounts of an SMF share.
type charger struct {
	chf      sbi.Charging // nil: nobody wants to know
	spawn    func(context.Context, func(context.Context)) error
	log      *slog.Logger
	timeout  time.Duration // of one attempt
	keep     time.Duration // after the session's end
	window   chan struct{}
	counters *counters
}

// account is the charging session of one PDU session.
type account struct {
	c *charger

	mu      sync.Mutex // guards the rest
	data    sbi.ChargingData
	used    *sbi.UsedUnits // not in an invocation yet
	since   time.Time      // end of the measurement before
	open    bool           // Create is wanted or was made
	created bool           // a Create was answered
	closed  bool           // Release is wanted
	over    bool           // nothing follows
	running bool
	ref     sbi.ChargingRef
	told    ident.AMBR // session AMBR of the latest invocation
}

// begin has the charging session created.
func (c *account) begin(ctx context.Context, d sbi.ChargingData) {
	c.change(ctx, func() {
		if c.open {
			return
		}
		c.data, c.open = d, true
		if c.since.IsZero() {
			c.since = d.Started
		}
	})
}

// add takes traffic of the time since the last call. d brings the rest up to date.
func (c *account) add(ctx context.Context, d sbi.ChargingData, u UsageTotals) {
	c.change(ctx, func() { c.addLocked(d, u) })
}

// end has the charging session released, with the last traffic.
func (c *account) end(ctx context.Context, d sbi.ChargingData, u UsageTotals) {
	c.change(ctx, func() {
		c.addLocked(d, u)
		c.data.Stopped, c.closed = time.Now(), true
	})
}

func (c *account) addLocked(d sbi.ChargingData, u UsageTotals) {
	d.Sequence = c.data.Sequence
	c.data = d
	if u == (UsageTotals{}) {
		return
	}
	if c.used == nil {
		c.used = &sbi.UsedUnits{From: c.since}
	}
	c.used.UplinkOctets += u.UplinkBytes
	c.used.DownlinkOctets += u.DownlinkBytes
	c.used.UplinkPackets += u.UplinkPackets
	c.used.DownlinkPackets += u.DownlinkPackets
	c.since = time.Now()
	c.used.To = c.since
}

// change applies f and sees to it that somebody tells the CHF.
func (c *account) change(ctx context.Context, f func()) {
	if c.c.chf == nil {
		return
	}
	c.mu.Lock()
	f()
	start := c.open && !c.over && !c.running
	c.running = c.running || start
	c.mu.Unlock()
	if start {
		if err := c.c.spawn(ctx, c.run); err != nil {
			c.c.log.Debug("charging ends with the smf", "error", err)
		}
	}
}

// next freezes the next invocation; ok is false when there is none.
func (c *account) next() (d sbi.ChargingData, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.created && c.used == nil && !c.closed && c.data.AMBR == c.told {
		c.running = false
		return d, false
	}
	c.data.Sequence++
	d, c.told = c.data, c.data.AMBR
	d.At = time.Now()
	d.Used, c.used = c.used, nil
	if !c.created { // a Release that is due already follows
		d.Stopped = time.Time{}
	}
	return d, true
}

// run invokes the CHF until there is nothing to say.
func (c *account) run(ctx context.Context) {
	for {
		d, ok := c.next()
		if !ok {
			return
		}
		if !c.insist(ctx, d) {
			c.mu.Lock()
			c.over, c.running = true, false
			c.mu.Unlock()
			c.c.counters.chargingLost.Add(1)
			return
		}
	}
}

// insist repeats an invocation until it is answered. It reports false when the SMF
// stops, or the session has ended and the CHF was silent for too long.
func (c *account) insist(ctx context.Context, d sbi.ChargingData) bool {
	delay := chargingRetryFirst
	for first := true; ; first = false {
		err := c.attempt(ctx, d)
		var p *sbi.Problem
		switch {
		case err == nil:
			return true
		case errors.As(err, &p) && p.Status == http.StatusNotFound && c.forget():
			continue // the CHF has forgotten the session: the same traffic opens another
		}
		c.c.counters.chargingFailures.Add(1)
		if first && ctx.Err() == nil {
			c.c.log.Warn("chf does not take a report", "supi", d.SUPI, "pdu_session", d.Session, "error", err)
		}
		c.mu.Lock()
		stopped := c.data.Stopped
		c.mu.Unlock()
		if !stopped.IsZero() && time.Since(stopped) > c.c.keep {
			c.c.log.Error("charging report given up", "supi", d.SUPI, "pdu_session", d.Session, "error", err)
			return false
		}
		t := time.NewTimer(delay)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false
		}
		delay = min(2*delay, chargingRetryMost)
	}
}

// attempt makes one attempt at an invocation.
func (c *account) attempt(ctx context.Context, d sbi.ChargingData) error {
	select {
	case c.c.window <- struct{}{}:
		defer func() { <-c.c.window }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, c.c.timeout)
	defer cancel()
	c.mu.Lock()
	ref, created := c.ref, c.created
	c.mu.Unlock()
	c.c.counters.chargingSent.Add(1)
	switch {
	case !created:
		d.Stopped = time.Time{}
		ref, err := c.c.chf.CreateCharging(ctx, d)
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.ref, c.created = ref, true
		c.mu.Unlock()
		return nil
	case d.Stopped.IsZero():
		return c.c.chf.UpdateCharging(ctx, ref, d)
	}
	if err := c.c.chf.ReleaseCharging(ctx, ref, d); err != nil {
		return err
	}
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	return nil
}

// forget makes the next attempt a Create; it reports false if it was one already.
func (c *account) forget() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	had := c.created
	c.created = false
	return had
}

// charge brings the session's account up to date with what the UPF has reported and with
// the session AMBR, whose change is a trigger of its own (SESSION_AMBR_CHANGE, TS 32.291
// clause 6.1.6.3.6), and closes it after the last report.
func (s *session) charge(ctx context.Context) {
	switch {
	case s.over():
		s.account.end(ctx, s.chargingData(), s.uncharged())
	case s.usage != s.charged, s.want.exists && s.want.ambr != s.ambr:
		s.account.add(ctx, s.chargingData(), s.uncharged())
	}
}

// uncharged is the traffic since the last call.
func (s *session) uncharged() UsageTotals {
	u := s.usage
	u.UplinkBytes -= s.charged.UplinkBytes
	u.DownlinkBytes -= s.charged.DownlinkBytes
	u.UplinkPackets -= s.charged.UplinkPackets
	u.DownlinkPackets -= s.charged.DownlinkPackets
	s.charged = s.usage
	return u
}

func (s *session) chargingData() sbi.ChargingData {
	if s.want.exists {
		s.ambr = s.want.ambr
	}
	d := sbi.ChargingData{
		SMF: s.smf.cfg.NFID, ChargingID: s.chargingID, SUPI: s.supi, PEI: s.create.PEI, Session: s.id, DNN: s.dnn,
		SNSSAI: s.snssai, Address: s.grant.address, Location: s.location, AMBR: s.ambr, Started: s.created,
	}
	if s.grant.upf != nil {
		d.UPF = s.grant.upf.cfg.Name
	}
	return d
}
