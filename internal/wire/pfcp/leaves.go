package pfcp

import (
	"bytes"
	"net/netip"
	"strings"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// Leaf readers, one per IE of TS 29.244 clause 8.2 (in the order of use).

func u8(c *cursor) uint8   { return uint8(c.uint(1)) }
func u16(c *cursor) uint16 { return uint16(c.uint(2)) }
func u32(c *cursor) uint32 { return uint32(c.uint(4)) }

func addr4(c *cursor) netip.Addr { return netip.AddrFrom4([4]byte(c.bytes(4))) }
func addr6(c *cursor) netip.Addr { return netip.AddrFrom16([16]byte(c.bytes(16))) }

func causeLeaf(c *cursor) Cause { return Cause(u8(c)) }

// ntpEpoch is 1 January 1900 in Unix seconds.
const ntpEpoch = -2208988800

// timeLeaf reads seconds since 1900. Values with the top bit clear count from
// 2036, when the 32 bits wrap (RFC 5905 clause 6).
func timeLeaf(c *cursor) time.Time {
	s := int64(u32(c))
	if s < 1<<31 {
		s += 1 << 32
	}
	return time.Unix(s+ntpEpoch, 0).UTC()
}

// nodeIDLeaf is clause 8.2.38.
func nodeIDLeaf(c *cursor) NodeID {
	switch u8(c) & 0x0f {
	case 0:
		return NodeID{Addr: addr4(c)}
	case 1:
		return NodeID{Addr: addr6(c)}
	case 2:
		name, ok := labels(c.rest())
		c.bad = c.bad || !ok
		return NodeID{FQDN: name}
	}
	c.bad = true
	return NodeID{}
}

// labels reads a DNS-like name: a length octet before each label
// (TS 23.003 clause 19.4.2.1), with or without a final zero octet.
func labels(b []byte) (string, bool) {
	var parts []string
	for len(b) > 0 {
		n := int(b[0])
		if n == 0 && len(b) == 1 && len(parts) > 0 {
			break
		}
		if n == 0 || n > 63 || n > len(b)-1 || bytes.ContainsFunc(b[1:1+n], notHost) {
			return "", false
		}
		parts = append(parts, string(b[1:1+n]))
		b = b[1+n:]
	}
	return strings.Join(parts, "."), len(parts) > 0
}

func notHost(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// networkInstanceLeaf is clause 8.2.4. We send plain text; other control planes
// send the DNN as labels, which is told apart by its exact length octets.
func networkInstanceLeaf(c *cursor) string {
	b := c.rest()
	if s, ok := labels(b); ok {
		if _, again := labels([]byte(s)); !again { // else the text itself reads as labels: leave it
			return s
		}
	}
	return string(b)
}

// fseidLeaf is clause 8.2.37. Of two addresses the IPv4 one is used.
func fseidLeaf(c *cursor) FSEID {
	flags := u8(c)
	f := FSEID{SEID: ident.SEID(c.uint(8))}
	if flags&0x02 != 0 {
		f.Addr = addr4(c)
	}
	if flags&0x01 != 0 {
		if v6 := addr6(c); !f.Addr.IsValid() {
			f.Addr = v6
		}
	}
	c.bad = c.bad || !f.Addr.IsValid()
	return f
}

// localFTEID is an F-TEID or the wish for one.
type localFTEID struct {
	fteid  *ident.FTEID
	choose bool
}

// fteidLeaf is clause 8.2.3.
func fteidLeaf(c *cursor) localFTEID {
	flags := u8(c)
	if flags&0x03 == 0 {
		c.bad = true
		return localFTEID{}
	}
	if flags&0x04 != 0 { // CH
		if flags&0x08 != 0 { // CHID: one ID per choice is all we need
			u8(c)
		}
		l := localFTEID{choose: true}
		if flags&0x01 == 0 {
			l.fteid = &ident.FTEID{Addr: netip.IPv6Unspecified()}
		}
		return l
	}
	f := &ident.FTEID{TEID: ident.TEID(u32(c))}
	if flags&0x01 != 0 {
		f.Addr = addr4(c)
	}
	if flags&0x02 != 0 {
		if v6 := addr6(c); !f.Addr.IsValid() {
			f.Addr = v6
		}
	}
	return localFTEID{fteid: f}
}

// chosenFTEID is an F-TEID that must be a value, not a choice.
func chosenFTEID(c *cursor) ident.FTEID {
	l := fteidLeaf(c)
	if l.fteid == nil || l.choose {
		c.bad = true
		return ident.FTEID{}
	}
	return *l.fteid
}

type ueIP struct {
	addr   ident.UEAddress
	source bool
}

// ueAddressLeaf is clause 8.2.62: V6 0x01, V4 0x02, S/D 0x04 (set: destination),
// IPv6D 0x08, IP6PL 0x40. Choosing UE addresses is the SMF's business here.
func ueAddressLeaf(c *cursor) ueIP {
	flags := u8(c)
	u := ueIP{source: flags&0x04 == 0}
	if flags&0x02 != 0 {
		u.addr.V4 = addr4(c)
	}
	if flags&0x01 != 0 {
		a, bits := addr6(c), 64
		if flags&0x08 != 0 { // prefix delegation bits widen the /64
			bits -= int(u8(c))
		}
		if flags&0x40 != 0 {
			bits = int(u8(c))
		}
		if bits < 1 || bits > 128 || a.Is4In6() {
			c.bad = true
			return u
		}
		u.addr.V6 = netip.PrefixFrom(a, bits).Masked()
	}
	c.bad = c.bad || flags&0x03 == 0
	return u
}

// qfiLeaf is clause 8.2.89.
func qfiLeaf(c *cursor) ident.QFI { return ident.QFI(u8(c) & 0x3f) }

// interfaceLeaf is clauses 8.2.2 and 8.2.24.
func interfaceLeaf(c *cursor) Interface { return Interface(u8(c) & 0x0f) }

// removalLeaf is clause 8.2.64: GTP-U/UDP/IPv4, /IPv6 or /IP.
func removalLeaf(c *cursor) bool {
	switch u8(c) {
	case removeGTPv4, removeGTPv6, removeGTPAny:
		return true
	}
	c.bad = true
	return false
}

// creationLeaf is clause 8.2.56, GTP-U/UDP over IPv4 or IPv6 only.
func creationLeaf(c *cursor) ident.FTEID {
	desc := u16(c)
	if desc&(createGTPv4|createGTPv6) == 0 || desc&0xfc00 != 0 {
		c.bad = true
		return ident.FTEID{}
	}
	f := ident.FTEID{TEID: ident.TEID(u32(c))}
	if desc&createGTPv4 != 0 {
		f.Addr = addr4(c)
	}
	if desc&createGTPv6 != 0 {
		if v6 := addr6(c); !f.Addr.IsValid() {
			f.Addr = v6
		}
	}
	return f
}

// actionLeaf is clause 8.2.26; the second octet of Release 16 and later holds
// nothing we use. One flag at least is always set.
func actionLeaf(c *cursor) Action {
	a := Action(u8(c))
	c.bad = c.bad || a == 0
	return a
}

// mbrLeaf is clause 8.2.8, kilobits per second, five octets each. The largest
// value is how a single direction is left unlimited.
func mbrLeaf(c *cursor) ident.AMBR {
	rate := func() uint64 {
		v := c.uint(5)
		if v == maxKbps {
			return 0
		}
		return v * 1000
	}
	return ident.AMBR{Uplink: rate(), Downlink: rate()}
}

// gateLeaf is clause 8.2.7: downlink in bits 1-2, uplink in bits 3-4.
func gateLeaf(c *cursor) GateStatus {
	v := u8(c)
	return GateStatus{UplinkClosed: v>>2&3 == 1, DownlinkClosed: v&3 == 1}
}

// thresholdLeaf is clause 8.2.13; the total is used, or the sum of the parts.
func thresholdLeaf(c *cursor) uint64 {
	flags := u8(c)
	var total, parts uint64
	if flags&0x01 != 0 {
		total = c.uint(8)
	}
	for _, f := range []uint8{0x02, 0x04} {
		if flags&f != 0 {
			parts += c.uint(8)
		}
	}
	c.bad = c.bad || flags&0x07 == 0
	if total == 0 {
		return parts
	}
	return total
}

type volume struct{ upBytes, downBytes, upPackets, downPackets uint64 }

// volumeLeaf is clause 8.2.44.
func volumeLeaf(c *cursor) volume {
	flags := u8(c)
	var v [6]uint64 // total, up, down octets, then packets
	for i := range v {
		if flags&(1<<i) != 0 {
			v[i] = c.uint(8)
		}
	}
	return volume{upBytes: v[1], downBytes: v[2], upPackets: v[4], downPackets: v[5]}
}

// triggerLeaf is clause 8.2.41: two octets, three since Release 16.
func triggerLeaf(c *cursor) UsageTrigger {
	v := c.bytes(2)
	switch {
	case v[1]&0x08 != 0:
		return TriggerTermination
	case v[0]&0x80 != 0:
		return TriggerImmediate
	case v[0]&0x02 != 0:
		return TriggerVolume
	case v[0]&0x01 != 0:
		return TriggerPeriod
	}
	return 0
}
