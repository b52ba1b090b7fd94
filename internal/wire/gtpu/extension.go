package gtpu

import "github.com/simreach/simreach/internal/ident"

// Extension header types (TS 29.281 figure 5.2.1-3).
const (
	extNone                = 0x00
	extPDUSessionContainer = 0x85
)

// extRequired marks the types that the receiving endpoint has to understand: bit 8
// of the type (TS 29.281 figure 5.2.1-2). Bit 7 concerns intermediate nodes only.
const extRequired = 0x80

// PDU types of the PDU session container (TS 38.415 clause 5.5.2).
const (
	pduTypeDownlink = 0
	pduTypeUplink   = 1
)

// Supported returns the extension header types that Parse understands, for a
// Supported Extension Headers Notification.
func Supported() []byte { return []byte{extPDUSessionContainer} }

// parseExtensions walks the chain that starts with an extension header of type
// next and returns how many octets of b it takes. Types that nobody needs to
// understand are skipped (TS 29.281 clause 5.2.1).
func (h *Header) parseExtensions(b []byte, next byte) (n int, err error) {
	for next != extNone {
		if n >= len(b) {
			return 0, ErrExtension
		}
		size := int(b[n]) * 4
		if size == 0 || n+size > len(b) {
			return 0, ErrExtension
		}
		switch {
		case next == extPDUSessionContainer:
			if !h.parseContainer(b[n+1 : n+size-1]) {
				return 0, ErrExtension
			}
		case next&extRequired != 0:
			return 0, ErrUnknownExtension
		}
		next = b[n+size-1]
		n += size
	}
	return n, nil
}

// parseContainer reads the content of a PDU session container, at least the two
// octets that every extension header has. It reports false for PDU types that
// TS 38.415 does not define.
func (h *Header) parseContainer(c []byte) bool {
	switch c[0] >> 4 {
	case pduTypeUplink:
		h.Uplink = true
	case pduTypeDownlink:
		h.Uplink = false
	default:
		return false
	}
	h.HasQFI = true
	h.QFI = ident.QFI(c[1] & 0x3f)
	return true
}

// putContainer writes a PDU session container, the last of its chain, to b[:4].
func (h *Header) putContainer(b []byte) {
	b[0] = 1
	b[1] = pduTypeDownlink << 4
	if h.Uplink {
		b[1] = pduTypeUplink << 4
	}
	b[2] = byte(h.QFI) & 0x3f
	b[3] = extNone
}
