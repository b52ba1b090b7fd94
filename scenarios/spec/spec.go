// Package spec reads a scenario file: strict YAML in, a validated and inert Spec
// out. A Spec says what to build and which steps to run; it holds nothing that
// depends on the machine, and expanding it is deterministic. The package starts
// no goroutine and opens nothing but the file it is told to read.
package spec

import (
	"net/netip"
	"slices"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/strictyaml"
)

// Spec is one scenario.
type Spec struct {
	File        string   `yaml:"-"`           // where it was read from
	Name        string   `yaml:"name"`        // letters, digits and hyphens; required
	Description string   `yaml:"description"` // one or more sentences
	Covers      []string `yaml:"covers"`      // conformance rows that a passing run shows: R6, N4, ...
	Needs       Needs    `yaml:"needs"`
	Timeout     Duration `yaml:"timeout"` // for the whole run; 0 means 2 minutes

	PLMN     string   `yaml:"plmn"`   // "MCC-MNC"; empty means 001-01
	Slices   []string `yaml:"slices"` // "SST" or "SST-SD"; empty means one slice, "1"
	DNNs     []DNN    `yaml:"dnns"`   // empty means one, "internet"
	Security Security `yaml:"security"`

	Boundary Boundary `yaml:"boundary"` // what the closed network is; empty means outer-to-ue
	Policy   string   `yaml:"policy"`   // how the manager chooses outer relays (R5); empty means random

	UPFs        []UPF        `yaml:"upfs"`         // at least one
	InnerRelays []InnerRelay `yaml:"inner_relays"` // each UPF belongs to at most one
	OuterRelays []OuterRelay `yaml:"outer_relays"`
	GNBs        []GNB        `yaml:"gnbs"` // at least one
	UEs         []UE         `yaml:"ues"`
	Clients     []Client     `yaml:"clients"`
	External    []External   `yaml:"external"`

	Steps []Step `yaml:"-"` // filled from the document's "steps"

	// Devices are UEs with their counts expanded, in file order.
	Devices []Device `yaml:"-"`

	file *ast.File
}

// Needs is what a scenario asks of the machine and the backend.
type Needs struct {
	Backend  string   `yaml:"backend"`  // "netns" or "inproc" when only that one can run it; empty means either
	Programs []string `yaml:"programs"` // programs looked up on PATH: curl, sshd, ...
}

// DNN is a data network.
type DNN struct {
	Name string   `yaml:"name"`
	MTU  uint16   `yaml:"mtu"` // bytes; 0 means 1400
	DNS  []string `yaml:"dns"`
}

// Security is the AMF's preference, most preferred first (TS 33.501 clause 5.5).
type Security struct {
	Integrity []uint8 `yaml:"integrity"` // NIA numbers 1..3; empty means 2, 1, 3
	Ciphering []uint8 `yaml:"ciphering"` // NEA numbers 0..3; empty means 2, 1, 3, 0
}

// UPF is one user plane function.
type UPF struct {
	Name   string   `yaml:"name"`
	Pools  []Pool   `yaml:"pools"`
	Groups []string `yaml:"groups"` // UE groups it serves; empty means all
	TACs   []uint32 `yaml:"tacs"`   // tracking areas it serves; empty means all
}

// Pool is the UE addresses of a UPF for a DNN.
type Pool struct {
	DNN  string `yaml:"dnn"` // empty means the first DNN
	CIDR string `yaml:"cidr"`
}

// InnerRelay stands on the N6 side of its UPFs.
type InnerRelay struct {
	Name string   `yaml:"name"`
	UPFs []string `yaml:"upfs"`
}

// Boundary says what stands inside the closed network (R21). What crosses its edge goes
// over the public network, with TLS.
type Boundary string

// Boundaries.
const (
	OuterToUE       Boundary = "outer-to-ue"       // all from the outer relays to the UEs, and the manager
	OuterToInner    Boundary = "outer-to-inner"    // the relays and the network between them; the manager is outside
	RelaysAlone     Boundary = "relays"            // each relay for itself; their hop and the manager are outside
	InnerAndManager Boundary = "relay-and-manager" // the inner relays and the manager; the outer relays are outside
)

// Boundaries lists the four, the default first.
func Boundaries() []Boundary {
	return []Boundary{OuterToUE, OuterToInner, RelaysAlone, InnerAndManager}
}

// Policies lists how the manager can choose an outer relay.
func Policies() []string {
	return []string{"random", "region", "operator", "least-clients", "least-traffic"}
}

// OuterRelay is a public relay.
type OuterRelay struct {
	Name  string `yaml:"name"`
	Ports string `yaml:"ports"` // "FIRST-LAST"; empty means 40000-65000
	// Region is where it stands, and the clients that name the same; for the policies
	// region and operator.
	Region string `yaml:"region"`
	// Rate is how many connections in a second one entry may take, at one time and in
	// the long run; 0 means the relay's default.
	Rate int `yaml:"rate"`
	// Idle ends a connection that carries nothing for so long; 0 means the relay's
	// default.
	Idle Duration `yaml:"idle"`
}

