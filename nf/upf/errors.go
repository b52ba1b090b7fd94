package upf

import (
	"errors"
	"fmt"

	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/upf/datapath"
)

// Rejection is a request that we reject, with the cause that the peer is told.
type Rejection struct {
	Cause       pfcp.Cause
	OffendingIE uint16 // 0 for none
	Err         error
}

// Error implements error.
func (r *Rejection) Error() string { return fmt.Sprintf("pfcp cause %d: %v", r.Cause, r.Err) }

// Unwrap returns the reason.
func (r *Rejection) Unwrap() error { return r.Err }

func rejectf(cause pfcp.Cause, format string, args ...any) *Rejection {
	return &Rejection{Cause: cause, Err: fmt.Errorf(format, args...)}
}

// causeOf is what a peer is told about err. Rules that the datapath refuses are
// "rule creation/modification failure" (TS 29.244 table 8.2.1-1).
func causeOf(err error) (pfcp.Cause, uint16) {
	if r, ok := errors.AsType[*Rejection](err); ok {
		return r.Cause, r.OffendingIE
	}
	for _, known := range []error{datapath.ErrInvalidRules, datapath.ErrNoNetwork, datapath.ErrTEIDInUse, datapath.ErrAddressInUse} {
		if errors.Is(err, known) {
			return pfcp.CauseRuleCreationFailure, 0
		}
	}
	return pfcp.CauseSystemFailure, 0
}
