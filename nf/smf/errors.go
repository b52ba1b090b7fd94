package smf

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/sbi"
)

var (
	// ErrStopped: the SMF has ended or was never started before ctx was done.
	ErrStopped = errors.New("smf: not running")
	// ErrNoUPF: no UPF is configured for what the UE asks.
	ErrNoUPF = errors.New("smf: no UPF serves this DNN, slice, group and tracking area")
	// ErrUPFDown: UPFs are configured, but none of them is associated.
	ErrUPFDown = errors.New("smf: no associated UPF")
	// ErrPoolExhausted: every address of every suitable pool is in use.
	ErrPoolExhausted = errors.New("smf: address pool exhausted")
	// ErrStaticAddress: the subscribed address is in use or in no pool.
	ErrStaticAddress = errors.New("smf: static address not available")
	// ErrTimeout: a UPF did not answer a PFCP request.
	ErrTimeout = errors.New("smf: pfcp request timed out")
	// errNoAssociation: a request for a UPF that is not associated.
	errNoAssociation = errors.New("smf: no pfcp association")
)

// PFCPRejection is a PFCP request that the UPF refused.
type PFCPRejection struct {
	Request     pfcp.MessageType
	Cause       pfcp.Cause
	OffendingIE uint16
}

// Error implements error.
func (e *PFCPRejection) Error() string {
	return fmt.Sprintf("smf: %s refused by the UPF: %s (IE %d)", e.Request, e.Cause, e.OffendingIE)
}

// Causes of TS 29.502 table 6.1.7.3-1 that only the SMF uses.
const (
	causeN1Error = "N1_SM_ERROR"
	causeN2Error = "N2_SM_ERROR"
)

func problem(status int, cause, format string, args ...any) *sbi.Problem {
	return &sbi.Problem{Status: status, Cause: cause, Detail: fmt.Sprintf(format, args...)}
}

func notFound() error {
	return problem(http.StatusNotFound, sbi.CauseContextNotFound, "no such SM context")
}

// smOperatorBarring is 5GSM cause "operator determined barring" (TS 24.501 annex B.1).
const smOperatorBarring nas.SMCause = 8

// smCause maps what went wrong while a session was being made to the cause the UE
// is told (TS 24.501 clause 6.4.1.4).
func smCause(err error) nas.SMCause {
	var p *sbi.Problem
	var refused *PFCPRejection
	switch {
	case errors.As(err, &refused) && refused.Cause == pfcp.CauseNoResources:
		return nas.SMInsufficientResources
	case errors.Is(err, ErrPoolExhausted), errors.Is(err, ErrStaticAddress):
		return nas.SMInsufficientResources
	case errors.Is(err, ErrNoUPF):
		return nas.SMMissingDNNInSlice
	case errors.As(err, &p):
		switch p.Cause {
		case sbi.CauseDNNNotAllowed, sbi.CauseSNSSAINotAllowed, sbi.CauseUserNotFound:
			return nas.SMServiceNotSubscribed
		case sbi.CauseNoPSSubscription:
			return smOperatorBarring
		}
	}
	return nas.SMNetworkFailure
}
