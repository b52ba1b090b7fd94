package gnb

import (
	"errors"
	"fmt"

	"github.com/simreach/simreach/internal/wire/ngap"
)

// Errors of the radio interface and of commands.
var (
	// ErrNotServing: the gNB has no N2 association, so its cell is barred.
	ErrNotServing = errors.New("gnb: not serving: no N2 association")
	// ErrStopped: Run has ended.
	ErrStopped = errors.New("gnb: stopped")
)

// SetupRejected is an NG SETUP FAILURE from the AMF.
type SetupRejected struct{ Cause ngap.Cause }

func (e *SetupRejected) Error() string {
	return fmt.Sprintf("gnb: NG setup rejected, cause group %d value %d", e.Cause.Group(), e.Cause.Value())
}
