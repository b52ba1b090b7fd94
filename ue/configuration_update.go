package ue

import "github.com/simreach/simreach/internal/wire/nas"

// configurationUpdateCommand is TS 24.501 clause 5.4.4.3.
func (m *machine) configurationUpdateCommand(c *nas.ConfigurationUpdateCommand) {
	if c.GUTI != nil {
		g := *c.GUTI
		m.guti = &g
	}
	if c.AckRequested {
		m.send(&nas.ConfigurationUpdateComplete{})
	}
	if c.RegistrationRequested && m.state == MMRegistered {
		m.reg.attempts = 0
		m.want = wantMobility
	}
}
