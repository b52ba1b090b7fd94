package gtpu

import "errors"

// Errors of Parse and of the signalling decoders. All but ErrUnknownExtension
// mean: discard silently and count (TS 29.281 clause 7.3 has no answer for them).
var (
	// ErrTooShort is a datagram shorter than the smallest header.
	ErrTooShort = errors.New("gtpu: too short for a header")
	// ErrVersion is a GTP version other than 1.
	ErrVersion = errors.New("gtpu: version is not 1")
	// ErrProtocol is GTP' (protocol type 0).
	ErrProtocol = errors.New("gtpu: protocol type is not GTP")
	// ErrLength is a length field that passes the end of the datagram or ends
	// within the header.
	ErrLength = errors.New("gtpu: wrong length")
	// ErrExtension is a malformed extension header.
	ErrExtension = errors.New("gtpu: malformed extension header")
	// ErrUnknownExtension is an extension header that the sender requires us to
	// understand and that we do not. It is answered with a Supported Extension
	// Headers Notification and the message is discarded (TS 29.281 clause 5.2.1).
	ErrUnknownExtension = errors.New("gtpu: extension header must be understood and is not")
	// ErrMissingIE is a signalling message without a mandatory information element.
	ErrMissingIE = errors.New("gtpu: mandatory information element missing")
	// ErrMalformedIE is an information element that cannot be read.
	ErrMalformedIE = errors.New("gtpu: malformed information element")
)
