package pfcp

import (
	"encoding/binary"
	"fmt"

	"github.com/wmnsk/go-pfcp/ie"
	"github.com/wmnsk/go-pfcp/message"

	"github.com/simreach/simreach/internal/ident"
)

// Header sizes and flags (TS 29.244 clause 7.2.2).
const (
	version         = 1
	flagSEID        = 0x01
	flagFollowOn    = 0x04
	nodeHeaderLen   = 8
	sessHeaderLen   = 16
	maxSequence     = 1<<24 - 1
	lengthFieldBase = 4 // octets that the length field does not count
)

// Encode returns the bytes of m. Type and HasSEID of h are taken from m, SEID and
// Sequence from h. Every error wraps ErrUnencodable.
func Encode(h Header, m Message) ([]byte, error) {
	e := &encoder{}
	e.message(m)
	if e.err != nil {
		return nil, fmt.Errorf("encode pfcp %s: %w", m.Type(), e.err)
	}
	if h.Sequence > maxSequence {
		return nil, fmt.Errorf("encode pfcp %s: %w: sequence %d", m.Type(), ErrUnencodable, h.Sequence)
	}
	var payload []byte
	for _, i := range e.ies {
		b, err := i.Marshal()
		if err != nil {
			return nil, fmt.Errorf("encode pfcp %s: %w: IE %d: %v", m.Type(), ErrUnencodable, i.Type, err)
		}
		payload = append(payload, b...)
	}
	if len(payload) > 0xffff-sessHeaderLen {
		return nil, fmt.Errorf("encode pfcp %s: %w: %d octets", m.Type(), ErrUnencodable, len(payload))
	}
	var hdr *message.Header
	if m.Type().Session() {
		hdr = message.NewHeaderSessionRelated(version, 0, 0, 1, uint8(m.Type()), uint64(h.SEID), h.Sequence, 0, payload)
	} else {
		hdr = message.NewHeaderNodeRelated(version, uint8(m.Type()), h.Sequence, payload)
	}
	return hdr.Marshal()
}

// Decode reads one message. IEs that are not known or not expected are skipped
// (TS 29.244 clause 7.6.10). Errors are *DecodeError. The result shares no memory
// with b.
func Decode(b []byte) (h Header, m Message, err error) {
	defer func() {
		if r := recover(); r != nil {
			m, err = nil, &DecodeError{Header: h, Cause: CauseSystemFailure, Err: fmt.Errorf("%w: %v", ErrPanic, r)}
		}
	}()
	h, payload, err := decodeHeader(b)
	if err != nil {
		return h, nil, err
	}
	ies, err := split(payload)
	d := &decoder{err: err}
	if d.err == nil {
		m = d.message(h.Type, ies)
	}
	if d.err != nil {
		f := fault(d.err)
		return h, nil, &DecodeError{Header: h, Cause: f.cause, OffendingIE: f.ie, Err: f.err}
	}
	return h, m, nil
}

func decodeHeader(b []byte) (Header, []byte, error) {
	var h Header
	fail := func(c Cause, err error) (Header, []byte, error) {
		return h, nil, &DecodeError{Header: h, Cause: c, Err: err}
	}
	if len(b) < nodeHeaderLen {
		return fail(CauseInvalidLength, ErrTooShort)
	}
	h.Type = MessageType(b[1])
	size := nodeHeaderLen
	if b[0]&flagSEID != 0 {
		size = sessHeaderLen
		if len(b) < size {
			return fail(CauseInvalidLength, ErrTooShort)
		}
		h.HasSEID = true
		h.SEID = ident.SEID(binary.BigEndian.Uint64(b[4:12]))
	}
	h.Sequence = uint32(b[size-4])<<16 | uint32(b[size-3])<<8 | uint32(b[size-2])
	if b[0]>>5 != version {
		return fail(CauseRejected, ErrVersion)
	}
	info, known := types[h.Type]
	if !known {
		return fail(CauseRejected, ErrUnknownType)
	}
	end := int(binary.BigEndian.Uint16(b[2:4])) + lengthFieldBase
	// A further message may follow in the datagram only if the FO flag says so.
	if end < size || end > len(b) || (end < len(b) && b[0]&flagFollowOn == 0) || info.session != h.HasSEID {
		return fail(CauseInvalidLength, ErrLength)
	}
	return h, b[size:end], nil
}

// split cuts b into IEs, checking each length against what is there. It is the
// library's IE with our own walk: the library's accepts an IE that is cut off
// right after its header.
func split(b []byte) ([]*ie.IE, error) {
	var out []*ie.IE
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, &ieFault{cause: CauseInvalidLength, err: ErrIELength}
		}
		i := &ie.IE{Type: binary.BigEndian.Uint16(b), Length: binary.BigEndian.Uint16(b[2:])}
		n := int(i.Length)
		if len(b)-4 < n {
			return nil, &ieFault{cause: CauseInvalidLength, ie: i.Type, err: ErrIELength}
		}
		i.Payload = b[4 : 4+n]
		b = b[4+n:]
		out = append(out, i)
	}
	return out, nil
}

// ieFault is why a message body cannot be used.
type ieFault struct {
	cause Cause
	ie    uint16
	err   error
}

func (f *ieFault) Error() string { return f.err.Error() }

func fault(err error) *ieFault {
	if f, ok := err.(*ieFault); ok {
		return f
	}
	return &ieFault{cause: CauseSystemFailure, err: err}
}
