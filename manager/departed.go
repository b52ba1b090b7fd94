package manager

import "github.com/simreach/simreach/internal/ident"

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
// each has a directory.
func (s *Service) deviceLeft(imsi ident.IMSI, was Attachment) {
	for _, rs := range s.fleet.outerSessions() {
		rs.hint(Command{Kind: CommandCut, IMSI: imsi, Device: was.Address})
	}
}
