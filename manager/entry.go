package manager

import (
	"net/netip"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// EntryID names an entry: a ULID, so that IDs sort by creation.
type EntryID string

// OperatorID names a tenant: "OP" and ten digits.
type OperatorID string

// RelayID names a relay, outer or inner.
type RelayID string

// Strategy says how a destination is chosen when the client connects.
type Strategy string

// Strategies. A SIM ID without a service is DYNAMIC; here every SIM has one
// subscription, so all of them lead to the SIM's IMSI.
const (
	IMSIPrioritized Strategy = "IMSI_PRIORITIZED"
	AirPrioritized  Strategy = "AIR_PRIORITIZED"
	Dynamic         Strategy = "DYNAMIC"
)

// Entry is what one connection request created (R7): whoever connects to Address
// before Expires from one of Ranges reaches port DevicePort of the device.
// Entries are immutable.
type Entry struct {
	ID         EntryID
	OperatorID OperatorID
	IMSI       ident.IMSI // always set
	SIMID      string     // set when the entry was made by SIM ID
	Strategy   Strategy
	DevicePort uint16
	RelayID    RelayID        // the outer relay that has the port
	Address    netip.AddrPort // the address and port that clients connect to
	Ranges     []netip.Prefix // who may connect; never empty
	Created    time.Time      // millisecond precision, UTC
	Expires    time.Time      // millisecond precision, UTC

	// TLS is whether clients speak TLS to the outer relay (R18).
	TLS bool
	// CredentialID names the Credential that clients' certificates are checked with
	// (R14); empty: none. Set only with TLS.
	CredentialID CredentialID
	// ProxyProtocol is whether the device is sent a PROXY protocol version 2 header
	// that names the client.
	ProxyProtocol bool
	// Targets are the devices of an entry for several of them (R9b): a client reaches
	// each through its own CONNECT stream. IMSI, SIMID and DevicePort are empty then, and
	// TLS is set. Empty: an entry for one device.
	Targets []Target
}

// Target is one device of an entry for several, with conditions of its own that come
// on top of the entry's.
type Target struct {
	IMSI       ident.IMSI
	SIMID      string // set when it was named by SIM ID
	DevicePort uint16
	Ranges     []netip.Prefix // empty: the entry's
	Expires    time.Time      // zero: the entry's
}

// Many reports whether the entry stands for several devices.
func (e Entry) Many() bool { return len(e.Targets) > 0 }

// Duration returns how long the entry was asked to live.
func (e Entry) Duration() time.Duration { return e.Expires.Sub(e.Created) }

// Expired reports whether the entry is no longer valid at now.
func (e Entry) Expired(now time.Time) bool { return !now.Before(e.Expires) }

// Subscriber is a SIM: its IMSI and its owner.
type Subscriber struct {
	IMSI       ident.IMSI
	OperatorID OperatorID
}

// CreateRequest asks for an entry (R3, R4). Exactly one of IMSI and SIMID is used:
// SIMID if both are set.
type CreateRequest struct {
	IMSI     string
	SIMID    string
	Service  string         // "", "air"; only with SIMID
	Port     int            // the device's TCP port, 1..65535
	Duration *time.Duration // nil: the configured default; else whole seconds from 1 s to the configured maximum
	Ranges   []string       // CIDR ranges or single addresses; empty: Caller alone
	Caller   netip.Addr     // who asks

	TLS           bool
	CredentialID  CredentialID // only with TLS
	ProxyProtocol bool
	// Relay is a hint: the ID of an outer relay, or a region, to prefer. Empty: the
	// policy alone decides.
	RelayHint, RegionHint string
	// Targets makes an entry for several devices; IMSI, SIMID, Service and Port are
	// empty then.
	Targets []TargetRequest
}

// TargetRequest asks for one device of an entry for several.
type TargetRequest struct {
	IMSI     string
	SIMID    string
	Port     int
	Duration *time.Duration // nil: as long as the entry
	Ranges   []string       // empty: the entry's
}

// EntryQuery selects entries of one operator that have not expired, in the order
// of their IDs.
type EntryQuery struct {
	OperatorID OperatorID
	IMSI       ident.IMSI // only those made by this IMSI; empty: any
	SIMID      string     // only those made by this SIM ID; empty: any
	After      EntryID    // only those after this one; empty: from the first
	Limit      int        // at most this many; 0: all
}
