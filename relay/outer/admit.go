package outer

import (
	"errors"
	"time"

	"github.com/simreach/simreach/manager"
)

var (
	errSourceRate = errors.New("of the source")
	errEntryRate  = errors.New("of the entry")
)

// admit checks what bounds the connections of a public port. The function it returns
// lets go of what it took; it may be called twice.
func (r *Relay) admit(c *conn, full bool) (release func(), err error) {
	now := time.Now()
	p := c.port
	switch {
	case r.all.Load() > int64(r.cfg.MaxConnections):
		return nil, deny(manager.CauseOverloaded, nil)
	case !r.deps.Auditor.Accepting():
		return nil, deny(manager.CauseAuditUnavailable, nil)
	case !r.sources.allow(c.client.Addr(), now):
		return nil, deny(manager.CauseRateLimited, errSourceRate)
	}
	select {
	case r.slots <- struct{}{}:
	default:
		return nil, deny(manager.CauseOverloaded, nil)
	}
	held := true
	release = func() {
		if held {
			held = false
			<-r.slots
		}
	}
	// Sources that may not connect at all shall not use up what the others may.
	known := p.ranges.Load()
	switch {
	case known != nil && c.allowed(*known) != nil:
	case full:
		err = deny(manager.CauseTooManyConnections, nil)
	case p.rate != nil && !p.rate.AllowN(now, 1):
		err = deny(manager.CauseRateLimited, errEntryRate)
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}
