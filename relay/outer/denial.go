package outer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
)

// ending is why something ends, as an error: of contexts, links and openings.
type ending manager.Cause

func (e ending) Error() string { return string(e) }

// Endings.
const (
	errExpired            = ending(manager.CauseExpired)
	errRevoked            = ending(manager.CauseRevoked)
	errStopped            = ending(manager.CauseStopped)
	errDeviceLeft         = ending(manager.CauseDeviceLeft)
	errDraining           = ending(manager.CauseDraining)
	errCredentialRevoked  = ending(manager.CauseCredentialRevoked)
	errCertificateRevoked = ending(manager.CauseCertificateRevoked)
)

// denial is a reason for turning a client away.
type denial struct {
	cause manager.Cause
	err   error // details for the log; may be nil
}

func (d *denial) Error() string {
	if d.err == nil {
		return string(d.cause)
	}
	return fmt.Sprintf("%s: %v", d.cause, d.err)
}

func (d *denial) Unwrap() error { return d.err }

func deny(cause manager.Cause, err error) error { return &denial{cause, err} }

// denialOf returns err as a denial. What has ended meanwhile, for why, counts more
// than what that brought about.
func denialOf(err, why error) *denial {
	if e, ok := errors.AsType[ending](why); ok {
		return &denial{manager.Cause(e), err}
	}
	if d, ok := errors.AsType[*denial](err); ok {
		return d
	}
	return &denial{manager.CauseFailed, err}
}

// resolveCauses names the manager's refusals.
var resolveCauses = map[manager.Code]manager.Cause{
	manager.CodeDeviceOffline:         manager.CauseDeviceOffline,
	manager.CodeEntryExpired:          manager.CauseExpired,
	manager.CodeConnExpired:           manager.CauseExpired,
	manager.CodeUnknownEntry:          manager.CauseUnknownEntry,
	manager.CodeConnUnknownEntry:      manager.CauseUnknownEntry,
	manager.CodeConnUnknownTarget:     manager.CauseUnknownTarget,
	manager.CodeCredentialRevoked:     manager.CauseCredentialRevoked,
	manager.CodeUnknownCredential:     manager.CauseCredentialRevoked,
	manager.CodeConnCredentialRevoked: manager.CauseCredentialRevoked,
	manager.CodeConnRevoked:           manager.CauseRevoked,
	manager.CodeNoInnerRelay:          manager.CauseNoInnerRelay,
	manager.CodeConnNoInnerRelay:      manager.CauseNoInnerRelay,
	manager.CodeManagerAway:           manager.CauseManagerAway,
	manager.CodeRelayNotAttached:      manager.CauseManagerAway,
	manager.CodeNotReady:              manager.CauseManagerAway,
}

func resolveCause(err error) manager.Cause {
	if e, ok := errors.AsType[*manager.Error](err); ok {
		if c, ok := resolveCauses[e.Code]; ok {
			return c
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return manager.CauseTimeout
	}
	return manager.CauseFailed
}

// refusalCauses names the inner relay's refusals.
var refusalCauses = map[relay.Refusal]manager.Cause{
	relay.DeviceRefused:     manager.CauseDeviceRefused,
	relay.DeviceUnreachable: manager.CauseDeviceUnreachable,
	relay.DeviceTimeout:     manager.CauseDeviceTimeout,
	relay.TicketInvalid:     manager.CauseTicketInvalid,
	relay.Overloaded:        manager.CauseOverloaded,
	relay.Draining:          manager.CauseDraining,
}

// innerCause names an error of talking to an inner relay; asked is whether it had the
// request.
func innerCause(err error, asked bool) manager.Cause {
	if why, ok := errors.AsType[relay.Refusal](err); ok {
		if c, ok := refusalCauses[why]; ok {
			return c
		}
		return manager.CauseInnerRefused
	}
	switch {
	case asked && errors.Is(err, os.ErrDeadlineExceeded):
		return manager.CauseDeviceTimeout // the inner relay would have said anything else
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.EADDRNOTAVAIL):
		return manager.CauseOverloaded
	}
	return manager.CauseInnerUnreachable
}

// passing reports whether asking again may help: the inner relay may have been
// replaced since the manager named it.
func passing(c manager.Cause) bool {
	return c == manager.CauseInnerUnreachable || c == manager.CauseTicketInvalid || c == manager.CauseDraining
}

// endCause names the end of a relayed connection.
func endCause(res relay.Result) manager.Cause {
	switch res.Cause {
	case relay.ResetA:
		return manager.CauseClientReset
	case relay.ResetB:
		return manager.CauseDeviceReset
	case relay.Idle:
		return manager.CauseIdle
	case relay.Cut:
		if e, ok := errors.AsType[ending](res.Err); ok {
			return manager.Cause(e)
		}
		return manager.CauseStopped
	}
	return manager.CauseClosed
}
