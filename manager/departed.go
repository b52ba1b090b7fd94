package manager

import (
	"context"
	"slices"

	"github.com/simreach/simreach/internal/ident"
)

// watchDepartures has connections cut whose device has left, until stop is called.
func (s *Service) watchDepartures() (stop func()) {
	d, ok := s.dir.(Departures)
	if !ok {
		return func() {}
	}
	d.Departed(s.deviceLeft)
	return func() { d.Departed(nil) }
}

// deviceLeft has the outer relays that are attached here cut their connections to a device
// that is no longer where it was: because its SIM was suspended or terminated, is locked to
// another device, or for any other reason that the core has to end a session. Nothing else
// would end them: what is sent to the device vanishes. Other managers tell their relays, for
// each has a directory. A relay that is not attached asks when it is (RelaySession.Departed).
func (s *Service) deviceLeft(imsi ident.IMSI, was Attachment) {
	for _, rs := range s.fleet.outerSessions() {
		rs.cut(Command{Kind: CommandCut, IMSI: imsi, Device: was.Address})
	}
}

// cut queues a CommandCut. If that would fill the queue, so that the relay lost its
// session, a CommandReview stands for it and all others that find no room.
func (rs *RelaySession) cut(c Command) {
	if !rs.hint(c) {
		poke(rs.review)
	}
}

// nextReview is the CommandReview that Next returns.
func (rs *RelaySession) nextReview() Command {
	f := &rs.svc.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	rs.lastID++
	return Command{Session: rs.id, ID: rs.lastID, Kind: CommandReview}
}

// Departed returns those of the places that their devices have left, and where they may not
// be reached because their SIM is barred. Errors: CodeRelayNotAttached, CodeNotReady while the
// directory has yet to learn where devices are.
func (rs *RelaySession) Departed(_ context.Context, places []Place) ([]Place, error) {
	if rs.ended() || rs.relay.Kind != OuterRelay {
		return nil, NewError(CodeRelayNotAttached)
	}
	s := rs.svc
	d, ok := s.dir.(Departures)
	if !ok {
		return nil, nil // nobody leaves
	}
	var left []Place
	for _, p := range places {
		if s.bars.has(p.IMSI) {
			left = append(left, p)
			continue
		}
		at, known := d.Places(p.IMSI)
		if !known {
			return nil, NewError(CodeNotReady)
		}
		if !slices.ContainsFunc(at, func(a Attachment) bool {
			return a.Address == p.Address && s.registry.innerOf[a.UPF] == p.Inner
		}) {
			left = append(left, p)
		}
	}
	return left, nil
}
