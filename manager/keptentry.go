package manager

import (
	"net/netip"
	"time"
	"unique"

	"github.com/simreach/simreach/internal/ident"
)

// keptEntry is an Entry as it is kept in memory, where there are tens of thousands: in
// less than half of the space, and with a third of the pointers. Its address is where it
// is kept.
type keptEntry struct {
	shared           unique.Handle[sharedByEntries]
	text             string // ID, IMSI and SIM ID, one after the other
	idEnd, imsiEnd   uint16
	devicePort       uint16
	created, expires int64 // milliseconds since 1970
	ranges           []netip.Prefix
	targets          []Target
}

// sharedByEntries is what many entries have in common: it is there once for all of them.
type sharedByEntries struct {
	operator           OperatorID
	relay              RelayID
	strategy           Strategy
	credential         CredentialID
	tls, proxyProtocol bool
}

func keep(e *Entry) *keptEntry {
	return &keptEntry{
		shared: unique.Make(sharedByEntries{e.OperatorID, e.RelayID, e.Strategy, e.CredentialID, e.TLS, e.ProxyProtocol}),
		text:   string(e.ID) + string(e.IMSI) + e.SIMID, idEnd: uint16(len(e.ID)), imsiEnd: uint16(len(e.ID) + len(e.IMSI)),
		devicePort: e.DevicePort, created: e.Created.UnixMilli(), expires: e.Expires.UnixMilli(), ranges: e.Ranges, targets: e.Targets,
	}
}

func (k *keptEntry) id() EntryID { return EntryID(k.text[:k.idEnd]) }

func (k *keptEntry) entry(a netip.AddrPort) Entry {
	s := k.shared.Value()
	return Entry{
		ID: k.id(), OperatorID: s.operator, IMSI: ident.IMSI(k.text[k.idEnd:k.imsiEnd]), SIMID: k.text[k.imsiEnd:], Strategy: s.strategy,
		DevicePort: k.devicePort, RelayID: s.relay, Address: a, Ranges: k.ranges,
		Created: time.UnixMilli(k.created).UTC(), Expires: time.UnixMilli(k.expires).UTC(),
		TLS: s.tls, CredentialID: s.credential, ProxyProtocol: s.proxyProtocol, Targets: k.targets,
	}
}
