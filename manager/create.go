package manager

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

const (
	maxRanges = 64
	// blindDraws is how often a port is drawn and tried before the taken ones are
	// listed: cheap while the range is mostly free, which it should be.
	blindDraws = 8
	// maxPortsTried bounds how many ports one request may find held by another
	// program on the relay's host.
	maxPortsTried = 8
)

// CreateEntry makes an entry (R3 to R8): it chooses a relay and a port, stores the
// entry and returns once the relay has opened the port. A device that is offline
// is no obstacle: connecting to it fails until it is attached.
//
// Errors: CodeNoDestination, CodeBadIMSI, CodeBadPort, CodeBadDuration,
// CodeBadRanges, CodeBadService, CodeUnknownSubscriber, CodeUnknownSIM (also for
// another operator's), CodeNoOuterRelay, CodeNoFreePort, CodeRelayRefused,
// CodeInternal.
func (s *Service) CreateEntry(ctx context.Context, op OperatorID, req CreateRequest) (Entry, error) {
	e, err := s.draft(op, req)
	if err != nil {
		return Entry{}, err
	}
	candidates := s.fleet.outers()
	var last error = NewError(CodeNoOuterRelay)
	for len(candidates) > 0 {
		status := make([]RelayStatus, len(candidates))
		for i, c := range candidates {
			status[i] = c.status()
		}
		i := s.policy.Choose(status, req)
		err := s.placeOn(ctx, candidates[i], &e)
		if err == nil {
			s.log.Info("entry created", "entry", e.ID, "operator", op, "imsi", e.IMSI, "relay", e.RelayID, "address", e.Address, "expires", e.Expires)
			return e, nil
		}
		if ctx.Err() != nil || AsError(err).Code == CodeInternal {
			return Entry{}, err
		}
		last = err
		candidates = slices.Delete(candidates, i, i+1)
	}
	return Entry{}, last
}

// draft checks req and returns the entry without its place.
func (s *Service) draft(op OperatorID, req CreateRequest) (Entry, error) {
	e := Entry{OperatorID: op, Created: now()}
	switch {
	case req.SIMID != "": // wins over an IMSI, as in the API that clients know
		switch req.Service {
		case "":
			e.Strategy = Dynamic
		case "air":
			e.Strategy = AirPrioritized
		default:
			return Entry{}, NewError(CodeBadService, req.Service)
		}
		sub, ok := s.registry.bySIM[req.SIMID]
		if !ok || sub.OperatorID != op {
			return Entry{}, NewError(CodeUnknownSIM, req.SIMID)
		}
		e.IMSI, e.SIMID = sub.IMSI, sub.SIMID
	case req.IMSI != "":
		imsi, err := ident.ParseIMSI(req.IMSI)
		if err != nil {
			return Entry{}, NewError(CodeBadIMSI)
		}
		sub, ok := s.registry.byIMSI[imsi]
		if !ok || sub.OperatorID != op {
			return Entry{}, NewError(CodeUnknownSubscriber, imsi)
		}
		e.Strategy, e.IMSI = IMSIPrioritized, sub.IMSI
	default:
		return Entry{}, NewError(CodeNoDestination)
	}
	if req.Port < 1 || req.Port > 65535 {
		return Entry{}, NewError(CodeBadPort)
	}
	e.DevicePort = uint16(req.Port)
	duration := s.cfg.DefaultDuration
	if req.Duration != nil {
		duration = *req.Duration
	}
	if duration < time.Second || duration > s.cfg.MaxDuration || duration%time.Second != 0 {
		return Entry{}, NewError(CodeBadDuration, int(s.cfg.MaxDuration/time.Second))
	}
	e.Expires = e.Created.Add(duration)
	var err error
	e.Ranges, err = parseRanges(req.Ranges, req.Caller)
	return e, err
}

func parseRanges(texts []string, caller netip.Addr) ([]netip.Prefix, error) {
	if len(texts) == 0 {
		caller = caller.Unmap().WithZone("")
		if !caller.IsValid() {
			return nil, NewError(CodeBadRanges, maxRanges, "none, and the caller's address is unknown")
		}
		return []netip.Prefix{netip.PrefixFrom(caller, caller.BitLen())}, nil
	}
	if len(texts) > maxRanges {
		return nil, NewError(CodeBadRanges, maxRanges, fmt.Sprintf("%d ranges", len(texts)))
	}
	ranges := make([]netip.Prefix, 0, len(texts))
	for _, t := range texts {
		p, err := parseRange(strings.TrimSpace(t))
		if err != nil {
			return nil, NewError(CodeBadRanges, maxRanges, fmt.Sprintf("%.64q", t))
		}
		if !slices.Contains(ranges, p) {
			ranges = append(ranges, p)
		}
	}
	return ranges, nil
}

