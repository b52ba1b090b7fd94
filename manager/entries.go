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
		return nil, AsError(fmt.Errorf("list entries of %s: %w", q.OperatorID, err))
	}
	return es, nil
}

// DeleteEntry revokes the entry at an address (R17). When it returns nil the relay
// accepts no new connections and has cut those that lived, unless the relay is
// cut off from its manager: then it learns of it when it attaches again, and until
// then no manager resolves for it. That is so of a relay that is attached to another
// manager, too.
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
		return AsError(fmt.Errorf("find entry at %s: %w", a, err))
	case e.OperatorID != op, e.Expired(now()):
		return unknown
	}
	answers, done := s.peers.expect(e.ID)
	defer done()
	s.peers.begin(e.ID)
	elsewhere := s.fleet.elsewhere(relayKey{OuterRelay, e.RelayID})
	err = s.store.DeleteEntry(ctx, e.ID, now().Add(s.cfg.Quarantine))
	if err != nil {
		s.peers.isDirect(e.ID)
	}
	switch {
	case errors.Is(err, ErrNotFound): // it expired, or another request was faster
		return unknown
	case err != nil:
		return AsError(fmt.Errorf("delete entry %s: %w", e.ID, err))
	}
	s.table.remove(a, e.ID)
	s.log.Info("entry revoked", "entry", e.ID, "operator", op, "imsi", e.IMSI, "relay", e.RelayID, "address", e.Address)
	// The entry is gone whether or not the client waits for the relay.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.RelayTimeout)
	defer cancel()
	s.closeEverywhere(ctx, e, answers, elsewhere)
	return nil
}

// closeEverywhere has the relay of an entry that is deleted cut it, with all processes
// that it consists of, and returns when they have or ctx ends.
func (s *Service) closeEverywhere(ctx context.Context, e Entry, answers <-chan Change, elsewhere map[string]bool) {
	key := relayKey{OuterRelay, e.RelayID}
	told := map[*RelaySession]bool{}
	for {
		var left []*RelaySession
		for _, rs := range s.fleet.own(key) {
			if !told[rs] {
				left = append(left, rs)
				told[rs] = true
			}
		}
		if len(left) == 0 {
			break
		}
		// A session that was replaced meanwhile: the new one may not have its snapshot
		// yet, so there is another round.
		s.beginClose(left, e.ID)(ctx)
	}
	for len(elsewhere) > 0 {
		select {
		case c := <-answers:
			delete(elsewhere, c.Origin)
		case <-ctx.Done():
			return
		}
	}
}
