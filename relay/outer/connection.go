package outer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
)

// Causes for which a client is denied, besides relay.Refusal and errExpired,
// errRevoked and errStopped.
const (
	causeOverloaded    = "overloaded"
	causeManagerAway   = "manager-away"
	causeUnknownEntry  = "unknown-entry"
	causeSourceDenied  = "source-denied"
	causeDeviceOffline = "device-offline"
	causeNoInnerRelay  = "no-inner-relay"
	causeInnerAway     = "inner-unreachable"
	causeTimeout       = "timeout"
	causeFailed        = "resolve-failed"
)

// denial is a reason for turning a client away.
type denial struct {
	cause string // stable word
	err   error  // details for the log; may be nil
}

func (d *denial) Error() string {
	if d.err == nil {
		return d.cause
	}
	return fmt.Sprintf("%s: %v", d.cause, d.err)
}

func (d *denial) Unwrap() error { return d.err }

// handle runs one client's connection to its end. ctx is the port's: its cause says
// why the entry ended.
func (r *Relay) handle(ctx context.Context, p *port, c net.Conn) {
	from := remote(c)
	event := manager.ConnectionEvent{EntryID: p.opening.EntryID, Client: from}
	client, inner, route, err := r.setUp(ctx, p, c, from)
	event.ConnectionID = route.ConnectionID
	if err != nil {
		relay.Abort(c)
		d, ok := errors.AsType[*denial](err)
		if !ok {
			d = &denial{causeFailed, err}
		}
		if why := context.Cause(ctx); why != nil {
			d = &denial{why.Error(), err} // the entry ended meanwhile
		}
		r.tally(r.denied, d.cause)
		r.log.Debug("client denied", "entry", event.EntryID, "conn", event.ConnectionID, "client", from, "cause", d.cause, "error", d.err)
		event.Kind, event.Cause = manager.ConnectionDenied, d.cause
		r.report(event)
		return
	}
	p.live.Add(1)
	r.live.Add(1)
	r.opened.Add(1)
	event.Kind = manager.ConnectionOpened
	r.report(event)
	res := r.relayer.Relay(ctx, client, inner, &p.counters)
	p.live.Add(-1)
	r.live.Add(-1)
	cause := endCause(res)
	r.tally(r.ended, cause)
	r.log.Debug("connection ended", "entry", event.EntryID, "conn", event.ConnectionID, "client", from, "cause", cause, "up", res.AToB, "down", res.BToA, "error", res.Err)
	event.Kind, event.Cause, event.Up, event.Down = manager.ConnectionClosed, cause, res.AToB, res.BToA
	r.report(event)
}

// endCause names the end of a relayed connection.
func endCause(res relay.Result) string {
	switch res.Cause {
	case relay.ResetA:
		return "client-reset"
	case relay.ResetB:
		return "device-reset"
	case relay.Cut:
		return res.Err.Error() // errExpired, errRevoked or errStopped
	}
	return "closed"
}

// setUp takes a client as far as the device's answer (R11 to R15). Its errors are
// denials.
func (r *Relay) setUp(ctx context.Context, p *port, c net.Conn, from netip.AddrPort) (client, inner relay.Conn, route manager.Route, err error) {
	deny := func(cause string, err error) (relay.Conn, relay.Conn, manager.Route, error) {
		return nil, nil, route, &denial{cause, err}
	}
	client, ok := c.(relay.Conn)
	if !ok {
		return deny(causeFailed, fmt.Errorf("%T cannot be half-closed", c))
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	default:
		return deny(causeOverloaded, nil)
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.HandshakeTimeout)
	defer cancel()
	route, err = r.deps.Resolver.Resolve(ctx, manager.ResolveRequest{Hit: p.opening.Address, Client: from})
	switch {
	case err != nil:
		return deny(resolveCause(err), err)
	case route.EntryID != p.opening.EntryID:
		return deny(causeUnknownEntry, nil) // the port has a new entry of which the command is under way
	case !route.Allows(from.Addr()):
		return deny(causeSourceDenied, nil)
	}
	ic, err := r.deps.DialInner(ctx, route.Inner)
	if err != nil {
		return deny(causeInnerAway, err)
	}
	inner, ok = ic.(relay.Conn)
	if !ok {
		ic.Close()
		return deny(causeFailed, fmt.Errorf("%T cannot be half-closed", ic))
	}
	err = relay.Connect(ctx, inner, relay.Request{Target: route.Device, Ticket: route.Ticket})
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		relay.Abort(inner)
		if why, ok := errors.AsType[relay.Refusal](err); ok {
			return deny(string(why), err)
		}
		if ctx.Err() != nil {
			return deny(causeTimeout, err)
		}
		return deny(causeInnerAway, err)
	}
	return client, inner, route, nil
}

// resolveCause names the manager's refusals.
func resolveCause(err error) string {
	switch {
	case errors.Is(err, manager.CodeDeviceOffline):
		return causeDeviceOffline
	case errors.Is(err, manager.CodeEntryExpired):
		return errExpired.Error()
	case errors.Is(err, manager.CodeUnknownEntry):
		return causeUnknownEntry
	case errors.Is(err, manager.CodeNoInnerRelay):
		return causeNoInnerRelay
	case errors.Is(err, manager.CodeManagerAway), errors.Is(err, manager.CodeRelayNotAttached), errors.Is(err, manager.CodeNotReady):
		return causeManagerAway
	case errors.Is(err, context.DeadlineExceeded):
		return causeTimeout
	}
	return causeFailed
}

func (r *Relay) report(e manager.ConnectionEvent) {
	e.At, e.Live = time.Now(), int(r.live.Load())
	r.deps.Control.Report(e)
}

func (r *Relay) tally(m map[string]uint64, cause string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m[cause]++
}

func remote(c net.Conn) netip.AddrPort {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
