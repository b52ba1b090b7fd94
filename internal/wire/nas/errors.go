package nas

import (
	"errors"
	"fmt"

	"github.com/simreach/simreach/internal/ident"
)

// Errors of this package; DecodeError wraps one of the first group where the
// specification asks for something other than a STATUS message.
var (
	// ErrTooShort: the message ends before its message type, or a protected one
	// before its content. The specification says ignore (TS 24.501 clause 7.2.1).
	ErrTooShort = errors.New("nas: message too short")
	// ErrDiscriminator: neither 5GMM nor 5GSM. The specification says ignore
	// (TS 24.007 clause 11.2.3.1.1A).
	ErrDiscriminator = errors.New("nas: unknown extended protocol discriminator")
	// ErrProtected: Decode was given a security protected message.
	ErrProtected = errors.New("nas: message is security protected")

	// ErrMAC: the message authentication code does not match.
	ErrMAC = errors.New("nas: integrity check failed")
	// ErrReplay: the NAS COUNT was accepted before (TS 24.501 clause 4.4.3.2).
	ErrReplay = errors.New("nas: replayed NAS COUNT")
	// ErrHeader: the security header type does not fit what is asked.
	ErrHeader = errors.New("nas: unsuitable security header type")
	// ErrCount: the NAS COUNT would wrap; new keys are needed (TS 24.501 clause 4.4.3.5).
	ErrCount = errors.New("nas: NAS COUNT exhausted")
	// ErrAlgorithm: an algorithm that is unknown, or NIA0 without permission.
	ErrAlgorithm = errors.New("nas: algorithm not allowed")

	// ErrEncode is wrapped by every error of Encode.
	ErrEncode = errors.New("nas: cannot encode")
)

// DecodeError says why a message was not understood, with all that a STATUS
// message in answer needs (TS 24.501 clause 7).
type DecodeError struct {
	EPD          byte        // extended protocol discriminator; 0 if the message was empty
	Type         MessageType // 0 if the message was too short to have one
	PDUSessionID ident.PDUSessionID
	PTI          ident.PTI
	// Cause is the 5GMM or 5GSM cause: 95, 96, 97, 100 or 111. It is 0 when the
	// message is to be ignored: see Ignore.
	Cause uint8
	Err   error
}

// Error describes the message and what is wrong with it.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("nas: decode %s (cause %d): %v", e.Type, e.Cause, e.Err)
}

// Unwrap returns the reason.
func (e *DecodeError) Unwrap() error { return e.Err }

// Ignore reports whether the specification wants the message discarded without
// an answer.
func (e *DecodeError) Ignore() bool {
	return errors.Is(e.Err, ErrTooShort) || errors.Is(e.Err, ErrDiscriminator)
}
