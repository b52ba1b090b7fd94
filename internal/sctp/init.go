package sctp

import "encoding/binary"

// INIT and INIT ACK, RFC 9260 clauses 3.3.2 and 3.3.3.

const (
	initFixed = 16
	minWindow = 1500
)

// Parameters that may stand in INIT or INIT ACK. What we do not speak (ECN,
// FORWARD TSN, AUTH, address reconfiguration, interleaving, zero checksum) is not
// listed: we never offer it and skip or report it by the bits of its type.
const (
	paramIPv4         = 5
	paramIPv6         = 6
	paramCookie       = 7
	paramUnrecognized = 8
	paramPreservative = 9
	paramHostName     = 11
	paramAddressTypes = 12
)

// initChunk is the part of INIT and INIT ACK that we use.
type initChunk struct {
	tag      uint32
	window   uint32
	outbound uint16
	inbound  uint16
	tsn      uint32
}

// initParams is what the optional parameters said.
type initParams struct {
	cookie   []byte // of INIT ACK
	hostName []byte // the whole parameter: must be answered with ABORT
	report   []byte // parameters to report, each padded
}

// refusal is why a received INIT or INIT ACK cannot be accepted: the error cause
// to send in ABORT, or nothing where it is to be dropped silently.
type refusal struct {
	drop  bool
	cause []byte
}

func (c initChunk) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, c.tag)
	b = binary.BigEndian.AppendUint32(b, c.window)
	b = binary.BigEndian.AppendUint16(b, c.outbound)
	b = binary.BigEndian.AppendUint16(b, c.inbound)
	return binary.BigEndian.AppendUint32(b, c.tsn)
}

// parseInit reads the value of INIT or INIT ACK. A refusal comes with the tag
// filled in where there was one, for the ABORT.
func parseInit(v []byte) (initChunk, initParams, *refusal) {
	if len(v) < initFixed {
		return initChunk{}, initParams{}, &refusal{drop: true}
	}
	c := initChunk{
		tag:      binary.BigEndian.Uint32(v),
		window:   binary.BigEndian.Uint32(v[4:]),
		outbound: binary.BigEndian.Uint16(v[8:]),
		inbound:  binary.BigEndian.Uint16(v[10:]),
		tsn:      binary.BigEndian.Uint32(v[12:]),
	}
	switch {
	case c.tag == 0: // clause 3.3.2: silently discard
		return c, initParams{}, &refusal{drop: true}
	case c.outbound == 0 || c.inbound == 0 || c.window < minWindow:
		return c, initParams{}, &refusal{cause: appendTLV(nil, causeInvalidParameter, nil)}
	}
	var p initParams
	for rest := v[initFixed:]; len(rest) >= chunkHeader; {
		typ := binary.BigEndian.Uint16(rest)
		n := int(binary.BigEndian.Uint16(rest[2:]))
		if n < chunkHeader || n > len(rest) {
			return c, initParams{}, &refusal{cause: appendTLV(nil, causeProtocolViolation, nil)}
		}
		param := rest[:n:n]
		rest = rest[min(padded(n), len(rest)):]
		switch typ {
		case paramIPv4, paramIPv6, paramPreservative, paramAddressTypes, paramUnrecognized:
			// We are single-homed: the packet's own source is the peer's address.
		case paramCookie:
			p.cookie = param[chunkHeader:]
		case paramHostName: // clause 3.3.2.1.4: deprecated, answered with ABORT
			p.hostName = param
		default:
			// Clause 3.2.1: the two highest bits say whether to report and whether
			// to go on with the next parameter.
			if typ&0x4000 != 0 {
				p.report = pad(append(p.report, param...), n)
			}
			if typ&0x8000 == 0 {
				rest = nil
			}
		}
	}
	if p.hostName != nil {
		return c, p, &refusal{cause: appendTLV(nil, causeUnresolvableAddress, p.hostName)}
	}
	return c, p, nil
}

// initAckValue builds the value of an INIT ACK: state cookie, then the reported
// parameters of the INIT, each in an Unrecognized Parameter.
func initAckValue(c initChunk, cookie, report []byte) []byte {
	v := c.append(make([]byte, 0, initFixed+2*chunkHeader+len(cookie)+2*len(report)))
	v = appendTLV(v, paramCookie, cookie)
	for len(report) >= chunkHeader {
		n := int(binary.BigEndian.Uint16(report[2:]))
		v = pad(v, len(v))
		v = appendTLV(v, paramUnrecognized, report[:n])
		report = report[padded(n):]
	}
	return v
}
