package ngap

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The outer layers of an NGAP PDU are octet aligned in ALIGNED PER (X.691), so
// they are read and written here, without a codec: that is what lets us tell an
// unknown procedure or IE from a malformed one, and step over the former.
//
//	octet  0     choice in the three high bits: 0x00 initiating message,
//	             0x20 successful outcome, 0x40 unsuccessful outcome
//	octet  1     procedure code
//	octet  2     criticality in the two high bits
//	octets 3..   length of the rest, 1 or 2 octets
//	             extension bit, then the container of IEs: their number in two
//	             octets, and for each id (2), criticality (1), length, value

// triggering values, by the choice of the PDU.
const (
	initiatingMessage   = 0
	successfulOutcome   = 1
	unsuccessfulOutcome = 2
)

// criticality of a procedure or an IE (TS 38.413 clause 9.4.6).
type criticality uint8

const (
	reject criticality = 0
	ignore criticality = 1
	notify criticality = 2
)

// rawIE is an IE whose value is still encoded.
type rawIE struct {
	id    int64
	crit  criticality
	value []byte
}

// envelope is a PDU of which only the outer layers are decoded.
type envelope struct {
	triggering uint8
	procedure  ProcedureCode
	crit       criticality
	ies        []rawIE
}

// maxOpenType is the longest value we send or take in one piece; longer ones are
// fragmented in PER, which no NGAP message of the testbed comes near.
const maxOpenType = 0x3fff

var errFragmented = errors.New("fragmented length")

// parseEnvelope decodes the outer layers. The parts of e known so far are filled
// in also on error.
func parseEnvelope(b []byte, e *envelope) error {
	if len(b) < 3 {
		return errors.New("PDU too short")
	}
	e.triggering, e.procedure, e.crit = b[0]>>5, ProcedureCode(b[1]), criticality(b[2]>>6)
	if e.triggering > unsuccessfulOutcome || e.crit > notify {
		return fmt.Errorf("PDU begins with %x", b[:3])
	}
	body, rest, err := openType(b[3:])
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d octets after the PDU", len(rest))
	}
	e.ies, err = parseContainer(body)
	return err
}

// parseContainer decodes a message or transfer that is a container of IEs.
func parseContainer(b []byte) ([]rawIE, error) {
	if len(b) < 3 {
		return nil, errors.New("container of IEs too short")
	}
	extended := b[0]&0x80 != 0
	n := int(binary.BigEndian.Uint16(b[1:]))
	b = b[3:]
	var ies []rawIE
	for range n {
		if len(b) < 3 {
			return ies, errors.New("IE missing from container")
		}
		ie := rawIE{id: int64(binary.BigEndian.Uint16(b)), crit: criticality(b[2] >> 6)}
		if ie.crit > notify {
			return ies, fmt.Errorf("IE %d has no criticality", ie.id)
		}
		var err error
		if ie.value, b, err = openType(b[3:]); err != nil {
			return ies, fmt.Errorf("IE %d: %w", ie.id, err)
		}
		ies = append(ies, ie)
	}
	if len(b) > 0 && !extended {
		return ies, fmt.Errorf("%d octets after the last IE", len(b))
	}
	return ies, nil
}

// openType splits a length and as many octets off b.
func openType(b []byte) (value, rest []byte, err error) {
	if len(b) < 1 {
		return nil, nil, errors.New("length missing")
	}
	n, size := int(b[0]), 1
	switch {
	case b[0]&0xc0 == 0xc0:
		return nil, nil, errFragmented
	case b[0]&0x80 != 0:
		if len(b) < 2 {
			return nil, nil, errors.New("length missing")
		}
		n, size = int(binary.BigEndian.Uint16(b)&maxOpenType), 2
	}
	if len(b) < size+n {
		return nil, nil, fmt.Errorf("length %d, but %d octets left", n, len(b)-size)
	}
	return b[size : size+n], b[size+n:], nil
}

// appendOpenType reverses openType.
func appendOpenType(b, value []byte) ([]byte, error) {
	switch n := len(value); {
	case n > maxOpenType:
		return nil, fmt.Errorf("%d octets: too long", n)
	case n > 0x7f:
		b = binary.BigEndian.AppendUint16(b, 0x8000|uint16(n))
	default:
		b = append(b, byte(n))
	}
	return append(b, value...), nil
}

func (e *envelope) bytes() ([]byte, error) {
	body, err := containerBytes(e.ies)
	if err != nil {
		return nil, err
	}
	return appendOpenType([]byte{e.triggering << 5, byte(e.procedure), byte(e.crit) << 6}, body)
}

func containerBytes(ies []rawIE) ([]byte, error) {
	b := binary.BigEndian.AppendUint16([]byte{0}, uint16(len(ies)))
	for _, ie := range ies {
		b = binary.BigEndian.AppendUint16(b, uint16(ie.id))
		b = append(b, byte(ie.crit)<<6)
		var err error
		if b, err = appendOpenType(b, ie.value); err != nil {
			return nil, fmt.Errorf("IE %d: %w", ie.id, err)
		}
	}
	return b, nil
}
