package manager

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/simreach/simreach/internal/telemetry/observe"
)

// Resolve answers an outer relay about a connection that hit one of its ports
// (R11, R12): where the device of that entry is attached now, on what conditions
// the client may reach it, and a ticket for the inner relay. The relay checks the
// conditions. On an entry for several devices the question names one of them, and the
// conditions are those of the entry and the device together.
//
// Errors: CodeRelayNotAttached (the session is over), CodeUnknownEntry (no entry at
// the address, or it is another relay's), CodeEntryExpired, CodeConnUnknownTarget (the
// entry is not for the device that is named, or names none where it must),
// CodeCredentialRevoked, CodeUnknownCredential, CodeDeviceOffline (also of a device whose SIM
// is barred, whether or not the core knows), CodeNoInnerRelay (none is configured for the
// device's UPF, or it is not attached), CodeInternal.
func (rs *RelaySession) Resolve(ctx context.Context, q ResolveRequest) (Route, error) {
	r, _, err := rs.answer(ctx, q, false)
	return r, err
}

// TryResolve is Resolve if that needs nothing of the store; false if it does, and then
// Resolve must be called. It waits for nobody, as long as the directory does not.
func (rs *RelaySession) TryResolve(ctx context.Context, q ResolveRequest) (r Route, known bool, err error) {
	return rs.answer(ctx, q, true)
}

// errUnknownHere says that the store must be asked.
var errUnknownHere = errors.New("not in memory")

func (rs *RelaySession) answer(ctx context.Context, q ResolveRequest, memory bool) (Route, bool, error) {
	begin := time.Now()
	ctx, span := rs.svc.begun(ctx, spanResolve, trace.SpanKindServer)
	r, err := rs.resolve(ctx, &q, begin, memory)
	if err == errUnknownHere {
		return Route{}, false, nil // nobody sees a span that does not end
	}
	if span.Recording() {
		span.Set(observe.EntryID.String(string(r.EntryID)), observe.ConnectionID.String(q.ConnectionID), observe.RelayID.String(string(rs.relay.ID)))
	}
	endSpan(span, err)
	rs.svc.metrics.resolved(begin, err)
	return r, true, err
}

// resolve answers as of now; from memory alone, if so told, or with errUnknownHere.
func (rs *RelaySession) resolve(ctx context.Context, q *ResolveRequest, now time.Time, memory bool) (Route, error) {
	s, hit := rs.svc, q.Hit
	if rs.ended() || rs.relay.Kind != OuterRelay {
		return Route{}, NewError(CodeRelayNotAttached)
	}
	e, ok := s.table.known(hit)
	if !ok {
		if memory {
			return Route{}, errUnknownHere
		}
		var err error
		e, err = s.table.find(ctx, hit)
		switch {
		case errors.Is(err, ErrNotFound):
			return Route{}, NewError(CodeUnknownEntry, hit)
		case err != nil:
			return Route{}, AsError(fmt.Errorf("find entry at %s: %w", hit, err))
		}
	}
	if e.RelayID != rs.relay.ID {
		return Route{}, NewError(CodeUnknownEntry, hit)
	}
	t, ok := e.target(q.Target)
	if !ok {
		return Route{}, NewError(CodeConnUnknownTarget)
	}
	r := Route{
		EntryID: e.ID, ConnectionID: q.ConnectionID, OperatorID: e.OperatorID, IMSI: t.IMSI, SIMID: t.SIMID,
		TLS: e.TLS, CredentialID: e.CredentialID, ProxyProtocol: e.ProxyProtocol, Ranges: e.Ranges, Expires: e.Expires,
	}
	if len(t.Ranges) > 0 {
		r.Ranges = intersect(e.Ranges, t.Ranges)
	}
	if !t.Expires.IsZero() && t.Expires.Before(r.Expires) {
		r.Expires = t.Expires
	}
	if !now.Before(r.Expires) {
		return Route{}, NewError(CodeEntryExpired)
	}
	if memory && e.CredentialID != "" && !s.credentials.knows(e.CredentialID) {
		return Route{}, errUnknownHere
	}
	if err := s.checkCredential(ctx, e.CredentialID); err != nil {
		return Route{}, err
	}
	switch barred, err := s.barred(ctx, t.IMSI, memory); {
	case err != nil:
		return Route{}, err
	case barred:
		return Route{}, NewError(CodeDeviceOffline)
	}
	at, err := s.dir.Lookup(ctx, t.IMSI)
	switch {
	case errors.Is(err, ErrNotAttached):
		return Route{}, NewError(CodeDeviceOffline)
	case err != nil:
		return Route{}, AsError(fmt.Errorf("look up imsi-%s: %w", t.IMSI, err))
	}
	inner, ok := s.fleet.serving(relayKey{InnerRelay, s.registry.innerOf[at.UPF]})
	if !ok {
		return Route{}, NewError(CodeNoInnerRelay, at.UPF)
	}
	if r.ConnectionID == "" {
		r.ConnectionID = newID(now)
	}
	r.Device, r.InnerID, r.Inner = netip.AddrPortFrom(at.Address, t.DevicePort), inner.ID, inner.Address
	r.Ticket, err = s.signer.Load().ticket(&r, inner.Instance, now, s.cfg.TicketLifetime)
	if err != nil {
		return Route{}, AsError(fmt.Errorf("sign ticket for entry %s: %w", e.ID, err))
	}
	return r, nil
}

// knows reports whether a credential is in memory.
func (cc *credentialCache) knows(id CredentialID) bool {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	_, ok := cc.known[id]
	return ok
}

func (rs *RelaySession) ended() bool {
	select {
	case <-rs.done:
		return true
	default:
		return false
	}
}

// target returns the device of an entry that a question names: "" for an entry for one;
// "imsi-<digits>:<port>" or "<SIM ID>:<port>" for one of several.
func (e *Entry) target(name string) (Target, bool) {
	if !e.Many() {
		return Target{IMSI: e.IMSI, SIMID: e.SIMID, DevicePort: e.DevicePort}, name == ""
	}
	device, digits, ok := strings.Cut(name, ":")
	port, err := strconv.ParseUint(digits, 10, 16)
	if !ok || err != nil || device == "" {
		return Target{}, false
	}
	imsi, byIMSI := strings.CutPrefix(device, "imsi-")
	for _, t := range e.Targets {
		if t.DevicePort == uint16(port) && (byIMSI && string(t.IMSI) == imsi || !byIMSI && t.SIMID == device) {
			return t, true
		}
	}
	return Target{}, false
}

// intersect returns the addresses that are in both lists.
func intersect(a, b []netip.Prefix) []netip.Prefix {
	var both []netip.Prefix
	for _, p := range a {
		for _, q := range b {
			if !p.Overlaps(q) {
				continue
			}
			narrow := p // one of two that overlap contains the other
			if q.Bits() > p.Bits() {
				narrow = q
			}
			if !slices.Contains(both, narrow) {
				both = append(both, narrow)
			}
		}
	}
	return both
}
