package amf

import (
	"errors"
	"fmt"

	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/sbi"
)

// Errors of this package.
var (
	// ErrConfig is wrapped by every error of Config.Validate.
	ErrConfig = errors.New("amf: invalid configuration")
	// ErrDeps is wrapped by New when a dependency is missing.
	ErrDeps = errors.New("amf: missing dependency")
	// ErrRunning is returned by a second Run.
	ErrRunning = errors.New("amf: already run")
	// ErrStopped is returned to callers of an AMF that is not running.
	ErrStopped = errors.New("amf: not running")
	// ErrUnknownGNB is returned by ResetNG.
	ErrUnknownGNB = errors.New("amf: unknown gNB")
	// ErrNoAnswer is returned by ResetNG when the gNB did not acknowledge in time.
	ErrNoAnswer = errors.New("amf: no answer from gNB")
	// errOverload means that a bounded queue was full.
	errOverload = errors.New("amf: overload")
)

// RejectedByAMF says that this AMF refused a UE, and with which cause.
type RejectedByAMF struct {
	Procedure string
	Cause     nas.MMCause
}

// Error implements error.
func (e *RejectedByAMF) Error() string {
	return fmt.Sprintf("amf: %s rejected with 5GMM cause %d", e.Procedure, e.Cause)
}

// RejectedByGNB says that a gNB refused a procedure, and with which cause.
type RejectedByGNB struct {
	Procedure ngap.ProcedureCode
	Cause     ngap.Cause
}

// Error implements error.
func (e *RejectedByGNB) Error() string {
	return fmt.Sprintf("amf: gNB rejected NGAP procedure %d with cause %d/%d", e.Procedure, e.Cause.Group(), e.Cause.Value())
}

// causeSliceNotSupported is radio network cause "slice(s) not supported"
// (TS 38.413 clause 9.3.1.2).
const causeSliceNotSupported = ngap.Cause(ngap.CauseRadioNetwork)<<8 | 39

// problem builds the application errors of Namf_Communication.
func problem(status int, cause, detail string) *sbi.Problem {
	return &sbi.Problem{Status: status, Cause: cause, Detail: detail}
}

// causeUEIdle is the application error of N1N2MessageTransfer for a UE in CM-IDLE
// (TS 29.518 table 6.1.7.3-1).
const causeUEIdle = "UE_IN_CM_IDLE_STATE"

// problemCause returns the application error code in err, empty if there is none.
func problemCause(err error) string {
	if p, ok := errors.AsType[*sbi.Problem](err); ok {
		return p.Cause
	}
	if r, ok := errors.AsType[*sbi.SessionRefusal](err); ok {
		return r.Problem.Cause
	}
	return ""
}
