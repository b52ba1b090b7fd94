package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// Ping has the inner relay at the device's UPF send echo requests: count 1 to 5, and 1
// to 3 s for each answer. Errors: as SIM, CodeBadPing, CodeDeviceOffline,
// CodePingFailed (also if no inner relay is attached), CodeInternal.
func (s *Service) Ping(ctx context.Context, op OperatorID, ref SIMRef, count int, timeout time.Duration) (PingResult, error) {
	if count < 1 || count > 5 || timeout < time.Second || timeout > 3*time.Second || timeout%time.Second != 0 {
		return PingResult{}, NewError(CodeBadPing)
	}
	sub, err := s.owned(ctx, op, ref)
	if err != nil {
		return PingResult{}, err
	}
	return s.ping(ctx, sub.IMSI, Ping{Count: count, Timeout: timeout})
}

// ping sends p, with its Device filled in, through the inner relay of the device's UPF,
// whichever manager that is attached to.
func (s *Service) ping(ctx context.Context, imsi ident.IMSI, p Ping) (PingResult, error) {
	switch barred, err := s.barred(ctx, imsi, false); {
	case err != nil:
		return PingResult{}, err
	case barred:
		return PingResult{}, NewError(CodeDeviceOffline)
	}
	at, err := s.dir.Lookup(ctx, imsi)
	switch {
	case errors.Is(err, ErrNotAttached):
		return PingResult{}, NewError(CodeDeviceOffline)
	case err != nil:
		return PingResult{}, fault("look up device", err)
	}
	id := s.registry.innerOf[at.UPF]
	p.Device = at.Address
	ctx, cancel := context.WithTimeout(ctx, time.Duration(p.Count)*p.Timeout+s.cfg.RelayTimeout)
	defer cancel()
	var result *PingResult
	if inner, here := s.fleet.session(relayKey{InnerRelay, id}); here {
		result, err = pingThrough(ctx, inner, p)
	} else if _, there := s.fleet.serving(relayKey{InnerRelay, id}); there {
		result, err = s.pingElsewhere(ctx, id, p)
	} else {
		err = NewError(CodeNoInnerRelay, at.UPF) // beneath, for the log: clients would repeat the request
	}
	if err != nil {
		return PingResult{}, &Error{Code: CodePingFailed, Err: fmt.Errorf("ping imsi-%s: %w", imsi, err)}
	}
	if result == nil {
		return PingResult{}, NewError(CodePingFailed)
	}
	return *result, nil
}

func pingThrough(ctx context.Context, inner *RelaySession, p Ping) (*PingResult, error) {
	ack, err := inner.call(ctx, Command{Kind: CommandPing, Ping: p})
	return ack.Ping, err
}

// pingElsewhere asks the manager that an inner relay is attached to.
func (s *Service) pingElsewhere(ctx context.Context, inner RelayID, p Ping) (*PingResult, error) {
	data, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	id := newID(time.Now())
	answers, done := s.peers.expect(EntryID(id))
	defer done()
	if err := s.store.Notify(ctx, Change{Kind: ChangePing, ID: id, Relay: inner, Data: string(data), Origin: s.instance}); err != nil {
		return nil, err
	}
	select {
	case c := <-answers:
		var result *PingResult
		err := json.Unmarshal([]byte(c.Data), &result)
		return result, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pingHere takes up what another manager was asked for; a failure is answered with null.
func (s *Service) pingHere(ctx context.Context, c Change) {
	inner, ok := s.fleet.session(relayKey{InnerRelay, c.Relay})
	var p Ping
	if c.Origin == s.instance || !ok || json.Unmarshal([]byte(c.Data), &p) != nil {
		return
	}
	s.peers.watched.Go(func() {
		waiting, cancel := context.WithTimeout(ctx, time.Duration(p.Count)*p.Timeout+s.cfg.RelayTimeout)
		defer cancel()
		result, err := pingThrough(waiting, inner, p)
		if err != nil {
			s.log.Info("ping for another manager failed", "relay", c.Relay, "error", err)
		}
		data, err := json.Marshal(result)
		if err == nil {
			err = s.store.Notify(ctx, Change{Kind: ChangePingAnswered, ID: c.ID, Data: string(data), Origin: s.instance})
		}
		if err != nil && ctx.Err() == nil {
			s.log.Error("answer of a ping not passed on", "relay", c.Relay, "error", err)
		}
	})
}
