package ngap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// The list of UE-associated logical NG-connections (TS 38.413 clause 9.3.3.25) is
// written here and not by the codec library: with up to 65536 items its number of
// items is a length of one or two octets (X.691 clause 10.9.3), of which the
// library knows only the first form. An item is, in bits:
//
//	1  extension, 3  presence of AMF ID, RAN ID, extensions
//	3  octets of the AMF ID less one; from the next octet on, those octets
//	2  octets of the RAN ID less one; likewise

const (
	amfLengthBits = 3
	ranLengthBits = 2
	maxListItems  = maxOpenType / 4 // more would not fit the IE anyway
)

var errConnection = errors.New("connection list malformed")

func connectionsValue(ids []PartialIDs) ([]byte, error) {
	var w bitWriter
	switch n := len(ids); {
	case n > maxListItems:
		return nil, fmt.Errorf("%d connections to reset", n)
	case n > 0x7f:
		w.b = binary.BigEndian.AppendUint16(nil, 0x8000|uint16(n))
	default:
		w.b = []byte{byte(n)}
	}
	for _, id := range ids {
		if id.AMF == nil && id.RAN == nil {
			return nil, errors.New("connection without identifier")
		}
		var present uint8
		if id.AMF != nil {
			present |= 4
		}
		if id.RAN != nil {
			present |= 2
		}
		w.bits(present, 4)
		if id.AMF != nil {
			if *id.AMF < 0 || *id.AMF > maxAMFUENGAPID {
				return nil, fmt.Errorf("AMF UE NGAP ID %d", *id.AMF)
			}
			w.counted(uint64(*id.AMF), amfLengthBits)
		}
		if id.RAN != nil {
			w.counted(uint64(*id.RAN), ranLengthBits)
		}
	}
	return w.b, nil
}

func parseConnections(v []byte) ([]PartialIDs, error) {
	if len(v) == 0 {
		return nil, errConnection
	}
	n, size := int(v[0]), 1
	if v[0]&0x80 != 0 {
		if v[0]&0x40 != 0 || len(v) < 2 {
			return nil, errConnection
		}
		n, size = int(binary.BigEndian.Uint16(v)&maxOpenType), 2
	}
	r := bitReader{b: v[size:]}
	var ids []PartialIDs
	for range n {
		var id PartialIDs
		head, ok := r.bits(4)
		if !ok || head&9 != 0 || head == 0 {
			return nil, errConnection // extended, with extensions, or without identifier
		}
		if head&4 != 0 {
			u, ok := r.counted(amfLengthBits)
			if !ok || u > maxAMFUENGAPID {
				return nil, errConnection
			}
			amf := int64(u)
			id.AMF = &amf
		}
		if head&2 != 0 {
			u, ok := r.counted(ranLengthBits)
			if !ok {
				return nil, errConnection
			}
			ran := uint32(u)
			id.RAN = &ran
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, errConnection
	}
	return ids, nil
}

// bitWriter appends bits to b, of whose last octet the free low bits are unused.
type bitWriter struct {
	b    []byte
	free uint
}

func (w *bitWriter) bits(v uint8, n uint) {
	for n > 0 {
		if w.free == 0 {
			w.b, w.free = append(w.b, 0), 8
		}
		k := min(n, w.free)
		w.free -= k
		n -= k
		w.b[len(w.b)-1] |= v >> n & (1<<k - 1) << w.free
	}
}

// counted writes the number of octets of v less one in n bits, then those octets
// from the next octet on.
func (w *bitWriter) counted(v uint64, n uint) {
	octets := max(1, (bits.Len64(v)+7)/8)
	w.bits(uint8(octets-1), n)
	w.free = 0
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	w.b = append(w.b, b[8-octets:]...)
}

// bitReader takes bits off b, of whose first octet used high bits are gone.
type bitReader struct {
	b    []byte
	used uint
}

func (r *bitReader) bits(n uint) (v uint8, ok bool) {
	for range n {
		if len(r.b) == 0 {
			return 0, false
		}
		v = v<<1 | r.b[0]>>(7-r.used)&1
		if r.used++; r.used == 8 {
			r.b, r.used = r.b[1:], 0
		}
	}
	return v, true
}

// counted reverses bitWriter.counted.
func (r *bitReader) counted(n uint) (v uint64, ok bool) {
	octets, ok := r.bits(n)
	if r.used > 0 {
		r.b, r.used = r.b[1:], 0
	}
	if !ok || len(r.b) <= int(octets) {
		return 0, false
	}
	for _, o := range r.b[:octets+1] {
		v = v<<8 | uint64(o)
	}
	r.b = r.b[octets+1:]
	return v, true
}
