package audit

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"slices"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

// tag says what an entry of the log is for.
type tag byte

const (
	tagRecord  tag = 1 // to hand over
	tagBegun   tag = 2 // handed over before: the ACCESS of a connection that has no answer yet
	tagDecided tag = 3 // the same, of one that has CONNECTED, DENIED or REFUSED
)

// errDamaged says that an entry of the log is not what was written.
var errDamaged = errors.New("damaged entry")

// types are the types of records as the log numbers them: their place, from 1.
var types = [...]manager.AuditType{
	manager.AuditCreated, manager.AuditDeleted, manager.AuditExpired, manager.AuditAccess,
	manager.AuditConnected, manager.AuditDenied, manager.AuditRefused, manager.AuditClosed,
}

// appendEntry appends an entry of the log: tag, type, TLS (a byte each), time in
// milliseconds, device port, bytes up and down (varints), then texts and addresses, each
// a varint with its length and its bytes, then the CRC-32C of all that.
func appendEntry(b []byte, t tag, r *manager.AuditRecord) []byte {
	begin := len(b)
	b = append(b, byte(t), byte(slices.Index(types[:], r.Type)+1), 0)
	if r.TLS {
		b[len(b)-1] = 1
	}
	b = binary.AppendVarint(b, r.At.UnixMilli())
	b = binary.AppendUvarint(b, uint64(r.DevicePort))
	b = binary.AppendUvarint(b, r.Up)
	b = binary.AppendUvarint(b, r.Down)
	for _, s := range [...]string{
		r.ID, string(r.OperatorID), string(r.EntryID), r.ConnectionID, string(r.IMSI), r.SIMID, string(r.RelayID), string(r.Cause),
	} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = appendAddrPort(b, r.Source)
	b = appendAddrPort(b, r.Destination)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[begin:], crc32.MakeTable(crc32.Castagnoli)))
}

func appendAddrPort(b []byte, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return append(b, 0)
	}
	at := len(b)
	b = append(b, 0)
	b, _ = a.AppendBinary(b) // never fails
	if len(b)-at-1 > 0x7f {  // a zone that is not worth keeping
		b, _ = netip.AddrPortFrom(a.Addr().WithZone(""), a.Port()).AppendBinary(b[:at+1])
	}
	b[at] = byte(len(b) - at - 1)
	return b
}

// parseEntry takes an entry apart. The record shares nothing with b. errDamaged.
func parseEntry(b []byte) (t tag, r manager.AuditRecord, err error) {
	if len(b) < 7 || crc32.Checksum(b[:len(b)-4], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return 0, r, errDamaged
	}
	d := decoder{b: b[:len(b)-4], texts: string(b[:len(b)-4])}
	t = tag(d.byte())
	kind := int(d.byte())
	r.TLS = d.byte() == 1
	r.At = time.UnixMilli(d.varint()).UTC()
	port := d.uvarint()
	r.DevicePort, r.Up, r.Down = uint16(port), d.uvarint(), d.uvarint()
	r.ID, r.OperatorID, r.EntryID, r.ConnectionID = d.text(), manager.OperatorID(d.text()), manager.EntryID(d.text()), d.text()
	r.IMSI, r.SIMID, r.RelayID, r.Cause = ident.IMSI(d.text()), d.text(), manager.RelayID(d.text()), manager.Cause(d.text())
	r.Source, r.Destination = d.addrPort(), d.addrPort()
	if d.bad || len(d.b) > 0 || kind > len(types) || port > 65535 || t < tagRecord || t > tagDecided {
		return 0, manager.AuditRecord{}, errDamaged
	}
	if kind > 0 {
		r.Type = types[kind-1]
	}
	return t, r, nil
}

// decoder reads from the front of b; bad says that something did not fit. Texts are
// parts of one copy.
type decoder struct {
	b     []byte
	texts string // its end is that of b
	bad   bool
}

func (d *decoder) bytes(n uint64) []byte {
	if d.bad || n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) byte() byte {
	b := d.bytes(1)
	if b == nil {
		return 0
	}
	return b[0]
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) text() string {
	n := len(d.bytes(d.uvarint()))
	end := len(d.texts) - len(d.b)
	return d.texts[end-n : end]
}

func (d *decoder) addrPort() (a netip.AddrPort) {
	b := d.bytes(uint64(d.byte()))
	if len(b) > 0 && a.UnmarshalBinary(b) != nil {
		d.bad = true
	}
	return a
}
