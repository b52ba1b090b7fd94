package manager

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// Entries lists an operator's entries that have not expired. The only error is
// CodeInternal.
func (s *Service) Entries(ctx context.Context, q EntryQuery) ([]Entry, error) {
	es, err := s.store.Entries(ctx, q, now())
	if err != nil {
		return nil, &Error{Code: CodeInternal, Err: fmt.Errorf("list entries of %s: %w", q.OperatorID, err)}
	}
	return es, nil
}

// DeleteEntry revokes the entry at an address (R17). When it returns nil the relay
// accepts no new connections and has cut those that lived, unless the relay is
// cut off from the manager: then it learns of it when it attaches again, and until
// then the manager refuses to resolve for it.
//
// Errors: CodeUnknownEntry (also for another operator's), CodeInternal.
func (s *Service) DeleteEntry(ctx context.Context, op OperatorID, a netip.AddrPort) error {
	a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	unknown := NewError(CodeUnknownEntry, a)
	e, err := s.store.EntryByAddress(ctx, a)
	switch {
	case errors.Is(err, ErrNotFound):
		return unknown
	case err != nil:
		return &Error{Code: CodeInternal, Err: fmt.Errorf("find entry at %s: %w", a, err)}
	case e.OperatorID != op, e.Expired(now()):
		return unknown
	}
	err = s.store.DeleteEntry(ctx, e.ID, now().Add(s.cfg.Quarantine))
	switch {
	case errors.Is(err, ErrNotFound): // it expired, or another request was faster
		return unknown
	case err != nil:
		return &Error{Code: CodeInternal, Err: fmt.Errorf("delete entry %s: %w", e.ID, err)}
	}
	s.log.Info("entry revoked", "entry", e.ID, "operator", op, "imsi", e.IMSI, "relay", e.RelayID, "address", e.Address)
	// The entry is gone whether or not the client waits for the relay.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.RelayTimeout)
	defer cancel()
	for {
		relay, ok := s.fleet.session(relayKey{OuterRelay, e.RelayID})
		if !ok {
			return nil
		}
		_, err = relay.call(ctx, Command{Kind: CommandClose, EntryID: e.ID, Reason: ReasonRevoked})
		switch {
		case errors.Is(err, ErrReplaced): // its new session may not have the snapshot yet
			continue
		case errors.Is(err, context.DeadlineExceeded):
			// A relay that does not cut when told to must not keep its session: the
			// snapshot of the next one tells it again.
			relay.end(ErrRelayStalled)
		}
		return nil
	}
}
