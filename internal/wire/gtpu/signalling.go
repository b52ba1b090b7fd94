package gtpu

import (
	"fmt"
	"net/netip"

	"github.com/wmnsk/go-gtp/gtpv1/ie"
	"github.com/wmnsk/go-gtp/gtpv1/message"

	"github.com/simreach/simreach/internal/ident"
)

// EncodeEchoRequest returns an Echo Request (TS 29.281 clause 7.2.1).
func EncodeEchoRequest(seq uint16) ([]byte, error) {
	return encode(message.NewEchoRequest(seq))
}

// EncodeEchoResponse returns the answer to an Echo Request with sequence number
// seq. The restart counter of its Recovery IE is 0, as TS 29.281 clause 8.2 wants
// it of every GTP-U sender.
func EncodeEchoResponse(seq uint16) ([]byte, error) {
	return encode(message.NewEchoResponse(seq, ie.NewRecovery(0)))
}

// EncodeErrorIndication returns an Error Indication for a G-PDU that named
// unknown: the TEID it carried and our address that it was sent to (TS 29.281
// clause 7.3.1).
func EncodeErrorIndication(unknown ident.FTEID) ([]byte, error) {
	return encode(message.NewErrorIndication(0, 0,
		ie.NewTEIDDataI(uint32(unknown.TEID)),
		ie.NewGSNAddressByIP(unknown.Addr.AsSlice()),
	))
}

// DecodeErrorIndication reads the payload of an Error Indication: the tunnel
// endpoint of the sender that does not exist there. The error wraps ErrMissingIE
// or ErrMalformedIE.
func DecodeErrorIndication(payload []byte) (ident.FTEID, error) {
	ies, err := decodeIEs(payload)
	if err != nil {
		return ident.FTEID{}, fmt.Errorf("error indication: %w", err)
	}
	var out ident.FTEID
	var hasTEID, hasAddr bool
	for _, i := range ies {
		switch i.Type {
		case ie.TEIDDataI:
			teid, err := i.TEID()
			if err != nil {
				return ident.FTEID{}, fmt.Errorf("error indication: TEID Data I: %w: %w", ErrMalformedIE, err)
			}
			out.TEID, hasTEID = ident.TEID(teid), true
		case ie.GSNAddress:
			addr, ok := netip.AddrFromSlice(i.Payload)
			if !ok {
				return ident.FTEID{}, fmt.Errorf("error indication: GTP-U Peer Address: %w", ErrMalformedIE)
			}
			out.Addr, hasAddr = addr, true
		}
	}
	if !hasTEID || !hasAddr {
		return ident.FTEID{}, fmt.Errorf("error indication: %w", ErrMissingIE)
	}
	return out, nil
}

// EncodeEndMarker returns an End Marker for the tunnel teid of the peer (TS 29.281
// clause 7.3.2).
func EncodeEndMarker(teid ident.TEID) []byte {
	h := Header{Type: EndMarker, TEID: teid}
	b := make([]byte, h.Size())
	h.Put(b, 0)
	return b
}

// EncodeSupportedExtensionHeaders returns a Supported Extension Headers
// Notification with the types of Supported (TS 29.281 clause 7.2.3).
func EncodeSupportedExtensionHeaders() ([]byte, error) {
	m := message.NewSupportedExtensionHeaderNotification(0, 0, ie.NewExtensionHeaderTypeList(Supported()...))
	// Clause 5.1 wants the S flag on this message; the library leaves it out.
	m.SetSequenceNumber(0)
	return encode(m)
}

// DecodeSupportedExtensionHeaders reads the payload of a Supported Extension
// Headers Notification. The error wraps ErrMissingIE or ErrMalformedIE.
func DecodeSupportedExtensionHeaders(payload []byte) ([]byte, error) {
	ies, err := decodeIEs(payload)
	if err != nil {
		return nil, fmt.Errorf("supported extension headers notification: %w", err)
	}
	for _, i := range ies {
		if i.Type == ie.ExtensionHeaderTypeList {
			return i.Payload, nil
		}
	}
	return nil, fmt.Errorf("supported extension headers notification: %w", ErrMissingIE)
}

func encode(m message.Message) ([]byte, error) {
	b := make([]byte, m.MarshalLen())
	if err := m.MarshalTo(b); err != nil {
		return nil, fmt.Errorf("gtpu: encode %v: %w", MessageType(m.MessageType()), err)
	}
	return b, nil
}

// decodeIEs reads a list of information elements. The library is not trusted with
// bytes from the network: should it panic, that is a malformed element too.
func decodeIEs(b []byte) (ies []*ie.IE, err error) {
	defer func() {
		if p := recover(); p != nil {
			ies, err = nil, fmt.Errorf("%w: %v", ErrMalformedIE, p)
		}
	}()
	ies, err = ie.ParseMultiIEs(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformedIE, err)
	}
	for _, i := range ies {
		if i == nil {
			return nil, ErrMalformedIE
		}
	}
	return ies, nil
}