func parseRange(t string) (netip.Prefix, error) {
	if !strings.Contains(t, "/") {
		a, err := netip.ParseAddr(t)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, ErrNotFound
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(t)
	if err != nil {
		return netip.Prefix{}, err
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, ErrNotFound
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// placeOn gives e a port of the relay, stores it and has it opened.
func (s *Service) placeOn(ctx context.Context, relay *RelaySession, e *Entry) error {
	for range maxPortsTried {
		e.ID, e.RelayID = EntryID(newID(e.Created)), relay.relay.ID
		if err := s.claim(ctx, relay.relay, e); err != nil {
			return err
		}
		err := s.open(ctx, relay, *e)
		if err == nil {
			s.pokeExpiry()
			return nil
		}
		s.abandon(ctx, *e)
		if !errors.Is(err, ErrPortInUse) {
			return &Error{Code: CodeRelayRefused, Err: fmt.Errorf("relay %s: open %s: %w", relay.relay.ID, e.Address, err)}
		}
	}
	return NewError(CodeNoFreePort)
}

// claim draws a port and stores e under it. The store refuses addresses that are
// taken, so that several managers may share it.
func (s *Service) claim(ctx context.Context, r Relay, e *Entry) error {
	try := func(port uint16) error {
		e.Address = netip.AddrPortFrom(r.Address.Addr(), port)
		err := s.store.CreateEntry(ctx, *e)
		if err != nil && !errors.Is(err, ErrAddressTaken) {
			return &Error{Code: CodeInternal, Err: fmt.Errorf("create entry for imsi-%s: %w", e.IMSI, err)}
		}
		return err
	}
	for range blindDraws {
		if err := try(drawPort(r.Ports)); !errors.Is(err, ErrAddressTaken) {
			return err
		}
	}
	for range blindDraws { // a free port may be taken between the list and the attempt
		taken, err := s.store.TakenPorts(ctx, r.Address.Addr(), e.Created)
		if err != nil {
			return &Error{Code: CodeInternal, Err: fmt.Errorf("list ports of relay %s: %w", r.ID, err)}
		}
		port, ok := drawFreePort(r.Ports, taken)
		if !ok {
			return NewError(CodeNoFreePort)
		}
		if err := try(port); !errors.Is(err, ErrAddressTaken) {
			return err
		}
	}
	return NewError(CodeNoFreePort)
}

// open has the relay open e and waits for its acknowledgement.
func (s *Service) open(ctx context.Context, relay *RelaySession, e Entry) error {
	callCtx, cancel := context.WithTimeout(ctx, s.cfg.RelayTimeout)
	defer cancel()
	ack, err := relay.call(callCtx, Command{Kind: CommandOpen, Openings: []Opening{e.opening()}})
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			relay.end(ErrRelayStalled)
		}
		return err
	}
	for _, f := range ack.Failures {
		if f.EntryID == e.ID {
			return f.Err
		}
	}
	return nil
}

// abandon undoes claim and open, also when the caller has gone. The relay may have
// attached again since, with the entry in its snapshot: first the entry goes, then
// whatever session there is by then is told.
func (s *Service) abandon(ctx context.Context, e Entry) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.RelayTimeout)
	defer cancel()
	if err := s.store.DeleteEntry(ctx, e.ID, now().Add(s.cfg.Quarantine)); err != nil && !errors.Is(err, ErrNotFound) {
		// It expires by itself; nobody was told its address.
		s.log.Error("entry not removed after a failed opening", "entry", e.ID, "error", err)
	}
	if relay, ok := s.fleet.session(relayKey{OuterRelay, e.RelayID}); ok {
		relay.post(Command{Kind: CommandClose, EntryID: e.ID, Reason: ReasonRevoked})
	}
}

func (e Entry) opening() Opening {
	return Opening{
		EntryID: e.ID, Address: e.Address, Expires: e.Expires, OperatorID: e.OperatorID, IMSI: e.IMSI, SIMID: e.SIMID,
		DevicePort: e.DevicePort, TLS: e.TLS, CredentialID: e.CredentialID, Many: e.Many(),
	}
}
