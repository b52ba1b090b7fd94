package nas

import (
	"encoding/binary"
	"fmt"

	"github.com/simreach/simreach/internal/ident"
)

// Coding of QoS rules (TS 24.501 clause 9.11.4.13).
const (
	qosCreate        = 1 << 5 // operation "create new QoS rule" or "... flow description"
	qosDefaultRule   = 1 << 4
	filterBoth       = 3 << 4 // downlink and uplink
	filterMatchAll   = 1
	paramFiveQI      = 1
	flowHasE         = 1 << 6 // a parameters list is included
	maxQFI           = 63
	qosRuleFixedSize = 3 // identifier and length
)

// rulesValue is the value of the QoS rules IE; each rule has one packet filter
// that matches everything in both directions.
func rulesValue(rules []QoSRule) ([]byte, error) {
	var v []byte
	for _, r := range rules {
		if r.QFI > maxQFI {
			return nil, fmt.Errorf("QFI %d", r.QFI)
		}
		op := byte(qosCreate)
		if r.Default {
			op |= qosDefaultRule
		}
		body := []byte{op | 1, filterBoth | 1, 1, filterMatchAll, r.Precedence, byte(r.QFI)}
		v = append(v, r.ID, 0, byte(len(body)))
		v = append(v, body...)
	}
	return v, nil
}

// parseRules returns the rules to create; packet filters are stepped over.
func parseRules(v []byte) ([]QoSRule, error) {
	var rules []QoSRule
	for len(v) > 0 {
		if len(v) < qosRuleFixedSize {
			return nil, errLength
		}
		id, n := v[0], int(binary.BigEndian.Uint16(v[1:]))
		v = v[qosRuleFixedSize:]
		if len(v) < n || n < 1 {
			return nil, errLength
		}
		body := v[:n]
		v = v[n:]
		if body[0]&0xe0 != qosCreate {
			continue
		}
		r := QoSRule{ID: id, Default: body[0]&qosDefaultRule != 0}
		filters := int(body[0] & 0xf)
		body = body[1:]
		for range filters {
			if len(body) < 2 || len(body) < 2+int(body[1]) {
				return nil, errLength
			}
			body = body[2+int(body[1]):]
		}
		if len(body) < 2 {
			return nil, errLength
		}
		r.Precedence, r.QFI = body[0], ident.QFI(body[1]&maxQFI)
		rules = append(rules, r)
	}
	if len(rules) == 0 {
		return nil, fmt.Errorf("no QoS rule to create")
	}
	return rules, nil
}

// flowsValue is the value of the QoS flow descriptions IE (TS 24.501 clause 9.11.4.12).
func flowsValue(flows []QoSFlow) ([]byte, error) {
	var v []byte
	for _, f := range flows {
		if f.QFI > maxQFI {
			return nil, fmt.Errorf("QFI %d", f.QFI)
		}
		v = append(v, byte(f.QFI), qosCreate, flowHasE|1, paramFiveQI, 1, f.FiveQI)
	}
	return v, nil
}

// parseFlows returns the flows to create that have a 5QI.
func parseFlows(v []byte) ([]QoSFlow, error) {
	var flows []QoSFlow
	for len(v) > 0 {
		if len(v) < 3 {
			return nil, errLength
		}
		f := QoSFlow{QFI: ident.QFI(v[0] & maxQFI)}
		create, params := v[1]&0xe0 == qosCreate, int(v[2]&0x3f)
		v = v[3:]
		known := false
		for range params {
			if len(v) < 2 || len(v) < 2+int(v[1]) {
				return nil, errLength
			}
			if v[0] == paramFiveQI && v[1] == 1 {
				f.FiveQI, known = v[2], true
			}
			v = v[2+int(v[1]):]
		}
		if create && known {
			flows = append(flows, f)
		}
	}
	return flows, nil
}
