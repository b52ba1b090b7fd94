package nas

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/simreach/simreach/internal/ident"
)

// schemeNull is the protection scheme that protects nothing (TS 33.501 annex C.2).
const schemeNull = 0

// suciValue is a SUCI of SUPI format IMSI (TS 24.501 figure 9.11.3.4.3).
func suciValue(s *SUCI) ([]byte, error) {
	b, err := plmnValue(s.PLMN)
	if err != nil {
		return nil, err
	}
	if s.Scheme > 0xf {
		return nil, fmt.Errorf("protection scheme %d", s.Scheme)
	}
	ri, err := bcd(s.RoutingIndicator)
	if err != nil || len(ri) == 0 || len(ri) > 2 {
		return nil, fmt.Errorf("routing indicator %q: want 1 to 4 digits", s.RoutingIndicator)
	}
	if len(ri) == 1 {
		ri = append(ri, 0xff)
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	v := append([]byte{identitySUCI}, b[:]...)
	v = append(v, ri...)
	v = append(v, s.Scheme, s.KeyID)
	return append(v, s.SchemeOutput...), nil
}

func parseSUCI(v []byte) (*SUCI, error) {
	if len(v) < 8 {
		return nil, errLength
	}
	if v[0]>>4&7 != 0 {
		return nil, errIdentity // a network specific identifier, GCI or GLI
	}
	s := &SUCI{Scheme: v[6] & 0xf, KeyID: v[7], SchemeOutput: append([]byte(nil), v[8:]...)}
	var err error
	if s.PLMN, err = parsePLMN(v[1:4]); err != nil {
		return nil, err
	}
	ri := v[4:6]
	if ri[1] == 0xff {
		ri = ri[:1]
	}
	if len(ri) == 1 && ri[0] == 0xff {
		s.RoutingIndicator = "0" // none is configured: TS 23.003 clause 2.2B
	} else if s.RoutingIndicator, err = unBCD(ri); err != nil {
		return nil, err
	}
	return s, s.check()
}

func (s *SUCI) check() error {
	if len(s.SchemeOutput) == 0 {
		return errLength
	}
	if s.Scheme == schemeNull {
		_, err := unBCD(s.SchemeOutput)
		return err
	}
	return nil
}

// String returns the text form "suci-0-<mcc>-<mnc>-<routing>-<scheme>-<key>-<output>"
// (TS 23.003 clause 28.7.3): the MSIN's digits for the null scheme, else
// lower-case hexadecimal digits.
func (s *SUCI) String() string {
	out := hex.EncodeToString(s.SchemeOutput)
	if s.Scheme == schemeNull {
		if msin, err := unBCD(s.SchemeOutput); err == nil {
			out = msin
		}
	}
	return fmt.Sprintf("suci-0-%s-%s-%s-%d-%d-%s",
		s.PLMN.MCC, s.PLMN.MNC, s.RoutingIndicator, s.Scheme, s.KeyID, out)
}

// ParseSUCI reverses String. Its errors wrap ident.ErrInvalid.
func ParseSUCI(text string) (*SUCI, error) {
	bad := func(why string) (*SUCI, error) {
		return nil, fmt.Errorf("%w: SUCI %q: %s", ident.ErrInvalid, text, why)
	}
	p := strings.Split(text, "-")
	if len(p) != 8 || p[0] != "suci" || p[1] != "0" {
		return bad(`want "suci-0-<mcc>-<mnc>-<routing>-<scheme>-<key>-<output>"`)
	}
	scheme, err1 := strconv.ParseUint(p[5], 10, 4)
	key, err2 := strconv.ParseUint(p[6], 10, 8)
	if err1 != nil || err2 != nil {
		return bad("scheme 0 to 15 and key 0 to 255")
	}
	s := &SUCI{
		PLMN: ident.PLMN{MCC: p[2], MNC: p[3]}, RoutingIndicator: p[4],
		Scheme: uint8(scheme), KeyID: uint8(key),
	}
	var err error
	if s.Scheme == schemeNull {
		s.SchemeOutput, err = bcd(p[7])
	} else {
		s.SchemeOutput, err = hex.DecodeString(p[7])
	}
	if err != nil {
		return bad("scheme output: " + err.Error())
	}
	if _, err := suciValue(s); err != nil {
		return bad(err.Error())
	}
	return s, nil
}
