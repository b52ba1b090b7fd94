package gnb

import (
	"maps"
	"slices"

	"github.com/simreach/simreach/internal/wire/ngap"
)

// radioGone is the end of the RRC connection from the UE's side.
func (c *core) radioGone(u *ueContext) {
	u.radio = nil
	if !u.hasAMF {
		// There is no identifier to release it by yet. The AMF's first message
		// will be answered with NAS NON DELIVERY and a release request; if none
		// comes, nothing but the timer would free the context.
		u.state = ueReleasing
		c.start(tRelease, u.ran, c.cfg.Timers.Release)
		return
	}
	c.requestRelease(u, ngap.RadioConnectionWithUELost)
}

// requestRelease is TS 38.413 clause 8.3.2.
func (c *core) requestRelease(u *ueContext, cause ngap.Cause) {
	u.state, u.asked = ueReleasing, true
	c.start(tRelease, u.ran, c.cfg.Timers.Release)
	c.send(&ngap.UEContextReleaseRequest{
		IDs: u.ids(), Cause: cause, Sessions: slices.Sorted(maps.Keys(u.bearers)),
	})
}

// contextRelease is clause 8.3.3: everything of the UE goes.
func (c *core) contextRelease(u *ueContext, _ *ngap.UEContextReleaseCommand) {
	c.send(&ngap.UEContextReleaseComplete{IDs: u.ids(), Sessions: slices.Sorted(maps.Keys(u.bearers))})
	c.drop(u, nil)
}

// releaseTimeout frees a UE that the AMF does not release: a partial NG RESET tells
// it so (clause 8.7.4).
func (c *core) releaseTimeout(ran uint32) {
	u := c.ues[ran]
	if u == nil {
		return
	}
	c.send(&ngap.NGReset{Cause: ngap.RadioUnspecified, Connections: []ngap.PartialIDs{u.partial()}})
	c.drop(u, nil)
}
