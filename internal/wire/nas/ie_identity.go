package nas

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/simreach/simreach/internal/ident"
)

// Types of identity (TS 24.501 table 9.11.3.4.1).
const (
	identityNone   = 0
	identitySUCI   = IdentitySUCI
	identityGUTI   = IdentityGUTI
	identityIMEI   = IdentityIMEI
	identitySTMSI  = 4
	identityIMEISV = IdentityIMEISV
)

var (
	errLength   = errors.New("wrong length")
	errDigits   = errors.New("not decimal digits")
	errIdentity = errors.New("type of identity not supported")
)

// identityValue is the value of the 5GS mobile identity IE (TS 24.501 clause 9.11.3.4).
func identityValue(m MobileIdentity) ([]byte, error) {
	switch {
	case m.SUCI != nil:
		return suciValue(m.SUCI)
	case m.GUTI != nil:
		return gutiValue(*m.GUTI)
	case m.STMSI != nil:
		return stmsiValue(*m.STMSI)
	case m.PEI != "":
		return peiValue(m.PEI)
	}
	return []byte{identityNone}, nil
}

func parseIdentity(v []byte) (m MobileIdentity, err error) {
	if len(v) == 0 {
		return m, errLength
	}
	switch v[0] & 7 {
	case identityNone:
	case identitySUCI:
		m.SUCI, err = parseSUCI(v)
	case identityGUTI:
		var g ident.GUTI
		if g, err = parseGUTI(v); err == nil {
			m.GUTI = &g
		}
	case identitySTMSI:
		var s ident.STMSI
		if s, err = parseSTMSI(v); err == nil {
			m.STMSI = &s
		}
	case identityIMEI, identityIMEISV:
		m.PEI, err = parsePEI(v)
	default:
		err = errIdentity
	}
	return m, err
}

func gutiValue(g ident.GUTI) ([]byte, error) {
	if err := checkAMF(g.GUAMI.Set, g.GUAMI.Pointer); err != nil {
		return nil, err
	}
	b, err := plmnValue(g.GUAMI.PLMN)
	if err != nil {
		return nil, err
	}
	v := append([]byte{0xf0 | identityGUTI}, b[:]...)
	v = append(v, g.GUAMI.Region)
	v = binary.BigEndian.AppendUint16(v, g.GUAMI.Set<<6|uint16(g.GUAMI.Pointer))
	return binary.BigEndian.AppendUint32(v, g.TMSI), nil
}

func parseGUTI(v []byte) (g ident.GUTI, err error) {
	if len(v) != 11 || v[0]&7 != identityGUTI {
		return g, errLength
	}
	if g.GUAMI.PLMN, err = parsePLMN(v[1:4]); err != nil {
		return g, err
	}
	g.GUAMI.Region = v[4]
	g.GUAMI.Set, g.GUAMI.Pointer = splitSet(v[5:7])
	g.TMSI = binary.BigEndian.Uint32(v[7:])
	return g, nil
}

func stmsiValue(s ident.STMSI) ([]byte, error) {
	if err := checkAMF(s.Set, s.Pointer); err != nil {
		return nil, err
	}
	v := binary.BigEndian.AppendUint16([]byte{0xf0 | identitySTMSI}, s.Set<<6|uint16(s.Pointer))
	return binary.BigEndian.AppendUint32(v, s.TMSI), nil
}

func parseSTMSI(v []byte) (s ident.STMSI, err error) {
	if len(v) != 7 || v[0]&7 != identitySTMSI {
		return s, errLength
	}
	s.Set, s.Pointer = splitSet(v[1:3])
	s.TMSI = binary.BigEndian.Uint32(v[3:])
	return s, nil
}

func checkAMF(set uint16, pointer uint8) error {
	if set > 0x3ff || pointer > 0x3f {
		return fmt.Errorf("AMF set %d or pointer %d too large", set, pointer)
	}
	return nil
}

func splitSet(b []byte) (set uint16, pointer uint8) {
	n := binary.BigEndian.Uint16(b)
	return n >> 6, uint8(n & 0x3f)
}

func plmnValue(p ident.PLMN) ([3]byte, error) {
	if !p.Valid() {
		return [3]byte{}, fmt.Errorf("%w: PLMN %q", ident.ErrInvalid, p)
	}
	return p.Bytes(), nil
}

func parsePLMN(v []byte) (ident.PLMN, error) { return ident.PLMNFromBytes([3]byte(v)) }

// peiValue writes an IMEI (15 digits) or IMEISV (16 digits), the first digit
// beside the type of identity (TS 24.501 figure 9.11.3.4.2).
func peiValue(p ident.PEI) ([]byte, error) {
	typ, digits, want := uint8(identityIMEI), "", 15
	if d, ok := strings.CutPrefix(string(p), "imei-"); ok {
		digits = d
	} else if d, ok := strings.CutPrefix(string(p), "imeisv-"); ok {
		typ, digits, want = identityIMEISV, d, 16
	}
	if len(digits) != want {
		return nil, fmt.Errorf("%w: PEI %q", ident.ErrInvalid, p)
	}
	odd := byte(len(digits)&1) << 3
	rest, err := bcd(digits[1:])
	if err != nil || digits[0] < '0' || digits[0] > '9' {
		return nil, fmt.Errorf("%w: PEI %q", ident.ErrInvalid, p)
	}
	return append([]byte{digits[0]&0xf<<4 | odd | typ}, rest...), nil
}

func parsePEI(v []byte) (ident.PEI, error) {
	if len(v) == 0 || v[0]>>4 > 9 {
		return "", errDigits
	}
	rest, err := unBCD(v[1:])
	if err != nil {
		return "", err
	}
	d := string(v[0]>>4+'0') + rest
	switch {
	case v[0]&7 == identityIMEI && len(d) == 15:
		return ident.PEI("imei-" + d), nil
	case v[0]&7 == identityIMEISV && len(d) == 16:
		return ident.PEI("imeisv-" + d), nil
	}
	return "", errLength
}

// bcd packs decimal digits two to an octet, low half first, filled up with 1111.
func bcd(digits string) ([]byte, error) {
	v := make([]byte, 0, len(digits)/2+1)
	for i := range len(digits) {
		d := digits[i] - '0'
		if d > 9 {
			return nil, errDigits
		}
		if i%2 == 0 {
			v = append(v, 0xf0|d)
		} else {
			v[i/2] = v[i/2]&0xf | d<<4
		}
	}
	return v, nil
}

// unBCD reverses bcd.
func unBCD(v []byte) (string, error) {
	digits := make([]byte, 0, 2*len(v))
	for i, o := range v {
		low, high := o&0xf, o>>4
		if low > 9 || high > 9 && (high != 0xf || i != len(v)-1) {
			return "", errDigits
		}
		digits = append(digits, low+'0')
		if high <= 9 {
			digits = append(digits, high+'0')
		}
	}
	return string(digits), nil
}
