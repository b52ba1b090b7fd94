package nas

import (
	"errors"
	"net/netip"

	"github.com/simreach/simreach/internal/ident"
)

// linkLocal is the prefix that goes with an interface identifier.
var linkLocal = [8]byte{0xfe, 0x80}

// addressValue is the value of the PDU address IE (TS 24.501 clause 9.11.4.10).
// Of an IPv6 prefix only the interface identifier, its low 64 bits, travels.
func addressValue(a ident.UEAddress) ([]byte, error) {
	var v []byte
	var typ ident.PDUSessionType
	if a.V6.IsValid() {
		if !a.V6.Addr().Is6() {
			return nil, errors.New("IPv4 prefix where IPv6 is expected")
		}
		typ |= ident.IPv6
		b := a.V6.Addr().As16()
		v = append(v, b[8:]...)
	}
	if a.V4.IsValid() {
		if !a.V4.Is4() {
			return nil, errors.New("IPv6 address where IPv4 is expected")
		}
		typ |= ident.IPv4
		v = append(v, a.V4.AsSlice()...)
	}
	return append([]byte{byte(typ)}, v...), nil
}

// parseAddress returns an interface identifier as the link-local address made of
// it, /64.
func parseAddress(v []byte) (a ident.UEAddress, err error) {
	typ := ident.PDUSessionType(v[0] & 7)
	want := map[ident.PDUSessionType]int{ident.IPv4: 5, ident.IPv6: 9, ident.IPv4v6: 13}[typ]
	if len(v) != want {
		return a, errLength
	}
	v = v[1:]
	if typ&ident.IPv6 != 0 {
		b := [16]byte(append(linkLocal[:], v[:8]...))
		a.V6 = netip.PrefixFrom(netip.AddrFrom16(b), 64)
		v = v[8:]
	}
	if typ&ident.IPv4 != 0 {
		a.V4 = netip.AddrFrom4([4]byte(v))
	}
	return a, nil
}
