package gnb

import (
	"github.com/simreach/simreach/internal/wire/ngap"
)

// reset is an NG RESET from the AMF (TS 38.413 clause 8.7.4.2.1). Connections that
// do not exist are acknowledged too (clause 8.7.4.4).
func (c *core) reset(m *ngap.NGReset) {
	ack := &ngap.NGResetAcknowledge{}
	if m.All || len(m.Connections) == 0 {
		c.releaseAll(nil)
		c.send(ack)
		return
	}
	ack.Connections = m.Connections
	for _, p := range m.Connections {
		var u *ueContext
		switch {
		case p.RAN != nil:
			u = c.ues[*p.RAN]
		case p.AMF != nil:
			u = c.byAMF[*p.AMF]
		}
		if u != nil {
			c.drop(u, nil)
		}
	}
	c.send(ack)
}

// commandReset is GNB.Reset.
func (c *core) commandReset(done chan error) {
	if c.n2 != n2Up {
		done <- ErrNotServing
		return
	}
	c.releaseAll(nil)
	c.resets = append(c.resets, done)
	c.send(&ngap.NGReset{Cause: ngap.MiscOMIntervention, All: true})
}

// resetAck ends a reset that this gNB began. One that answers nothing is ignored.
func (c *core) resetAck(*ngap.NGResetAcknowledge) { c.endResets(nil) }

func (c *core) endResets(err error) {
	for _, w := range c.resets {
		c.ended = append(c.ended, func() { w <- err }) // buffered for exactly this
	}
	c.resets = nil
}
