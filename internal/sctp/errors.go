package sctp

import (
	"errors"
	"fmt"
)

// ErrShutdown is returned by Send after the peer's SHUTDOWN: what it had sent
// can still be received, nothing more can be sent.
var ErrShutdown = errors.New("sctp: peer shut the association down")

// ErrTooLarge is returned by Send for a message above MaxMessage.
var ErrTooLarge = errors.New("sctp: message too large")

// ErrStream is returned by Send for a stream that the association does not have.
var ErrStream = errors.New("sctp: no such stream")

// ErrUnavailable is wrapped by Listen and NewDialer when the machine does not
// offer the transport asked for.
var ErrUnavailable = errors.New("sctp: transport not available")

// AbortReason tells why an association ended without SHUTDOWN.
type AbortReason uint8

// The reasons of an AbortError.
const (
	AbortByPeer  AbortReason = iota // the peer sent ABORT
	AbortLost                       // retransmissions exhausted (RFC 9260 clause 8.1)
	AbortRestart                    // the peer restarted; its new association goes to the Listener (clause 5.2.4)
	AbortLocal                      // we sent ABORT because the peer broke the protocol
	AbortTimeout                    // nobody answered our INIT or COOKIE ECHO
)

func (r AbortReason) String() string {
	switch r {
	case AbortByPeer:
		return "peer sent ABORT"
	case AbortLost:
		return "peer does not answer any more"
	case AbortRestart:
		return "peer restarted"
	case AbortLocal:
		return "peer broke the protocol"
	case AbortTimeout:
		return "no answer"
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// AbortError is the error behind ErrAborted where more is known. Cause is the
// cause code of RFC 9260 clause 3.3.10 in the peer's ABORT, zero where it gave
// none.
type AbortError struct {
	Reason AbortReason
	Cause  uint16
}

func (e *AbortError) Error() string {
	if e.Cause != 0 {
		return fmt.Sprintf("%v: %v (cause %d)", ErrAborted, e.Reason, e.Cause)
	}
	return fmt.Sprintf("%v: %v", ErrAborted, e.Reason)
}

// Is makes errors.Is(err, ErrAborted) true.
func (e *AbortError) Is(target error) bool { return target == ErrAborted }
