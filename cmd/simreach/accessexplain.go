package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/relay/outer/manyclient"
)

// How long the error log is asked for what a relay has just noted, and how often.
const (
	patienceReason = 3 * time.Second
	reasonInterval = 200 * time.Millisecond
)

// explain returns err as a *refusal if a relay turned a connection away or cut it, with
// the code of the error log where there is a login. begin is when the connection was
// asked for.
func (c *connector) explain(ctx context.Context, begin time.Time, err error) error {
	if refused, ok := errors.AsType[*manyclient.RefusedError](err); ok {
		return &refusal{Code: refused.Code, Message: refused.Target + ": " + refused.Cause, Status: refused.Status, err: err}
	}
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case errors.Is(err, syscall.ECONNREFUSED):
		return &refusal{Message: "nothing is open at " + c.at + ": the access has expired, was deleted, or was never there", err: err}
	case !isCut(err):
		return err
	}
	port := 0
	if p, ok := errors.AsType[*portError](err); ok {
		port = p.port
	}
	if e, ok := c.reason(ctx, begin, port); ok {
		return &refusal{Code: e.Body.Code, Message: e.Body.Message, err: err}
	}
	return &refusal{Message: fmt.Sprintf("the relay cut the connection: %v; 'simreach access errors IMSI' tells why", err), err: err}
}

// isCut reports whether err is what a relay's denial or a cut looks like: a reset, or an
// alert.
func isCut(err error) bool {
	if cut, ok := errors.AsType[*cutError](err); ok && cut.side == sideLocal {
		return false
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" { // crypto/tls has an alert of the peer so
		return true
	}
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// reason looks a failure up in the error log: that of the connection from the local
// port, or else the only reason why connections failed since begin.
func (c *connector) reason(ctx context.Context, begin time.Time, port int) (api.LogEntry, bool) {
	if c.session == nil {
		return api.LogEntry{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, patienceReason)
	defer cancel()
	// By the manager's clock, of which it is known what it was when the access was made.
	// The relay's may differ a little.
	since := time.UnixMilli(max(c.made.CreatedTime, c.made.CreatedTime+(begin.Sub(c.since)-c.took).Milliseconds()))
	tick := time.NewTicker(reasonInterval)
	defer tick.Stop()
	var only *api.LogEntry // says what all connections failed for that did
	for {
		es, _, err := c.session.ErrorLog(ctx, api.LogQuery{IMSI: c.made.Destination.IMSI, From: since.Add(-time.Second)})
		if err != nil {
			break // not permitted, nobody there, or the time is over
		}
		only = nil
		codes := map[string]bool{}
		for i, e := range es {
			if d := e.Body.Direction; d != nil && d.SourcePort == port {
				return e, true
			}
			if e.Time >= since.UnixMilli() {
				codes[e.Body.Code] = true
				only = &es[i]
			}
		}
		if len(codes) > 1 {
			only = nil
		}
		if only != nil && port == 0 {
			return *only, true
		}
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		break
	}
	if only == nil {
		return api.LogEntry{}, false
	}
	return *only, true // from another port: there is a translator between
}
