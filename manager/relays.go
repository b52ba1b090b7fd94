package manager

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// RelayKind is outer or inner.
type RelayKind uint8

// Relay kinds.
const (
	OuterRelay RelayKind = iota + 1
	InnerRelay
)

// String returns "outer" or "inner".
func (k RelayKind) String() string {
	switch k {
	case OuterRelay:
		return "outer"
	case InnerRelay:
		return "inner"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// PortRange is an inclusive range of TCP ports.
type PortRange struct {
	First uint16 `yaml:"first"`
	Last  uint16 `yaml:"last"`
}

// DefaultPorts is the range from which entry ports are drawn unless a relay says
// otherwise.
func DefaultPorts() PortRange { return PortRange{First: 40000, Last: 65000} }

// Size returns how many ports are in the range; 0 for an invalid one.
func (r PortRange) Size() int {
	if r.First == 0 || r.Last < r.First {
		return 0
	}
	return int(r.Last) - int(r.First) + 1
}

// Contains reports whether port is in the range.
func (r PortRange) Contains(port uint16) bool { return r.First <= port && port <= r.Last }

// Relay is what a relay says about itself when it attaches.
type Relay struct {
	ID       RelayID
	Kind     RelayKind
	Instance string         // a fresh random value for every process start
	Address  netip.AddrPort // outer: the published address, port 0; inner: where outer relays connect
	Ports    PortRange      // outer only
	Region   string         // free text; empty: none
	Live     int            // connections alive at the time of attaching
	// Draining says that an outer relay finishes its connections beside its replacement,
	// another process with the same ID: it is sent CommandClose, CommandCredential,
	// CommandCut and CommandReview only, and the one that is replacing it stays attached.
	Draining bool
}

// Validate returns CodeBadRelay for a registration that cannot work.
func (r Relay) Validate() error {
	bad := func(why error) error { return NewError(CodeBadRelay, why) }
	switch {
	case r.ID == "":
		return bad(DetailRequired.Of("id"))
	case r.Instance == "":
		return bad(DetailRequired.Of("instance"))
	case !r.Address.Addr().IsValid() || r.Address.Addr().IsUnspecified():
		return bad(DetailRequired.Of("address"))
	case unstorable(string(r.ID)), unstorable(r.Instance), unstorable(r.Region):
		return bad(DetailRelayText)
	}
	switch r.Kind {
	case OuterRelay:
		if r.Ports.Size() == 0 {
			return bad(DetailRequired.Of("ports"))
		}
	case InnerRelay:
		if r.Address.Port() == 0 {
			return bad(DetailRequired.Of("port"))
		}
	default:
		return bad(DetailUnknown.Of("kind"))
	}
	return nil
}

// CommandKind is what a manager wants of an outer relay.
type CommandKind uint8

// Commands.
const (
	// CommandSnapshot is the first command of every session: Openings are all
	// entries the relay shall have open. It opens the missing ones and cuts
	// entries that are not listed.
	CommandSnapshot CommandKind = iota + 1
	// CommandOpen opens the entries in Openings. Opening one that is open
	// already changes nothing and succeeds.
	CommandOpen
	// CommandClose closes the port of EntryID and cuts its live connections, for
	// Reason. An unknown entry is not an error.
	CommandClose
	// CommandCredential says that CredentialID has changed: the relay forgets what it
	// knows of it and cuts the connections that would no longer be let in.
	CommandCredential
	// CommandPing has an inner relay send ICMP echo requests to a device.
	CommandPing
	// CommandDrain tells the relay to finish its connections and take no new ones.
	CommandDrain
	// CommandCut says that the device with IMSI is no longer at the address Device, or that
	// its SIM is barred: the relay cuts the connections that lead there, those that are being set up too, for
	// CauseDeviceLeft. Its entries stay.
	CommandCut
	// CommandReview says that a CommandCut may be missing: the relay asks which of the
	// devices that its connections lead to have left (RelaySession.Departed), and does as
	// CommandCut says. After a snapshot it does so by itself.
	CommandReview
)

// String returns the command's name.
func (k CommandKind) String() string {
	switch k {
	case CommandSnapshot:
		return "snapshot"
	case CommandOpen:
		return "open"
	case CommandClose:
		return "close"
	case CommandCredential:
		return "credential"
	case CommandPing:
		return "ping"
	case CommandDrain:
		return "drain"
	case CommandCut:
		return "cut"
	case CommandReview:
		return "review"
	}
	return fmt.Sprintf("command %d", uint8(k))
}

// CloseReason says why an entry ended.
type CloseReason uint8

// Reasons.
const (
	ReasonRevoked CloseReason = iota + 1
	ReasonExpired
)

// String returns "revoked" or "expired".
func (r CloseReason) String() string {
	switch r {
	case ReasonRevoked:
		return "revoked"
	case ReasonExpired:
		return "expired"
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// Opening is what an outer relay must know to open an entry. The conditions are
// asked for with every connection (R11).
//
// What is needed before the manager has been asked, or when it cannot be, comes with
// it: the TLS handshake's settings, and whose entry it is, for the audit log.
type Opening struct {
	EntryID      EntryID
	Address      netip.AddrPort
	Expires      time.Time
	OperatorID   OperatorID
	IMSI         ident.IMSI // empty for several devices
	SIMID        string
	DevicePort   uint16 // 0 for several devices
	TLS          bool
	CredentialID CredentialID
	Many         bool // the entry stands for several devices (R9b)
	// Ranges are those of an entry for several devices: who is in none of them may reach
	// none of its devices, and needs no handshake to be told so. Empty for one device: they
	// come with the answer that is waited for before the handshake.
	Ranges []netip.Prefix
	// Trace is the W3C traceparent of the entry's creation. It is not kept in the store:
	// a snapshot has none. Empty: not traced, or not known any more.
	Trace string
}

// Command is one instruction to an outer relay. It is answered by an
// Acknowledgement with the same Session and ID.
type Command struct {
	Session  string
	ID       uint64
	Kind     CommandKind
	Openings []Opening   // snapshot, open
	EntryID  EntryID     // close
	Reason   CloseReason // close

	CredentialID CredentialID // credential
	Ping         Ping         // ping

	IMSI   ident.IMSI // cut
	Device netip.Addr // cut
}

// Place is a device at an address behind an inner relay: where a connection leads.
type Place struct {
	IMSI    ident.IMSI
	Inner   RelayID
	Address netip.Addr
}

// Ping asks an inner relay to reach a device with ICMP echo requests.
type Ping struct {
	Device  netip.Addr
	Count   int           // 1 to 5
	Timeout time.Duration // for each, 1 to 3 s
}

// PingResult is what became of a Ping.
type PingResult struct {
	Sent, Received int
	RTT            time.Duration // the mean of those received; 0: none
}

// Acknowledgement answers a Command. Entries that could not be opened are in
// Failures; all others are open when it is sent.
type Acknowledgement struct {
	Session  string
	ID       uint64
	Failures []OpenFailure
	Ping     *PingResult // the answer to CommandPing
}

// OpenFailure is an entry that the relay could not open. Err is ErrPortInUse or
// another error, whose text is for the log.
type OpenFailure struct {
	EntryID EntryID
	Err     error
}

// RelayLoad is what an outer relay tells about itself from time to time.
type RelayLoad struct {
	Live      int    // connections relayed now
	Accepted  uint64 // connections of clients since the process began
	Opened    uint64 // of those, how many reached their device
	Denied    map[string]uint64
	Up, Down  uint64 // bytes from and to clients since the process began, of live connections too
	Entries   int    // open ports
	Draining  bool   // finishes its connections and takes no new ones
	Unaudited uint64 // audit records that were lost
	At        time.Time
}

// ResolveRequest is an outer relay's question about one connection (R11).
type ResolveRequest struct {
	ConnectionID string
	Hit          netip.AddrPort // what the client connected to, as published
	Client       netip.AddrPort
	// Target names the device of an entry for several, as the client's CONNECT stream
	// does: "imsi-<digits>:<port>" or "<SIM ID>:<port>". Empty for an entry for one.
	Target string
}

// Route is the manager's answer to a relay's question about one connection (R12).
type Route struct {
	EntryID       EntryID
	ConnectionID  string
	OperatorID    OperatorID
	IMSI          ident.IMSI
	SIMID         string
	TLS           bool
	CredentialID  CredentialID // what a client certificate is checked with (R14); empty: none
	ProxyProtocol bool
	Ranges        []netip.Prefix
	Expires       time.Time
	Device        netip.AddrPort // the device's private address and port
	InnerID       RelayID
	Inner         netip.AddrPort // where the outer relay connects
	Ticket        string         // what it shows there; a secret, valid once and for seconds
}

// Allows reports whether a client may connect from addr (R13).
func (r Route) Allows(addr netip.Addr) bool {
	addr = addr.Unmap()
	for _, p := range r.Ranges {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// TicketKey is what one process of an inner relay checks its tickets with, a secret
// between it and the manager.
type TicketKey struct {
	ID  string
	Key []byte // of HMAC-SHA256, 32 bytes
}
