package dgram

import (
	"net/netip"
	"strconv"
)

// Link-local zones travel as interface numbers: names would cost a look-up per
// datagram, and the number is as good to send back to.

func zoneName(index uint32) string { return strconv.FormatUint(uint64(index), 10) }

func zoneIndex(a netip.Addr) uint32 {
	if a.Zone() == "" {
		return 0
	}
	n, err := strconv.ParseUint(a.Zone(), 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}
