package smf

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

// Config describes an SMF. It is plain data; New copies what it needs.
type Config struct {
	// NFID is the NF instance ID. Required.
	NFID sbi.NFID `yaml:"nf_id"`
	// Node is the node ID on N4: an IP address or an FQDN. Empty means the
	// address of N4.
	Node string `yaml:"node_id"`
	// N4 is the local PFCP address; its port is usually 8805. Who opens the
	// socket uses it; the SMF itself only takes the address of its F-SEIDs from
	// it when the socket is bound to an unspecified address.
	N4 netip.AddrPort `yaml:"n4"`
	// UPFs are the user plane functions to associate with.
	UPFs []UPF `yaml:"upfs"`
	// DNNs are the data networks known to the SMF. A DNN that is not listed is
	// unknown, whatever a UPF offers.
	DNNs []DNN `yaml:"dnns"`
	// Timers holds protocol timers; the zero value is fit for use.
	Timers Timers `yaml:"timers"`
	// Usage says how UPFs report traffic; the zero value asks for a final
	// report only.
	Usage Usage `yaml:"usage"`
	// EventQueue is how many undelivered events a subscriber of the session
	// directory may have before it is brought up to date in one go instead; 0
	// means 1024.
	EventQueue int `yaml:"event_queue"`
	// RestoreWindow is how many sessions are re-established at a time on a UPF
	// that came back; 0 means 64.
	RestoreWindow int `yaml:"restore_window"`
}

// UPF is one user plane function.
type UPF struct {
	// Name names the UPF in events, status and logs. Required, unique.
	Name string `yaml:"name"`
	// N4 is the UPF's PFCP address. Required, unique.
	N4 netip.AddrPort `yaml:"n4"`
	// N3 is the UPF's N3 address, for a UPF that does not allocate F-TEIDs: the
	// SMF then chooses TEIDs on that address. Zero lets the UPF choose (CH).
	N3 netip.Addr `yaml:"n3"`
	// DNNs are the data networks that the UPF reaches. Required.
	DNNs []UPFDNN `yaml:"dnns"`
	// Groups are the UE groups served; empty means all UEs. A UPF that lists a
	// UE's group is preferred over one that serves all.
	Groups []string `yaml:"groups"`
	// TACs are the tracking areas served; empty means all.
	TACs []ident.TAC `yaml:"tacs"`
	// Priority orders UPFs that could serve a session: lower first. UPFs of
	// equal priority share the load.
	Priority int `yaml:"priority"`
}

// UPFDNN is a data network at a UPF.
type UPFDNN struct {
	DNN ident.DNN `yaml:"dnn"`
	// SNSSAIs are the slices in which the UPF offers the DNN; empty means all.
	SNSSAIs []ident.SNSSAI `yaml:"snssais"`
	// Pools are the UE address pools. Pools of different UPFs may overlap, pools
	// of one UPF and DNN may not. The first two addresses of a pool (network,
	// and gateway on N6) and the last one are not given out, except in pools of
	// /30 and longer, which are given out whole.
	Pools []netip.Prefix `yaml:"pools"`
	// Reserved are ranges, inside or outside the pools, from which addresses are
	// given as static ones only (subscription data names the address).
	Reserved []netip.Prefix `yaml:"reserved"`
	// NetworkInstance is what the UPF calls the DNN; empty means the DNN.
	NetworkInstance string `yaml:"network_instance"`
}

// DNN is what the SMF tells UEs of a data network.
type DNN struct {
	Name ident.DNN    `yaml:"name"`
	DNS  []netip.Addr `yaml:"dns"` // sent to UEs that ask
	MTU  uint16       `yaml:"mtu"` // IPv4 link MTU sent to UEs that ask; 0 means 1400
	// SNSSAIs are the slices in which the DNN exists; empty means all.
	SNSSAIs []ident.SNSSAI `yaml:"snssais"`
}

// Timers are the SMF's timers. Zero takes the value named.
type Timers struct {
	// T3591 (modification) and T3592 (release) retransmit a 5GSM command; 0 means
	// 16 s (TS 24.501 table 10.3.2). After four retransmissions the procedure is
	// given up (clauses 6.3.2.5 and 6.3.3.5).
	T3591 time.Duration `yaml:"t3591"`
	T3592 time.Duration `yaml:"t3592"`
	// N2 is how long the SMF waits for the gNB's answer to a resource setup; 0
	// means 10 s.
	N2 time.Duration `yaml:"n2"`
	// T1 and N1 are the PFCP retransmission timer and the number of times that a
	// request is sent in all (TS 29.244 clause 6.4); 0 means 500 ms and 3.
	T1 time.Duration `yaml:"t1"`
	N1 int           `yaml:"n1"`
	// Heartbeat is the time between PFCP heartbeats; 0 means 1 s. A dead UPF is
	// noticed after at most Heartbeat + T1*N1.
	Heartbeat time.Duration `yaml:"heartbeat"`
	// Retry is the pause between attempts at an association; 0 means 500 ms.
	Retry time.Duration `yaml:"retry"`
	// SBI bounds each call to the UDM and the AMF; 0 means 5 s.
	SBI time.Duration `yaml:"sbi"`
}

// Usage is what the usage reporting rule of every session asks for.
type Usage struct {
	// Period between reports, in whole seconds; 0 means no periodic reports.
	Period time.Duration `yaml:"period"`
	// Threshold in octets, both directions together; 0 means none.
	Threshold uint64 `yaml:"threshold"`
	// Keep is how long after the end of a session its last report is offered to a CHF
	// that does not answer; 0 means 10 minutes.
	Keep time.Duration `yaml:"keep"`
}

