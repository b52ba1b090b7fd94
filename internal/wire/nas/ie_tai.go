package nas

import (
	"fmt"
	"slices"

	"github.com/simreach/simreach/internal/ident"
)

// maxTAIs is the most a TAI list can name.
const maxTAIs = 16

// Types of a partial tracking area identity list (TS 24.501 table 9.11.3.9.1).
const (
	taiOnePLMN     = 0 // one PLMN, any TACs
	taiConsecutive = 1 // one PLMN, TACs counted up from the first
	taiManyPLMNs   = 2 // PLMN and TAC each
)

func tacValue(t ident.TAC) ([]byte, error) {
	if t > 0xffffff {
		return nil, fmt.Errorf("%w: TAC %#x", ident.ErrInvalid, uint32(t))
	}
	return []byte{byte(t >> 16), byte(t >> 8), byte(t)}, nil
}

func parseTAC(v []byte) ident.TAC {
	return ident.TAC(v[0])<<16 | ident.TAC(v[1])<<8 | ident.TAC(v[2])
}

// taiValue is the value of the 5GS tracking area identity IE (TS 24.501 clause 9.11.3.8).
func taiValue(t ident.TAI) ([]byte, error) {
	p, err := plmnValue(t.PLMN)
	if err != nil {
		return nil, err
	}
	tac, err := tacValue(t.TAC)
	return append(p[:], tac...), err
}

func parseTAI(v []byte) (ident.TAI, error) {
	p, err := parsePLMN(v[:3])
	if err != nil {
		return ident.TAI{}, err
	}
	return ident.TAI{PLMN: p, TAC: parseTAC(v[3:6])}, nil
}

// taiListValue is the value of the 5GS tracking area identity list IE
// (TS 24.501 clause 9.11.3.9), as one partial list.
func taiListValue(list []ident.TAI) ([]byte, error) {
	if len(list) > maxTAIs {
		return nil, fmt.Errorf("%d TAIs, want at most %d", len(list), maxTAIs)
	}
	typ := byte(taiOnePLMN)
	if slices.ContainsFunc(list, func(t ident.TAI) bool { return t.PLMN != list[0].PLMN }) {
		typ = taiManyPLMNs
	}
	v := []byte{typ<<5 | byte(len(list)-1)}
	for i, t := range list {
		b, err := taiValue(t)
		if err != nil {
			return nil, err
		}
		if typ == taiOnePLMN && i > 0 {
			b = b[3:]
		}
		v = append(v, b...)
	}
	return v, nil
}

func parseTAIList(v []byte) ([]ident.TAI, error) {
	var list []ident.TAI
	for len(v) > 0 {
		typ, n := v[0]>>5&3, int(v[0]&0x1f)+1
		size := map[byte]int{taiOnePLMN: 3 + 3*n, taiConsecutive: 6, taiManyPLMNs: 6 * n}[typ]
		v = v[1:]
		if size == 0 || len(v) < size || len(list)+n > maxTAIs {
			return nil, errLength
		}
		for i := range n {
			at := 0
			if typ == taiManyPLMNs {
				at = 6 * i
			}
			p, err := parsePLMN(v[at : at+3])
			if err != nil {
				return nil, err
			}
			t := ident.TAI{PLMN: p}
			switch typ {
			case taiOnePLMN:
				t.TAC = parseTAC(v[3+3*i:])
			case taiConsecutive:
				t.TAC = (parseTAC(v[3:]) + ident.TAC(i)) & 0xffffff
			case taiManyPLMNs:
				t.TAC = parseTAC(v[at+3:])
			}
			list = append(list, t)
		}
		v = v[size:]
	}
	return list, nil
}
