package nas

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"github.com/simreach/simreach/internal/ident"
)

// sessionSetValue is the value of the PDU session status, uplink data status and
// reactivation result IEs (TS 24.501 clauses 9.11.3.44, 9.11.3.57, 9.11.3.42).
func sessionSetValue(s SessionSet) []byte { return []byte{byte(s) &^ 1, byte(s >> 8)} }

func parseSessionSet(v []byte) (SessionSet, error) {
	if len(v) < 2 {
		return 0, errLength
	}
	return SessionSet(v[0]&^1) | SessionSet(v[1])<<8, nil
}

func (w *writer) putSet(name string, s *SessionSet) {
	if s != nil {
		w.put(name, sessionSetValue(*s)...)
	}
}

// capabilityValue is the value of the UE security capability IE
// (TS 24.501 clause 9.11.3.54); on the wire algorithm 0 is the highest bit.
func capabilityValue(c SecurityCapability) []byte {
	return append([]byte{bits.Reverse8(c.EA), bits.Reverse8(c.IA)}, c.More...)
}

func parseCapability(v []byte) (SecurityCapability, error) {
	if len(v) < 2 {
		return SecurityCapability{}, errLength
	}
	return SecurityCapability{EA: bits.Reverse8(v[0]), IA: bits.Reverse8(v[1]), More: string(v[2:])}, nil
}

// dnnValue is the value of the DNN IE (TS 24.501 clause 9.11.2.1B): labels, each
// after its length (TS 23.003 clause 9.1).
func dnnValue(d ident.DNN) ([]byte, error) {
	var v []byte
	for label := range strings.SplitSeq(string(d), ".") {
		if len(label) == 0 || len(label) > 63 {
			return nil, fmt.Errorf("DNN %q: a label has 1 to 63 characters", d)
		}
		v = append(append(v, byte(len(label))), label...)
	}
	return v, nil
}

var errDNN = errors.New("not a DNN")

func parseDNN(v []byte) (ident.DNN, error) {
	var labels []string
	for len(v) > 0 {
		n := int(v[0])
		if n == 0 || n > 63 || len(v) < 1+n {
			return "", errDNN
		}
		for _, c := range v[1 : 1+n] {
			if c <= ' ' || c > '~' || c == '.' {
				return "", errDNN
			}
		}
		labels = append(labels, strings.ToLower(string(v[1:1+n])))
		v = v[1+n:]
	}
	return ident.DNN(strings.Join(labels, ".")), nil
}

// ngksiValue is half an octet: native context and key set identifier
// (TS 24.501 clause 9.11.3.32).
func ngksiValue(k NGKSI) byte { return byte(k) & 7 }

// parseNGKSI reads mapped contexts, which the testbed has none of, as NoKey.
func parseNGKSI(half byte) NGKSI {
	if half&8 != 0 {
		return NoKey
	}
	return NGKSI(half & 7)
}
