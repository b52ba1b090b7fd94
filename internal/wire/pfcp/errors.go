package pfcp

import (
	"errors"
	"fmt"
)

// Errors that DecodeError wraps when the message as a whole is at fault. The first
// two say what the receiver does with the datagram (TS 29.244 clause 7.6).
var (
	// ErrTooShort: not even a header; discard (clause 7.6.3).
	ErrTooShort = errors.New("pfcp: message too short")
	// ErrVersion: answer with VersionNotSupported (clause 7.6.2).
	ErrVersion = errors.New("pfcp: version not supported")
	// ErrUnknownType: a message type outside table 7.3-1 or one that is not
	// used here; discard (clause 7.6.4).
	ErrUnknownType = errors.New("pfcp: unknown message type")
	// ErrLength: the length field and the datagram disagree (clause 7.6.3).
	ErrLength = errors.New("pfcp: invalid message length")
	// ErrMissing: an IE that must be there is not (clauses 7.6.6 and 7.6.7).
	ErrMissing = errors.New("pfcp: IE missing")
	// ErrIELength: an IE is too short for what it claims to hold (clause 7.6.8).
	ErrIELength = errors.New("pfcp: invalid IE length")
	// ErrIEValue: an IE holds a value that means nothing (clause 7.6.9).
	ErrIEValue = errors.New("pfcp: invalid IE value")
	// ErrPanic: the decoder gave up on this input; it is a bug of ours, but not
	// a reason to stop.
	ErrPanic = errors.New("pfcp: decoder failure")
)

// ErrUnencodable is wrapped by every error of Encode: the message holds a value
// that has no form on the wire, such as a node ID that is neither address nor name.
var ErrUnencodable = errors.New("pfcp: value cannot be encoded")

// DecodeError says what is wrong with a received message and what to answer
// (TS 29.244 clause 7.6). For a request, answer with Cause and OffendingIE in the
// matching response (Header.Type.Response); a response with this error counts as
// not received. See the sentinel errors for what is discarded instead.
type DecodeError struct {
	Header      Header // as far as it could be read; Header.Type 0 if not at all
	Cause       Cause  // 66 to 69, or 77 for a decoder failure
	OffendingIE uint16 // type of the IE at fault; 0 when it is the message itself
	Err         error
}

// Error implements error.
func (e *DecodeError) Error() string {
	if e.OffendingIE != 0 {
		return fmt.Sprintf("decode pfcp %s: IE %d: %v", e.Header.Type, e.OffendingIE, e.Err)
	}
	return fmt.Sprintf("decode pfcp %s: %v", e.Header.Type, e.Err)
}

// Unwrap returns the sentinel.
func (e *DecodeError) Unwrap() error { return e.Err }
