package manager

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Resolve answers an outer relay about a connection that hit one of its ports
// (R11, R12): where the device of that entry is attached now, on what conditions
// the client may reach it, and a ticket for the inner relay. The relay checks the
// conditions.
//
// Errors: CodeRelayNotAttached (the session is over), CodeUnknownEntry (no entry at
// the address, or it is another relay's), CodeEntryExpired, CodeDeviceOffline,
// CodeNoInnerRelay (none is configured for the device's UPF, or it is not
// attached), CodeInternal.
func (rs *RelaySession) Resolve(ctx context.Context, q ResolveRequest) (Route, error) {
	s, hit := rs.svc, q.Hit
	if rs.err() != nil || rs.relay.Kind != OuterRelay {
		return Route{}, NewError(CodeRelayNotAttached)
	}
	e, err := s.store.EntryByAddress(ctx, hit)
	switch {
	case errors.Is(err, ErrNotFound):
		return Route{}, NewError(CodeUnknownEntry, hit)
	case err != nil:
		return Route{}, &Error{Code: CodeInternal, Err: fmt.Errorf("find entry at %s: %w", hit, err)}
	case e.RelayID != rs.relay.ID:
		return Route{}, NewError(CodeUnknownEntry, hit)
	case e.Expired(time.Now()):
		return Route{}, NewError(CodeEntryExpired)
	}
	at, err := s.dir.Lookup(ctx, e.IMSI)
	switch {
	case errors.Is(err, ErrNotAttached):
		return Route{}, NewError(CodeDeviceOffline)
	case err != nil:
		return Route{}, &Error{Code: CodeInternal, Err: fmt.Errorf("look up imsi-%s: %w", e.IMSI, err)}
	}
	inner, ok := s.fleet.session(relayKey{InnerRelay, s.registry.innerOf[at.UPF]})
	if !ok {
		return Route{}, NewError(CodeNoInnerRelay, at.UPF)
	}
	r := Route{
		EntryID:      e.ID,
		ConnectionID: newID(time.Now()),
		Ranges:       e.Ranges,
		Expires:      e.Expires,
		Device:       netip.AddrPortFrom(at.Address, e.DevicePort),
		InnerID:      inner.relay.ID,
		Inner:        inner.relay.Address,
	}
	r.Ticket, err = s.signer.Load().ticket(r, inner.relay.Instance, s.cfg.TicketLifetime)
	if err != nil {
		return Route{}, &Error{Code: CodeInternal, Err: fmt.Errorf("sign ticket for entry %s: %w", e.ID, err)}
	}
	return r, nil
}