// maxRetransmissions of a 5GSM command (TS 24.501 clauses 6.3.2.5 and 6.3.3.5).
const maxRetransmissions = 4

func (t Timers) withDefaults() Timers {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&t.T3591, 16*time.Second)
	def(&t.T3592, 16*time.Second)
	def(&t.N2, 10*time.Second)
	def(&t.T1, 500*time.Millisecond)
	def(&t.Heartbeat, time.Second)
	def(&t.Retry, 500*time.Millisecond)
	def(&t.SBI, 5*time.Second)
	if t.N1 == 0 {
		t.N1 = 3
	}
	return t
}

func (c Config) withDefaults() Config {
	c.Timers = c.Timers.withDefaults()
	if c.EventQueue == 0 {
		c.EventQueue = 1024
	}
	if c.Usage.Keep == 0 {
		c.Usage.Keep = 10 * time.Minute
	}
	if c.RestoreWindow == 0 {
		c.RestoreWindow = 64
	}
	return c
}

// Validate reports every fault of c, each with the field and what to do about it.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("smf: "+format, args...)) }

	if c.NFID == "" {
		bad("nf_id is empty: give the NF instance ID, a UUID")
	}
	if c.EventQueue < 0 {
		bad("event_queue is %d: use 0 for the default or a positive number", c.EventQueue)
	}
	if c.RestoreWindow < 0 {
		bad("restore_window is %d: use 0 for the default or a positive number", c.RestoreWindow)
	}
	for name, d := range map[string]time.Duration{
		"t3591": c.Timers.T3591, "t3592": c.Timers.T3592, "n2": c.Timers.N2, "t1": c.Timers.T1,
		"heartbeat": c.Timers.Heartbeat, "retry": c.Timers.Retry, "sbi": c.Timers.SBI,
	} {
		if d < 0 {
			bad("timers.%s is %s: use 0 for the default or a positive duration", name, d)
		}
	}
	if c.Timers.N1 < 0 {
		bad("timers.n1 is %d: use 0 for the default or a positive number", c.Timers.N1)
	}
	if c.Usage.Period < 0 {
		bad("usage.period is %s: use 0 for none or a positive duration", c.Usage.Period)
	}

	if c.Usage.Keep < 0 {
		bad("usage.keep is %s: use 0 for the default or a positive duration", c.Usage.Keep)
	}
	known := map[ident.DNN]bool{}
	for i, d := range c.DNNs {
		if d.Name == "" {
			bad("dnns[%d].name is empty: give the DNN, such as internet", i)
		}
		if known[d.Name] {
			bad("dnns[%d].name %q is listed twice: merge the entries", i, d.Name)
		}
		known[d.Name] = true
	}
	names, peers := map[string]bool{}, map[netip.AddrPort]bool{}
	for i, u := range c.UPFs {
		at := fmt.Sprintf("upfs[%d]", i)
		if u.Name == "" || names[u.Name] {
			bad("%s.name %q is empty or used twice: give each UPF a name of its own", at, u.Name)
		}
		if !u.N4.IsValid() || u.N4.Port() == 0 || u.N4.Addr().IsUnspecified() || peers[u.N4] {
			bad("%s.n4 %q is not a peer of its own: give the UPF's PFCP address, such as 10.0.4.2:8805", at, u.N4)
		}
		names[u.Name], peers[u.N4] = true, true
		if len(u.DNNs) == 0 {
			bad("%s.dnns is empty: list the data networks the UPF reaches", at)
		}
		for j, d := range u.DNNs {
			errs = append(errs, d.validate(fmt.Sprintf("%s.dnns[%d]", at, j), known)...)
			if slices.ContainsFunc(u.DNNs[:j], func(o UPFDNN) bool { return o.DNN == d.DNN }) {
				bad("%s.dnns[%d].dnn %q is listed twice: merge the entries", at, j, d.DNN)
			}
		}
	}
	return errors.Join(errs...)
}

func (d UPFDNN) validate(at string, known map[ident.DNN]bool) []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("smf: "+at+format, args...)) }
	if !known[d.DNN] {
		bad(".dnn %q is not among dnns: add it there or correct the name", d.DNN)
	}
	if len(d.Pools)+len(d.Reserved) == 0 {
		bad(".pools is empty: give at least one prefix, such as 10.45.0.0/16")
	}
	for i, p := range d.Pools {
		switch {
		case !p.IsValid():
			bad(".pools[%d] is not a prefix: write it like 10.45.0.0/16", i)
		case !p.Addr().Is4():
			bad(".pools[%d] %s: IPv6 is not offered yet, use an IPv4 prefix", i, p)
		case p != p.Masked():
			bad(".pools[%d] %s has host bits set: use %s", i, p, p.Masked())
		case p.Bits() < 8:
			bad(".pools[%d] %s is larger than /8: split it", i, p)
		}
		for _, q := range d.Pools[:i] {
			if p.IsValid() && q.IsValid() && p.Overlaps(q) {
				bad(".pools[%d] %s overlaps %s: pools of one UPF and DNN must be apart", i, p, q)
			}
		}
	}
	for i, p := range d.Reserved {
		if !p.IsValid() || !p.Addr().Is4() {
			bad(".reserved[%d] is not an IPv4 prefix: write it like 10.45.255.0/24", i)
		}
	}
	return errs
}
