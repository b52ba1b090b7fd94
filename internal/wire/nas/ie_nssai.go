package nas

import (
	"encoding/hex"
	"fmt"

	"github.com/simreach/simreach/internal/ident"
)

// noSD is the SD that says there is none (TS 23.003 clause 28.4.2).
const noSD = "ffffff"

// snssaiValue is the value of the S-NSSAI IE (TS 24.501 clause 9.11.2.8).
func snssaiValue(s ident.SNSSAI) ([]byte, error) {
	if s.SD == "" || s.SD == noSD {
		return []byte{s.SST}, nil
	}
	sd, err := hex.DecodeString(s.SD)
	if err != nil || len(sd) != 3 {
		return nil, fmt.Errorf("%w: SD %q", ident.ErrInvalid, s.SD)
	}
	return append([]byte{s.SST}, sd...), nil
}

// parseSNSSAI leaves out the mapped home values of a roaming UE.
func parseSNSSAI(v []byte) (s ident.SNSSAI, err error) {
	switch len(v) {
	case 1, 2:
		return ident.SNSSAI{SST: v[0]}, nil
	case 4, 5, 8:
		s.SST = v[0]
		if sd := hex.EncodeToString(v[1:4]); sd != noSD {
			s.SD = sd
		}
		return s, nil
	}
	return s, errLength
}

// nssaiValue is the value of the NSSAI IE (TS 24.501 clause 9.11.3.37).
func nssaiValue(list []ident.SNSSAI) ([]byte, error) {
	var v []byte
	for _, s := range list {
		b, err := snssaiValue(s)
		if err != nil {
			return nil, err
		}
		v = append(append(v, byte(len(b))), b...)
	}
	return v, nil
}

func parseNSSAI(v []byte) ([]ident.SNSSAI, error) {
	var list []ident.SNSSAI
	for len(v) > 0 {
		n := int(v[0])
		if len(v) < 1+n {
			return nil, errLength
		}
		s, err := parseSNSSAI(v[1 : 1+n])
		if err != nil {
			return nil, err
		}
		list = append(list, s)
		v = v[1+n:]
	}
	return list, nil
}

// rejectedInPLMN is the cause "S-NSSAI not available in the current PLMN or SNPN".
const rejectedInPLMN = 0

// rejectedValue is the value of the rejected NSSAI IE (TS 24.501 clause 9.11.3.46).
func rejectedValue(list []ident.SNSSAI) ([]byte, error) {
	var v []byte
	for _, s := range list {
		b, err := snssaiValue(s)
		if err != nil {
			return nil, err
		}
		v = append(append(v, byte(len(b))<<4|rejectedInPLMN), b...)
	}
	return v, nil
}

// parseRejected leaves out the causes.
func parseRejected(v []byte) ([]ident.SNSSAI, error) {
	var list []ident.SNSSAI
	for len(v) > 0 {
		n := int(v[0] >> 4)
		if len(v) < 1+n || n != 1 && n != 4 {
			return nil, errLength
		}
		s, err := parseSNSSAI(v[1 : 1+n])
		if err != nil {
			return nil, err
		}
		list = append(list, s)
		v = v[1+n:]
	}
	return list, nil
}
