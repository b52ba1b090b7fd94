package manager

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/telemetry/observe"
)

const (
	maxRanges = 64
	// blindDraws is how often a port is drawn that is free as far as is known here,
	// before the store is asked for all that are taken, those in quarantine too.
	blindDraws = 8
	// maxPortsTried bounds how many ports one request may find held by another
	// program on the relay's host.
	maxPortsTried = 8
	// maxTargets bounds the devices of an entry for several, and the entries that one
	// request makes.
	maxTargets = 100
	// parallelPlaces bounds how many entries of one request are placed at one time.
	parallelPlaces = 8
)

// CreateEntry makes an entry (R3 to R8): it chooses a relay and a port, stores the
// entry and returns once the relay has opened the port. A device that is offline
// is no obstacle: connecting to it fails until it is attached.
//
// Errors: CodeNoDestination, CodeBadIMSI, CodeBadPort, CodeBadDuration,
// CodeBadRanges, CodeBadService, CodeUnknownSubscriber, CodeUnknownSIM (also for
// another operator's), CodeCredentialNeedsTLS, CodeUnknownCredential (also for another
// operator's), CodeCredentialRevoked, CodeTargetsNeedTLS, CodeTargetsAlone,
// CodeTooManyTargets, CodeTargetTwice, CodeNoOuterRelay, CodeNoFreePort,
// CodeRelayRefused, CodeInternal.
func (s *Service) CreateEntry(ctx context.Context, op OperatorID, req CreateRequest) (Entry, error) {
	e, err := s.draft(ctx, op, req)
	if err != nil {
		s.metrics.entryCreated(err)
		return Entry{}, err
	}
	return s.place(ctx, e, req)
}