// GNB is one simulated base station.
type GNB struct {
	Name string `yaml:"name"`
	TAC  uint32 `yaml:"tac"` // 0 means 1
	Air  Air    `yaml:"air"`
}

// Air is the impairment of a gNB's simulated radio, each way.
type Air struct {
	Delay  Duration `yaml:"delay"`
	Jitter Duration `yaml:"jitter"`
	Loss   float64  `yaml:"loss"` // 0..1
	Rate   uint64   `yaml:"rate"` // bit/s; 0 means unlimited
}

// UE describes one device, or Count alike.
type UE struct {
	Name     string    `yaml:"name"`
	Count    int       `yaml:"count"` // 0 or 1: one UE called Name; more: Name-1, Name-2, ... with consecutive IMSIs
	IMSI     string    `yaml:"imsi"`
	SIMID    string    `yaml:"sim_id"` // empty: derived from the IMSI
	Key      string    `yaml:"key"`    // 32 hexadecimal digits; empty means the test key of TS 35.208 set 1
	OPc      string    `yaml:"opc"`
	USIMKey  string    `yaml:"usim_key"` // what the USIM holds, when it differs from the network's key
	SUCI     string    `yaml:"suci"`     // how the SUPI is concealed: "null", "A" or "B" (ECIES profiles); empty means null
	Unknown  bool      `yaml:"unknown"`  // true: the network has no subscription for it
	GNBs     []string  `yaml:"gnbs"`     // in order of preference; empty means all
	Group    string    `yaml:"group"`    // UE group, for UPF selection
	Sessions []Session `yaml:"sessions"` // empty means one session on the first DNN
	Services []Service `yaml:"services"`
}

// Session is a PDU session the UE establishes at registration.
type Session struct {
	DNN     string `yaml:"dnn"`     // empty means the first
	Slice   string `yaml:"slice"`   // empty means the first
	Address string `yaml:"address"` // a static address of the subscription; only for a single UE
	// AMBR is the session AMBR in bit/s, each way; 0 means 1 Gbit/s.
	AMBR uint64 `yaml:"ambr"`
}

// Service is a small server on the device, on each of its addresses.
type Service struct {
	Kind string `yaml:"kind"` // "http" answers every request with the device's IMSI; "echo" returns bytes; "sink" counts bytes and answers with the count after the client's FIN
	Port uint16 `yaml:"port"`
}

// Client is a host outside the core.
type Client struct {
	Name   string `yaml:"name"`
	Region string `yaml:"region"` // where it is, for the policies region and operator
}

// External joins a network of the topology to an interface or bridge that the
// host already has, so that somebody else's gNB, core or client can take part.
type External struct {
	Network   string `yaml:"network"`   // n2, n3, n4, n6 or public
	UPF       string `yaml:"upf"`       // for n6: whose
	Interface string `yaml:"interface"` // an existing bridge (a port is added to it) or other interface (a macvlan is put on it)
}

// Step is one step, still undecoded: package steps knows the verbs.
type Step struct {
	Verb    string
	Name    string        // empty: made from the verb
	Timeout time.Duration // 0 means 30 s
	Line    int
	Column  int
	node    ast.Node
	file    string
}

// Device is one UE after expansion.
type Device struct {
	UE
	IMSI  ident.IMSI
	Index int // position among all devices, from 0
}

// Defaults that a zero field stands for.
const (
	DefaultTimeout     = Duration(2 * time.Minute)
	DefaultStepTimeout = 30 * time.Second
	DefaultPorts       = "40000-65000"
	DefaultKey         = "465b5ce8b199b49faa5f0a2ee238a6bc"
	DefaultOPc         = "cd63cb71954a9f4e48a5994e37a02baf"
	DefaultMTU         = 1400
	DefaultAMBR        = 1_000_000_000
)

// Limits of one scenario.
const (
	MaxDevices = 100_000
	MaxPeers   = 100 // of each of UPFs, gNBs, relays and clients
)

// Error says what is wrong in a scenario file, where, and what to write instead.
type Error = strictyaml.Error

// Network returns the scenario's PLMN.
func (s *Spec) Network() ident.PLMN {
	p, _ := ident.ParsePLMN(s.PLMN) // checked by Load
	return p
}

// SNSSAIs returns the scenario's slices.
func (s *Spec) SNSSAIs() []ident.SNSSAI {
	var out []ident.SNSSAI
	for _, t := range s.Slices {
		n, _ := ident.ParseSNSSAI(t) // checked by Load
		out = append(out, n)
	}
	return out
}

// Captures reports whether a step looks at what crosses the networks.
func (s *Spec) Captures() bool {
	return slices.ContainsFunc(s.Steps, func(st Step) bool { return st.Verb == "capture" })
}

// InnerOf returns the inner relay that stands behind a UPF.
func (s *Spec) InnerOf(upf string) (InnerRelay, bool) {
	for _, r := range s.InnerRelays {
		for _, u := range r.UPFs {
			if u == upf {
				return r, true
			}
		}
	}
	return InnerRelay{}, false
}

// Prefix returns the pool's prefix.
func (p Pool) Prefix() netip.Prefix {
	x, _ := netip.ParsePrefix(p.CIDR) // checked by Load
	return x.Masked()
}
