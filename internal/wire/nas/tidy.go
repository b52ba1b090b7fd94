package nas

import "fmt"

// tidy checks the mandatory part of pdu, which begins at start, and returns pdu
// with only those optional IEs that the layout names: once each, with a length
// that they may have. The codec library cannot be given anything else: it reads
// the value of an IE it does not know as further IEs.
//
// Its error means that a mandatory IE is missing or incorrect, or that an
// unknown IE must be comprehended (TS 24.501 clause 7.5.1).
func (l *layout) tidy(pdu []byte, start int) ([]byte, error) {
	rest := pdu[start:]
	for _, f := range l.mandatory {
		n, size, ok := f.measure(rest)
		if !ok {
			return nil, fmt.Errorf("mandatory IE %s missing", f.name)
		}
		if n < f.min || n > f.max {
			return nil, fmt.Errorf("mandatory IE %s has length %d", f.name, n)
		}
		rest = rest[size:]
	}
	out := append(make([]byte, 0, len(pdu)), pdu[:len(pdu)-len(rest)]...)
	seen := map[uint8]bool{}
	for len(rest) > 0 {
		f := l.find(rest[0])
		if f.name == "" && rest[0]&0xf0 == 0 {
			return nil, fmt.Errorf("IE %#x must be comprehended", rest[0])
		}
		n, size, ok := f.measure(rest)
		if !ok {
			break // cut short: not present, and nothing follows it
		}
		if f.name != "" && !seen[f.iei] && n >= f.min && n <= f.max {
			seen[f.iei] = true
			out = append(out, rest[:size]...)
		}
		rest = rest[size:]
	}
	return out, nil
}

// find returns the optional IE that begins with octet, or a nameless one of the
// same layout (TS 24.007 clause 11.2.4).
func (l *layout) find(octet byte) field {
	key := octet
	if octet&0x80 != 0 {
		key = octet >> 4
	}
	for _, f := range l.optional {
		if f.iei == key && (f.format == formatT1) == (octet&0x80 != 0) {
			return f
		}
	}
	switch {
	case octet&0x80 != 0:
		return field{iei: key, format: formatT1, min: 1, max: 1}
	case octet&0x70 == 0x70:
		return field{iei: key, format: formatTLVE, max: anyLength}
	}
	return field{iei: key, format: formatTLV, max: anyLength}
}

// measure returns the length of the value of the IE at the beginning of b and
// the size of the whole IE; ok is false if b is shorter than that.
func (f field) measure(b []byte) (n, size int, ok bool) {
	head, counted := 0, 0 // octets of IEI and of length
	switch f.format {
	case formatV:
		return f.min, f.min, len(b) >= f.min
	case formatT1:
		return 1, 1, len(b) >= 1
	case formatTV:
		return f.min, 1 + f.min, len(b) >= 1+f.min
	case formatLV:
		counted = 1
	case formatLVE:
		counted = 2
	case formatTLV:
		head, counted = 1, 1
	case formatTLVE:
		head, counted = 1, 2
	}
	if len(b) < head+counted {
		return 0, 0, false
	}
	for _, o := range b[head : head+counted] {
		n = n<<8 | int(o)
	}
	size = head + counted + n
	return n, size, len(b) >= size
}