// CreateEntries makes an entry for each request (R9a), all or none: if one cannot be
// made, those that were are deleted again. Each has its own relay, port and conditions.
//
// Errors: CodeTooManyRequests and those of CreateEntry.
func (s *Service) CreateEntries(ctx context.Context, op OperatorID, reqs []CreateRequest) ([]Entry, error) {
	if len(reqs) == 0 || len(reqs) > maxTargets {
		return nil, NewError(CodeTooManyRequests, maxTargets)
	}
	es := make([]Entry, len(reqs))
	for i, req := range reqs { // first those errors that need no relay
		var err error
		if es[i], err = s.draft(ctx, op, req); err != nil {
			s.metrics.entryCreated(err)
			return nil, err
		}
	}
	g, placing := errgroup.WithContext(ctx)
	g.SetLimit(parallelPlaces)
	made := make([]bool, len(reqs))
	for i, req := range reqs {
		g.Go(func() (err error) {
			es[i], err = s.place(placing, es[i], req)
			made[i] = err == nil
			return err
		})
	}
	err := g.Wait()
	if err == nil {
		return es, nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	for i, e := range es {
		if made[i] {
			s.abandon(ctx, e)
		}
	}
	return nil, err
}

// place finds a relay and a port for a draft.
func (s *Service) place(ctx context.Context, draft Entry, req CreateRequest) (Entry, error) {
	ctx, span := s.begun(ctx, spanCreate, trace.SpanKindInternal)
	e, err := s.placeAnywhere(ctx, draft, req)
	if err == nil && span.Recording() {
		span.Set(observe.EntryID.String(string(e.ID)), observe.RelayID.String(string(e.RelayID)))
	}
	endSpan(span, err)
	s.metrics.entryCreated(err)
	return e, err
}

func (s *Service) placeAnywhere(ctx context.Context, e Entry, req CreateRequest) (Entry, error) {
	candidates := s.fleet.candidates()
	var last error = NewError(CodeNoOuterRelay)
	for len(candidates) > 0 {
		status := make([]RelayStatus, len(candidates))
		for i, c := range candidates {
			status[i] = c.status
		}
		i := chooseRelay(s.policy, status, req)
		err := s.placeOn(ctx, candidates[i], &e)
		if err == nil {
			s.notePortMappings(e)
			s.log.Info("entry created", "entry", e.ID, "operator", e.OperatorID, "imsi", e.IMSI, "relay", e.RelayID, "address", e.Address, "expires", e.Expires)
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
func (s *Service) draft(ctx context.Context, op OperatorID, req CreateRequest) (Entry, error) {
	e := Entry{OperatorID: op, Created: now(), TLS: req.TLS, CredentialID: req.CredentialID, ProxyProtocol: req.ProxyProtocol}
	if err := s.destination(ctx, &e, req); err != nil {
		return Entry{}, err
	}
	if err := s.usable(ctx, e); err != nil {
		return Entry{}, err
	}
	duration := s.cfg.DefaultDuration
	if req.Duration != nil {
		duration = *req.Duration
	}
	if duration < time.Second || duration > s.cfg.MaxDuration || duration%time.Second != 0 {
		return Entry{}, NewError(CodeBadDuration, int(s.cfg.MaxDuration/time.Second))
	}
	e.Expires = e.Created.Add(duration)
	var err error
	if e.Ranges, err = parseRanges(req.Ranges, req.Caller); err != nil {
		return Entry{}, err
	}
	if len(req.Targets) > 0 {
		e.Targets, err = s.targets(ctx, e, req.Targets)
	}
	return e, err
}

// destination sets the device of an entry for one.
func (s *Service) destination(ctx context.Context, e *Entry, req CreateRequest) error {
	if len(req.Targets) > 0 {
		switch {
		case req.SIMID != "" || req.IMSI != "" || req.Service != "" || req.Port != 0:
			return NewError(CodeTargetsAlone)
		case !req.TLS:
			return NewError(CodeTargetsNeedTLS)
		case len(req.Targets) > maxTargets:
			return NewError(CodeTooManyTargets, maxTargets)
		}
		e.Strategy = IMSIPrioritized
		return nil
	}
	if req.SIMID != "" { // wins over an IMSI, as in the API that clients know
		switch req.Service {
		case "":
			e.Strategy = Dynamic
		case "air":
			e.Strategy = AirPrioritized
		default:
			return NewError(CodeBadService, req.Service)
		}
	} else {
		e.Strategy = IMSIPrioritized
	}
	var err error
	e.IMSI, e.SIMID, e.DevicePort, err = s.device(ctx, e.OperatorID, req.IMSI, req.SIMID, req.Port)
	return err
}

// device checks a device that a request names, by SIM ID if there is one.
func (s *Service) device(ctx context.Context, op OperatorID, imsi, sim string, port int) (ident.IMSI, string, uint16, error) {
	var sub Subscriber
	switch {
	case sim != "":
		var err error
		if sub, err = s.subscriberBySIM(ctx, sim); err != nil {
			return "", "", 0, err
		}
		if sub.OperatorID != op {
			return "", "", 0, NewError(CodeUnknownSIM, sim)
		}
	case imsi != "":
		parsed, err := ident.ParseIMSI(imsi)
		if err != nil {
			return "", "", 0, NewError(CodeBadIMSI)
		}
		if sub, err = s.subscriberByIMSI(ctx, parsed); err != nil {
			return "", "", 0, err
		}
		if sub.OperatorID != op {
			return "", "", 0, NewError(CodeUnknownSubscriber, string(parsed))
		}
	default:
		return "", "", 0, NewError(CodeNoDestination)
	}
	if port < 1 || port > 65535 {
		return "", "", 0, NewError(CodeBadPort)
	}
	return sub.IMSI, sim, uint16(port), nil
}

// targets checks the devices of an entry for several (R9b).
func (s *Service) targets(ctx context.Context, e Entry, reqs []TargetRequest) ([]Target, error) {
	type place struct {
		imsi ident.IMSI
		port uint16
	}
	seen := map[place]bool{}
	ts := make([]Target, len(reqs))
	for i, req := range reqs {
		t := &ts[i]
		var err error
		if t.IMSI, t.SIMID, t.DevicePort, err = s.device(ctx, e.OperatorID, req.IMSI, req.SIMID, req.Port); err != nil {
			return nil, err
		}
		at := place{t.IMSI, t.DevicePort}
		if seen[at] {
			return nil, NewError(CodeTargetTwice, string(t.IMSI), int(t.DevicePort))
		}
		seen[at] = true
		if len(req.Ranges) > 0 {
			if t.Ranges, err = parseRanges(req.Ranges, netip.Addr{}); err != nil {
				return nil, err
			}
		}
		if d := req.Duration; d != nil {
			if *d < time.Second || *d > e.Duration() || *d%time.Second != 0 {
				return nil, NewError(CodeBadDuration, int(e.Duration()/time.Second))
			}
			t.Expires = e.Created.Add(*d)
		}
	}
	return ts, nil
}

// usable returns an error unless the entry's credential, if it has one, can be used.
func (s *Service) usable(ctx context.Context, e Entry) error {
	if e.CredentialID == "" {
		return nil
	}
	if !e.TLS {
		return NewError(CodeCredentialNeedsTLS)
	}
	c, err := s.credential(ctx, e.CredentialID)
	switch {
	case err != nil:
		return err
	case c.OperatorID != e.OperatorID:
		return NewError(CodeUnknownCredential, string(e.CredentialID))
	case !c.Revoked.IsZero():
		return NewError(CodeCredentialRevoked)
	}
	return nil
}

func parseRanges(texts []string, caller netip.Addr) ([]netip.Prefix, error) {
	if len(texts) == 0 {
		caller = caller.Unmap().WithZone("")
		if !caller.IsValid() {
			return nil, NewError(CodeBadRanges, maxRanges, DetailNoRanges)
		}
		return []netip.Prefix{netip.PrefixFrom(caller, caller.BitLen())}, nil
	}
	if len(texts) > maxRanges {
		return nil, NewError(CodeBadRanges, maxRanges, DetailManyRanges.Of(len(texts)))
	}
	ranges := make([]netip.Prefix, 0, len(texts))
	for _, t := range texts {
		p, err := parseRange(strings.TrimSpace(t))
		if err != nil {
			return nil, NewError(CodeBadRanges, maxRanges, DetailNotRange.Of(t))
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
func (s *Service) placeOn(ctx context.Context, c candidate, e *Entry) error {
	for range maxPortsTried {
		e.ID, e.RelayID = EntryID(newID(e.Created)), c.relay.ID
		opening, err := s.claimAndOpen(ctx, c, e)
		if err == nil {
			s.pokeExpiry(e.Expires)
			return nil
		}
		if !opening {
			return err
		}
		s.abandon(ctx, *e)
		if !errors.Is(err, ErrPortInUse) {
			return &Error{Code: CodeRelayRefused, Err: fmt.Errorf("relay %s: open %s: %w", c.relay.ID, e.Address, err)}
		}
	}
	return NewError(CodeNoFreePort)
}

// claimAndOpen reports whether e is in the store, and so may be open.
func (s *Service) claimAndOpen(ctx context.Context, c candidate, e *Entry) (claimed bool, err error) {
	if c.session != nil {
		s.peers.begin(e.ID)
		if err := s.claim(ctx, c.relay, e); err != nil {
			s.peers.isDirect(e.ID)
			return false, err
		}
		return true, s.open(ctx, c.session, *e)
	}
	// The manager that the relay is attached to learns of the entry from the store.
	answers, done := s.peers.expect(e.ID)
	defer done()
	if err := s.claim(ctx, c.relay, e); err != nil {
		return false, err
	}
	waiting, cancel := context.WithTimeout(ctx, s.cfg.RelayTimeout)
	defer cancel()
	select {
	case a := <-answers:
		return true, answerError(a)
	case <-waiting.Done():
		return true, waiting.Err()
	}
}

// claim draws a port and stores e under it. The store refuses addresses that are
// taken, so that several managers may share it.
func (s *Service) claim(ctx context.Context, r Relay, e *Entry) error {
	try := func(port uint16) error {
		e.Address = netip.AddrPortFrom(r.Address.Addr(), port)
		version := s.table.version()
		err := s.store.CreateEntry(ctx, *e)
		if err == nil {
			s.table.addIf(version, *e)
		}
		if err != nil && !errors.Is(err, ErrAddressTaken) {
			return AsError(fmt.Errorf("create entry for imsi-%s: %w", e.IMSI, err))
		}
		return err
	}
	for range blindDraws {
		port, ok := s.table.drawPort(r.Address.Addr(), r.Ports)
		if !ok {
			break
		}
		if err := try(port); !errors.Is(err, ErrAddressTaken) {
			return err
		}
	}
	for range blindDraws { // a free port may be taken between the list and the attempt
		taken, err := s.store.TakenPorts(ctx, r.Address.Addr(), e.Created)
		if err != nil {
			return AsError(fmt.Errorf("list ports of relay %s: %w", r.ID, err))
		}
		var set portSet
		for _, p := range taken {
			set.add(p)
		}
		port, ok := set.drawFree(r.Ports)
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
	ctx, span := s.begun(ctx, spanOpen, trace.SpanKindClient)
	o := e.opening()
	o.Trace = observe.Traceparent(ctx)
	wait := relay.begin(Command{Kind: CommandOpen, Openings: []Opening{o}})
	callCtx, cancel := context.WithTimeout(ctx, s.cfg.RelayTimeout)
	defer cancel()
	err := s.opened(callCtx, e.ID, wait)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		relay.end(ErrRelayStalled)
	}
	endSpan(span, err)
	return err
}

// opened waits for a relay to open an entry.
func (s *Service) opened(ctx context.Context, id EntryID, wait func(context.Context) (Acknowledgement, error)) error {
	ack, err := wait(ctx)
	if err != nil {
		return err
	}
	for _, f := range ack.Failures {
		if f.EntryID == id {
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
	s.table.remove(e.Address, e.ID)
	for _, relay := range s.fleet.own(relayKey{OuterRelay, e.RelayID}) {
		relay.post(Command{Kind: CommandClose, EntryID: e.ID, Reason: ReasonRevoked})
	}
}

func (e Entry) opening() Opening {
	o := Opening{
		EntryID: e.ID, Address: e.Address, Expires: e.Expires, OperatorID: e.OperatorID, IMSI: e.IMSI, SIMID: e.SIMID,
		DevicePort: e.DevicePort, TLS: e.TLS, CredentialID: e.CredentialID, Many: e.Many(),
	}
	if o.Many {
		o.Ranges = e.Ranges
	}
	return o
}
