// Package gtpu turns GTP-U (TS 29.281 Release 17) messages into our own types and
// back, with the PDU session container of TS 38.415 that N3 adds to every G-PDU.
//
// A G-PDU on N3 is laid out like this, 16 octets before the user's packet:
//
//	0      flags: version 1, PT 1, E 1, S 0, PN 0 (0x34)
//	1      message type 255
//	2-3    length: all that follows octet 7
//	4-7    TEID
//	8-9    sequence number (unused: S 0)    10  N-PDU number (unused: PN 0)
//	11     next extension header type 0x85: PDU session container
//	12     its length in units of 4 octets: 1
//	13     PDU type in the upper half: 0 downlink, 1 uplink
//	14     QFI in the lower six bits
//	15     next extension header type 0: none
//
// Parse and Header.Put are for the packet path: they neither allocate nor lock.
// The signalling messages (Echo, Error Indication, Supported Extension Headers
// Notification) go through the codec library, which this package alone imports.
//
// The package keeps no state, does no I/O and starts no goroutine. No input makes
// it panic.
package gtpu

import (
	"encoding/binary"
	"strconv"

	"github.com/simreach/simreach/internal/ident"
)

// Port is the registered UDP port of GTP-U (TS 29.281 clause 4.4.2.3).
const Port = 2152

// MessageType is a GTP-U message type (TS 29.281 table 6.1-1).
type MessageType uint8

// Message types.
const (
	EchoRequest               MessageType = 1
	EchoResponse              MessageType = 2
	ErrorIndication           MessageType = 26
	SupportedExtensionHeaders MessageType = 31
	EndMarker                 MessageType = 254
	GPDU                      MessageType = 255
)

// String returns the name of TS 29.281 table 6.1-1, or the number.
func (t MessageType) String() string {
	switch t {
	case EchoRequest:
		return "Echo Request"
	case EchoResponse:
		return "Echo Response"
	case ErrorIndication:
		return "Error Indication"
	case SupportedExtensionHeaders:
		return "Supported Extension Headers Notification"
	case EndMarker:
		return "End Marker"
	case GPDU:
		return "G-PDU"
	}
	return "message type " + strconv.Itoa(int(t))
}

// Header sizes in octets.
const (
	minHeader = 8  // TS 29.281 clause 5.1, without the optional fields
	optHeader = 12 // with sequence number, N-PDU number and next extension header

	// GPDUWithQFISize is the size of a header that carries a QFI and nothing else.
	GPDUWithQFISize = 16
)

// The first octet of a header: version 1, protocol type GTP and the three flags.
const (
	versionMask = 0xe0
	version1    = 0x20
	protocolGTP = 0x10
	flagE       = 0x04
	flagS       = 0x02
	flagPN      = 0x01
)

// Header is what a receiver or sender of GTP-U needs of the header and its
// extension headers. N-PDU numbers and extension headers other than the PDU
// session container are skipped on Parse and never written.
type Header struct {
	Type MessageType
	TEID ident.TEID

	// Sequence counts only if HasSequence.
	Sequence    uint16
	HasSequence bool

	// QFI, 0 to 63, and Uplink count only if HasQFI: there is a PDU session
	// container, of PDU type 1 (UL PDU SESSION INFORMATION) if Uplink and of type
	// 0 (DL) otherwise (TS 38.415 clause 5.5.2). The reflective QoS indicator and
	// the optional fields of the container are skipped.
	HasQFI bool
	QFI    ident.QFI
	Uplink bool
}

// Parse reads one GTP-U message. payload aliases b: the user's packet of a G-PDU
// or the information elements of a signalling message. Octets of b after the
// length that the header states are left out.
//
// The error is one of ErrTooShort, ErrVersion, ErrProtocol, ErrLength,
// ErrExtension and ErrUnknownExtension; with the last one h is valid as far as it
// was read, so that the caller can answer.
func Parse(b []byte) (h Header, payload []byte, err error) {
	if len(b) < minHeader {
		return h, nil, ErrTooShort
	}
	if b[0]&versionMask != version1 {
		return h, nil, ErrVersion
	}
	if b[0]&protocolGTP == 0 {
		return h, nil, ErrProtocol
	}
	end := minHeader + int(binary.BigEndian.Uint16(b[2:]))
	if end > len(b) {
		return h, nil, ErrLength
	}
	h.Type = MessageType(b[1])
	h.TEID = ident.TEID(binary.BigEndian.Uint32(b[4:]))
	if b[0]&(flagE|flagS|flagPN) == 0 {
		return h, b[minHeader:end], nil
	}
	if end < optHeader {
		return h, nil, ErrLength
	}
	if b[0]&flagS != 0 {
		h.HasSequence = true
		h.Sequence = binary.BigEndian.Uint16(b[8:])
	}
	if b[0]&flagE == 0 {
		return h, b[optHeader:end], nil
	}
	n, err := h.parseExtensions(b[optHeader:end], b[11])
	if err != nil {
		return h, nil, err
	}
	return h, b[optHeader+n : end], nil
}

// Size is how many octets Put writes.
func (h Header) Size() int {
	switch {
	case h.HasQFI:
		return GPDUWithQFISize
	case h.HasSequence:
		return optHeader
	}
	return minHeader
}

// Put writes h into b[:h.Size()] for a payload of payloadLen octets that follows
// it, and returns h.Size(). It panics if b is shorter. payloadLen must not exceed
// 65,507, the largest UDP payload.
func (h Header) Put(b []byte, payloadLen int) int {
	n := h.Size()
	b = b[:n]
	b[0] = version1 | protocolGTP
	b[1] = byte(h.Type)
	binary.BigEndian.PutUint16(b[2:], uint16(n-minHeader+payloadLen))
	binary.BigEndian.PutUint32(b[4:], uint32(h.TEID))
	if n == minHeader {
		return n
	}
	binary.BigEndian.PutUint32(b[8:], 0)
	if h.HasSequence {
		b[0] |= flagS
		binary.BigEndian.PutUint16(b[8:], h.Sequence)
	}
	if h.HasQFI {
		b[0] |= flagE
		b[11] = extPDUSessionContainer
		h.putContainer(b[optHeader:])
	}
	return n
}
