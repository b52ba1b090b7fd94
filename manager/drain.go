package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// OperatesPlatform returns CodeNotPlatform unless p's operator may see and command the
// platform itself, as Config.PlatformOperators says. What p may do in its operator's
// name is Authorize's.
func (s *Service) OperatesPlatform(p Principal) error {
	if ops := s.cfg.PlatformOperators; len(ops) > 0 {
		if slices.Contains(ops, p.OperatorID) {
			return nil
		}
	} else if len(s.cfg.Operators) == 1 && s.cfg.Operators[0].ID == p.OperatorID {
		return nil
	}
	return NewError(CodeNotPlatform)
}

// Relays returns the relays that are attached to any manager on the store, by kind and
// ID; one that drains beside its replacement is there twice.
func (s *Service) Relays() []RelayStatus { return s.fleet.status() }

// DrainRelay has an outer relay take no new connections and finish those that it has.
// It stays attached, gets no new entries, and cannot be told otherwise: it serves again
// after a restart. Draining one that drains changes nothing.
//
// When it returns nil the relay has begun, or the manager that it is attached to has
// been told. Errors: CodeUnknownRelay (also for an inner relay, which has nothing to
// drain but what outer relays ask of it), CodeDrainFailed (it went away, or does not
// answer), CodeInternal; ctx's error.
func (s *Service) DrainRelay(ctx context.Context, id RelayID) error {
	key := relayKey{OuterRelay, id}
	here, elsewhere := s.fleet.own(key), len(s.fleet.elsewhere(key)) > 0
	if len(here) == 0 && !elsewhere {
		return NewError(CodeUnknownRelay, string(id))
	}
	if elsewhere {
		if err := s.store.Notify(ctx, Change{Kind: ChangeRelayDrain, Relay: id, Origin: s.instance}); err != nil {
			return faultIn(ctx, "drain relay "+string(id), err)
		}
	}
	wait := beginDrain(here)
	waiting, cancel := context.WithTimeout(ctx, s.cfg.RelayTimeout)
	defer cancel()
	if err := wait(waiting); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &Error{Code: CodeDrainFailed, Args: []any{string(id)}, Err: fmt.Errorf("drain relay %s: %w", id, err)}
	}
	s.log.Info("relay told to drain", "relay", id, "sessions", len(here), "elsewhere", elsewhere)
	return nil
}

// drainHere takes up what another manager was asked for.
func (s *Service) drainHere(c Change) {
	if c.Origin == s.instance {
		return
	}
	for _, rs := range s.fleet.own(relayKey{OuterRelay, c.Relay}) {
		rs.post(Command{Kind: CommandDrain}) // its load reports say whether it does
	}
}

// beginDrain tells relays to drain, and returns a function that waits for them.
func beginDrain(sessions []*RelaySession) (wait func(context.Context) error) {
	waits := make([]func(context.Context) (Acknowledgement, error), len(sessions))
	for i, rs := range sessions {
		waits[i] = rs.begin(Command{Kind: CommandDrain})
	}
	return func(ctx context.Context) error {
		var errs []error
		for _, w := range waits {
			_, err := w(ctx)
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
}
