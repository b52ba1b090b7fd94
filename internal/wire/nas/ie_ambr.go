package nas

import (
	"encoding/binary"
	"math"

	"github.com/simreach/simreach/internal/ident"
)

// Units of the session AMBR go 1, 4, 16, 64, 256 kbit/s and again with Mbit/s and
// so on (TS 24.501 table 9.11.4.14.1).
const maxAMBRUnit = 25

// ambrUnit returns unit n in bit/s.
func ambrUnit(n int) uint64 {
	u := uint64(1000)
	for range (n - 1) / 5 {
		u *= 1000
	}
	return u << (2 * ((n - 1) % 5))
}

// ambrValue is the value of the session-AMBR IE (TS 24.501 clause 9.11.4.14).
func ambrValue(a ident.AMBR) []byte {
	return append(rateValue(a.Downlink), rateValue(a.Uplink)...)
}

// rateValue writes a rate in bit/s: with the coarsest unit that does it exactly,
// else with the finest that reaches it, rounded up so that nobody gets less than
// granted.
func rateValue(rate uint64) []byte {
	unit, n := 1, uint64(0)
	for u := maxAMBRUnit; u >= 1; u-- {
		size := ambrUnit(u)
		whole := (rate-rate%size)/size + min(1, rate%size)
		if whole > math.MaxUint16 {
			break
		}
		unit, n = u, whole
		if rate%size == 0 && rate > 0 {
			break
		}
	}
	return binary.BigEndian.AppendUint16([]byte{byte(unit)}, uint16(n))
}

func parseAMBR(v []byte) (ident.AMBR, error) {
	if len(v) != 6 {
		return ident.AMBR{}, errLength
	}
	return ident.AMBR{Downlink: parseRate(v[:3]), Uplink: parseRate(v[3:])}, nil
}

// parseRate returns a rate in bit/s; those that do not fit 64 bits become the
// largest that does with the finest unit that reaches it.
func parseRate(v []byte) uint64 {
	const largest = math.MaxUint16 * 256_000_000_000_000
	n := uint64(binary.BigEndian.Uint16(v[1:]))
	if v[0] == 0 {
		return 0 // "value is not used"
	}
	// Higher units are spare and read as the highest one.
	u := ambrUnit(min(int(v[0]), maxAMBRUnit))
	if n > largest/u {
		return largest
	}
	return n * u
}
