package sbi

import (
	"errors"
	"fmt"
)

// Problem is an application error of the service-based interface: TS 29.571
// type ProblemDetails, RFC 9457. Both sides of a process boundary return it, so
// callers match with errors.As.
type Problem struct {
	Status int    // HTTP status code
	Cause  string // application error code, such as USER_NOT_FOUND
	Detail string // for people
}

// Error implements error.
func (p *Problem) Error() string {
	return fmt.Sprintf("sbi: %d %s: %s", p.Status, p.Cause, p.Detail)
}

// Application error codes used.
const (
	CauseUserNotFound           = "USER_NOT_FOUND"
	CauseAuthenticationRejected = "AUTHENTICATION_REJECTED"
	CauseNoPSSubscription       = "NO_PS_SUBSCRIPTION" // TS 29.503 table 6.2.3.2.3.1-3
	CauseServingNetwork         = "SERVING_NETWORK_NOT_AUTHORIZED"
	CauseDNNNotAllowed          = "DNN_DENIED"
	CauseSNSSAINotAllowed       = "SNSSAI_DENIED"
	CauseContextNotFound        = "CONTEXT_NOT_FOUND"
	CauseUEUnreachable          = "UE_NOT_REACHABLE"
	CauseInvalidFormat          = "INVALID_MSG_FORMAT"
	CauseMandatoryIEIncorrect   = "MANDATORY_IE_INCORRECT"
	CauseSystemFailure          = "SYSTEM_FAILURE"
	CauseInsufficientResources  = "INSUFFICIENT_RESOURCES"
	CauseTimedOut               = "TIMED_OUT_REQUEST"                // TS 29.500 table 5.2.7.2-1
	CauseUnreachable            = "TARGET_NF_NOT_REACHABLE"          // the same
	CauseResourceNotFound       = "RESOURCE_URI_STRUCTURE_NOT_FOUND" // the same
	CauseSubscriptionNotFound   = "SUBSCRIPTION_NOT_FOUND"           // the same
	CauseMethodNotAllowed       = "METHOD_NOT_ALLOWED"               // ours: the specification gives none
	CauseUnsupportedMediaType   = "UNSUPPORTED_MEDIA_TYPE"           // ours
)

// ErrConfig is wrapped by the errors of NewClient, NewServer and NewEventsClient.
var ErrConfig = errors.New("sbi: invalid configuration")

// ErrStopped is returned by a component that has ended.
var ErrStopped = errors.New("sbi: stopped")

// UnreachableError says that a peer could not be reached, or did not answer in a
// way that could be understood. Whether it did what was asked is not known unless
// the error is about dialling.
type UnreachableError struct {
	Operation string // such as "POST /nsmf-pdusession/v1/sm-contexts"
	Peer      string // base URL
	Attempts  int
	Err       error
}

// Error implements error.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("sbi: %s at %s: %d attempts: %v", e.Operation, e.Peer, e.Attempts, e.Err)
}

// Unwrap returns the last attempt's error.
func (e *UnreachableError) Unwrap() error { return e.Err }

// SessionRefusal is a refused CreateSMContext or UpdateSMContext that carries the
// 5GSM message for the UE (TS 29.502 type SmContextCreateError). N1 is not nil.
type SessionRefusal struct {
	Problem Problem
	N1      []byte
}

// Error implements error.
func (r *SessionRefusal) Error() string { return r.Problem.Error() }

// Unwrap lets errors.As find the Problem.
func (r *SessionRefusal) Unwrap() error { return &r.Problem }
