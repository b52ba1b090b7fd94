package spec

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/simreach/simreach/internal/ident"
)

// Reserved is the prefix the backends take their own addresses from (RFC 2544's
// benchmarking range); UE pools may not touch it.
var Reserved = netip.MustParsePrefix("198.18.0.0/15")

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

func (s *Spec) fillDefaults() {
	if s.Timeout == 0 {
		s.Timeout = DefaultTimeout
	}
	if s.PLMN == "" {
		s.PLMN = "001-01"
	}
	if s.Boundary == "" {
		s.Boundary = OuterToUE
	}
	if s.Policy == "" {
		s.Policy = "random"
	}
	if len(s.Slices) == 0 {
		s.Slices = []string{"1"}
	}
	if len(s.DNNs) == 0 {
		s.DNNs = []DNN{{Name: "internet"}}
	}
	for i := range s.DNNs {
		if s.DNNs[i].MTU == 0 {
			s.DNNs[i].MTU = DefaultMTU
		}
	}
	if len(s.Security.Integrity) == 0 {
		s.Security.Integrity = []uint8{2, 1, 3}
	}
	if len(s.Security.Ciphering) == 0 {
		s.Security.Ciphering = []uint8{2, 1, 3, 0}
	}
	for i := range s.UPFs {
		for j := range s.UPFs[i].Pools {
			if s.UPFs[i].Pools[j].DNN == "" {
				s.UPFs[i].Pools[j].DNN = s.DNNs[0].Name
			}
		}
	}
	for i := range s.OuterRelays {
		if s.OuterRelays[i].Ports == "" {
			s.OuterRelays[i].Ports = DefaultPorts
		}
	}
	for i := range s.GNBs {
		if s.GNBs[i].TAC == 0 {
			s.GNBs[i].TAC = 1
		}
	}
	for i := range s.UEs {
		u := &s.UEs[i]
		if u.Key == "" {
			u.Key = DefaultKey
		}
		if u.OPc == "" {
			u.OPc = DefaultOPc
		}
		if u.SUCI == "" {
			u.SUCI = "null"
		}
		if u.USIMKey == "" {
			u.USIMKey = u.Key
		}
		if len(u.GNBs) == 0 {
			for _, g := range s.GNBs {
				u.GNBs = append(u.GNBs, g.Name)
			}
		}
		if len(u.Sessions) == 0 {
			u.Sessions = []Session{{}}
		}
		for j := range u.Sessions {
			x := &u.Sessions[j]
			if x.DNN == "" {
				x.DNN = s.DNNs[0].Name
			}
			if x.Slice == "" {
				x.Slice = s.Slices[0]
			}
			if x.AMBR == 0 {
				x.AMBR = DefaultAMBR
			}
		}
	}
}

// validate checks what the YAML types cannot say and expands UEs into Devices.
func (s *Spec) validate() error {
	if !nameForm.MatchString(s.Name) {
		return s.at("$.name", "lower-case letters, digits and hyphens, at most 31, starting with a letter", "name %q is not usable", s.Name)
	}
	if b := s.Needs.Backend; b != "" && b != "netns" && b != "inproc" {
		return s.at("$.needs.backend", "netns, inproc, or leave it out", "unknown backend %q", b)
	}
	if s.Timeout < 0 {
		return s.at("$.timeout", "a duration such as 2m", "timeout is negative")
	}
	for _, check := range []func() error{s.checkNetwork, s.checkPeers, s.checkUPFs, s.checkRelays, s.checkGNBs, s.checkUEs, s.checkExternal} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) checkNetwork() error {
	if _, err := ident.ParsePLMN(s.PLMN); err != nil {
		return s.at("$.plmn", `write "001-01"`, "%v", err)
	}
	if !slices.Contains(Boundaries(), s.Boundary) {
		return s.at("$.boundary", "outer-to-ue, outer-to-inner, relays or relay-and-manager", "unknown boundary %q", s.Boundary)
	}
	if !slices.Contains(Policies(), s.Policy) {
		return s.at("$.policy", strings.Join(Policies(), ", "), "unknown policy %q", s.Policy)
	}
	for i, t := range s.Slices {
		if _, err := ident.ParseSNSSAI(t); err != nil {
			return s.at(fmt.Sprintf("$.slices[%d]", i), `write "1" or "1-010203"`, "%v", err)
		}
	}
	for i, d := range s.DNNs {
		at := fmt.Sprintf("$.dnns[%d]", i)
		if !nameForm.MatchString(d.Name) {
			return s.at(at+".name", "lower-case letters, digits and hyphens", "DNN name %q is not usable", d.Name)
		}
		if slices.ContainsFunc(s.DNNs[:i], func(o DNN) bool { return o.Name == d.Name }) {
			return s.at(at+".name", "list each DNN once", "DNN %s is there twice", d.Name)
		}
		if d.MTU < 576 || d.MTU > 9000 {
			return s.at(at+".mtu", "576 to 9000", "MTU %d of DNN %s", d.MTU, d.Name)
		}
		for j, a := range d.DNS {
			if _, err := netip.ParseAddr(a); err != nil {
				return s.at(fmt.Sprintf("%s.dns[%d]", at, j), "an IP address", "%q is not an address", a)
			}
		}
	}
	for i, a := range s.Security.Integrity {
		if a < 1 || a > 3 {
			return s.at(fmt.Sprintf("$.security.integrity[%d]", i), "1, 2 or 3; NIA0 is for emergency calls only", "NIA%d cannot be chosen", a)
		}
	}
	for i, a := range s.Security.Ciphering {
		if a > 3 {
			return s.at(fmt.Sprintf("$.security.ciphering[%d]", i), "0 to 3", "NEA%d does not exist", a)
		}
	}
	return nil
}

// fixedNodes are the nodes that every scenario has.
var fixedNodes = []string{"amf", "smf", "udm", "manager", "ue", "host"}

// peers returns the names that UEs cannot have.
func (s *Spec) peers() map[string]bool {
	taken := map[string]bool{}
	for _, list := range [][]string{
		fixedNodes,
		names(s.UPFs, func(u UPF) string { return u.Name }),
		names(s.InnerRelays, func(r InnerRelay) string { return r.Name }),
		names(s.OuterRelays, func(r OuterRelay) string { return r.Name }),
		names(s.GNBs, func(g GNB) string { return g.Name }),
		names(s.Clients, func(c Client) string { return c.Name }),
	} {
		for _, n := range list {
			taken[n] = true
		}
	}
	return taken
}

// HasNode reports whether a node, UEs included, has the name.
func (s *Spec) HasNode(name string) bool {
	return name != "host" && s.peers()[name] || slices.ContainsFunc(s.Devices, func(d Device) bool { return d.Name == name })
}

// HasProcess reports whether a node has a process of its own: clients are where programs
// run, and all UEs are in the process "ue".
func (s *Spec) HasProcess(name string) bool {
	return name != "host" && s.peers()[name] && !slices.ContainsFunc(s.Clients, func(c Client) bool { return c.Name == name })
}

// checkPeers checks names: one name, one node.
func (s *Spec) checkPeers() error {
	seen := map[string]string{}
	for _, n := range fixedNodes {
		seen[n] = "every scenario"
	}
	take := func(kind string, names []string) error {
		if len(names) > MaxPeers {
			return s.at("$."+kind, fmt.Sprintf("at most %d", MaxPeers), "%d entries in %s", len(names), kind)
		}
		for i, n := range names {
			at := fmt.Sprintf("$.%s[%d].name", kind, i)
			if !nameForm.MatchString(n) {
				return s.at(at, "lower-case letters, digits and hyphens, starting with a letter", "name %q is not usable", n)
			}
			if where, taken := seen[n]; taken {
				return s.at(at, "choose another name", "name %q is already taken in %s", n, where)
			}
			seen[n] = kind
		}
		return nil
	}
	lists := []struct {
		kind  string
		names []string
	}{
		{"upfs", names(s.UPFs, func(u UPF) string { return u.Name })},
		{"inner_relays", names(s.InnerRelays, func(r InnerRelay) string { return r.Name })},
		{"outer_relays", names(s.OuterRelays, func(r OuterRelay) string { return r.Name })},
		{"gnbs", names(s.GNBs, func(g GNB) string { return g.Name })},
		{"clients", names(s.Clients, func(c Client) string { return c.Name })},
	}
	for _, l := range lists {
		if err := take(l.kind, l.names); err != nil {
			return err
		}
	}
	return nil
}

func names[T any](list []T, name func(T) string) []string {
	var out []string
	for _, v := range list {
		out = append(out, name(v))
	}
	return out
}

func (s *Spec) hasDNN(name string) bool {
	return slices.ContainsFunc(s.DNNs, func(d DNN) bool { return d.Name == name })
}

func (s *Spec) checkUPFs() error {
	if len(s.UPFs) == 0 {
		return s.at("$.upfs", "add 'upfs: [{name: upf1, pools: [{cidr: 10.45.0.0/16}]}]'", "no UPF")
	}
	for i, u := range s.UPFs {
		at := fmt.Sprintf("$.upfs[%d]", i)
		if len(u.Pools) == 0 {
			return s.at(at, "add 'pools: [{cidr: 10.45.0.0/16}]'", "UPF %s has no pool", u.Name)
		}
		for j, t := range u.TACs {
			if t > 0xffffff {
				return s.at(fmt.Sprintf("%s.tacs[%d]", at, j), "0 to 16777215", "TAC %d has more than 24 bits", t)
			}
		}
		for j, p := range u.Pools {
			at := fmt.Sprintf("%s.pools[%d]", at, j)
			if !s.hasDNN(p.DNN) {
				return s.at(at+".dnn", "name one of the dnns", "unknown DNN %q", p.DNN)
			}
			x, err := netip.ParsePrefix(p.CIDR)
			if err != nil || x.Bits() > x.Addr().BitLen()-2 {
				return s.at(at+".cidr", "a prefix of at least four addresses, such as 10.45.0.0/16", "pool %q is not usable", p.CIDR)
			}
			if !x.Addr().Is4() {
				return s.at(at+".cidr", "an IPv4 prefix", "pool %q: IPv6 pools are not offered yet", p.CIDR)
			}
			if x.Bits() < 8 {
				return s.at(at+".cidr", "a prefix of 8 bits or more, such as 10.0.0.0/8", "pool %s is too large", p.CIDR)
			}
			if x.Overlaps(Reserved) {
				return s.at(at+".cidr", "another prefix", "pool %s overlaps %s, which the testbed keeps for itself", p.CIDR, Reserved)
			}
			for k := range j {
				if u.Pools[k].Prefix().Overlaps(x) {
					return s.at(at+".cidr", "disjoint pools within one UPF (different UPFs may overlap)", "pool %s overlaps %s of the same UPF", p.CIDR, u.Pools[k].CIDR)
				}
			}
		}
	}
	return nil
}

// maxOutside bounds the inner relays that have a place on the public network.
const maxOutside = 30

func (s *Spec) checkRelays() error {
	behind := map[string]string{}
	for i, r := range s.InnerRelays {
		at := fmt.Sprintf("$.inner_relays[%d]", i)
		if len(r.UPFs) == 0 {
			return s.at(at, "add 'upfs: [upf1]'", "inner relay %s has no UPF", r.Name)
		}
		var pools []netip.Prefix
		for j, n := range r.UPFs {
			at := fmt.Sprintf("%s.upfs[%d]", at, j)
			k := slices.IndexFunc(s.UPFs, func(u UPF) bool { return u.Name == n })
			if k < 0 {
				return s.at(at, "name one of the upfs", "unknown UPF %q", n)
			}
			if other, taken := behind[n]; taken {
				return s.at(at, "one inner relay per UPF", "UPF %s already has inner relay %s", n, other)
			}
			behind[n] = r.Name
			for _, p := range s.UPFs[k].Pools {
				for _, q := range pools {
					if q.Overlaps(p.Prefix()) {
						return s.at(at, "give the UPF an inner relay of its own", "inner relay %s would stand behind overlapping pools %s and %s", r.Name, q, p.CIDR)
					}
				}
				pools = append(pools, p.Prefix())
			}
		}
	}
	for i, r := range s.OuterRelays {
		at := fmt.Sprintf("$.outer_relays[%d]", i)
		if _, _, err := r.PortRange(); err != nil {
			return s.at(at+".ports", "FIRST-LAST within 1024-65535", "%v", err)
		}
		if r.Rate < 0 {
			return s.at(at+".rate", "connections in a second, at least 1", "rate %d is negative", r.Rate)
		}
		if r.Idle < 0 {
			return s.at(at+".idle", "a duration such as 30s", "idle is negative")
		}
	}
	if s.Boundary != OuterToUE && len(s.InnerRelays) > maxOutside {
		return s.at("$.inner_relays", fmt.Sprintf("at most %d", maxOutside), "%d inner relays outside the closed network", len(s.InnerRelays))
	}
	return nil
}

// PortRange returns the relay's first and last port.
func (r OuterRelay) PortRange() (first, last uint16, err error) {
	a, b, ok := strings.Cut(r.Ports, "-")
	x, err1 := strconv.ParseUint(a, 10, 16)
	y, err2 := strconv.ParseUint(b, 10, 16)
	if !ok || err1 != nil || err2 != nil || x < 1024 || y < x {
		return 0, 0, fmt.Errorf("port range %q is not usable", r.Ports)
	}
	return uint16(x), uint16(y), nil
}

func (s *Spec) checkGNBs() error {
	if len(s.GNBs) == 0 {
		return s.at("$.gnbs", "add 'gnbs: [{name: gnb1}]'", "no gNB")
	}
	for i, g := range s.GNBs {
		at := fmt.Sprintf("$.gnbs[%d]", i)
		if g.TAC > 0xffffff {
			return s.at(at+".tac", "0 to 16777215", "TAC %d has more than 24 bits", g.TAC)
		}
		if !(g.Air.Loss >= 0 && g.Air.Loss <= 1) { // not a number is neither
			return s.at(at+".air.loss", "0 to 1", "loss %v of gNB %s", g.Air.Loss, g.Name)
		}
		if g.Air.Delay < 0 || g.Air.Jitter < 0 {
			return s.at(at+".air", "zero or a positive duration", "negative delay of gNB %s", g.Name)
		}
	}
	return nil
}

func (s *Spec) checkUEs() error {
	byName, byIMSI, bySIM := s.peers(), map[ident.IMSI]string{}, map[string]string{}
	for i, u := range s.UEs {
		at := fmt.Sprintf("$.ues[%d]", i)
		if !nameForm.MatchString(u.Name) {
			return s.at(at+".name", "lower-case letters, digits and hyphens, starting with a letter", "name %q is not usable", u.Name)
		}
		if err := s.checkUE(at, u); err != nil {
			return err
		}
		for n := range max(1, u.Count) {
			d, err := u.device(n, len(s.Devices))
			if err != nil {
				return s.at(at+".imsi", "15 digits, with room to count up", "UE %s: %v", u.Name, err)
			}
			if byName[d.Name] {
				return s.at(at+".name", "choose another name", "UE name %q is taken", d.Name)
			}
			if other, taken := byIMSI[d.IMSI]; taken {
				return s.at(at+".imsi", "give each UE an IMSI of its own", "IMSI %s is already %s's", d.IMSI, other)
			}
			if home := s.Network(); !strings.HasPrefix(string(d.IMSI), home.MCC+home.MNC) {
				return s.at(at+".imsi", "an IMSI of the scenario's PLMN, beginning with "+home.MCC+home.MNC, "IMSI %s is of another network", d.IMSI)
			}
			if other, taken := bySIM[d.SIMID]; taken {
				return s.at(at+".sim_id", "give each UE a SIM of its own", "SIM %s is already %s's", d.SIMID, other)
			}
			byName[d.Name], byIMSI[d.IMSI], bySIM[d.SIMID] = true, d.Name, d.Name
			s.Devices = append(s.Devices, d)
			if len(s.Devices) > MaxDevices {
				return s.at(at, fmt.Sprintf("at most %d UEs", MaxDevices), "too many UEs")
			}
		}
	}
	return nil
}

func (s *Spec) checkUE(at string, u UE) error {
	if u.Count < 0 {
		return s.at(at+".count", "1 or more", "count of UE %s is negative", u.Name)
	}
	if u.SUCI != "null" && u.SUCI != "A" && u.SUCI != "B" {
		return s.at(at+".suci", "null, A or B", "unknown SUCI protection scheme %q", u.SUCI)
	}
	for _, k := range []struct{ field, value string }{{"key", u.Key}, {"opc", u.OPc}, {"usim_key", u.USIMKey}} {
		if b, err := hex.DecodeString(k.value); err != nil || len(b) != 16 {
			return s.at(at+"."+k.field, "32 hexadecimal digits", "%s of UE %s is not a 128-bit key", k.field, u.Name)
		}
	}
	for j, g := range u.GNBs {
		if !slices.ContainsFunc(s.GNBs, func(x GNB) bool { return x.Name == g }) {
			return s.at(fmt.Sprintf("%s.gnbs[%d]", at, j), "name one of the gnbs", "unknown gNB %q", g)
		}
	}
	if len(u.Sessions) > 15 {
		return s.at(at+".sessions", "at most 15", "%d sessions", len(u.Sessions))
	}
	for j, x := range u.Sessions {
		at := fmt.Sprintf("%s.sessions[%d]", at, j)
		if !s.hasDNN(x.DNN) {
			return s.at(at+".dnn", "name one of the dnns", "unknown DNN %q", x.DNN)
		}
		if !slices.Contains(s.Slices, x.Slice) {
			return s.at(at+".slice", "name one of the slices", "unknown slice %q", x.Slice)
		}
		for _, o := range u.Sessions[:j] {
			if o.DNN == x.DNN && o.Slice == x.Slice {
				return s.at(at, "another DNN or slice for each", "two sessions of UE %s on DNN %s, slice %s", u.Name, x.DNN, x.Slice)
			}
		}
		if x.Address != "" {
			if a, err := netip.ParseAddr(x.Address); err != nil || !a.Is4() {
				return s.at(at+".address", "an address such as 10.45.0.7", "%q is not an IPv4 address", x.Address)
			}
			if u.Count > 1 {
				return s.at(at+".address", "list the UEs one by one", "one static address for %d UEs", u.Count)
			}
		}
	}
	for j, v := range u.Services {
		at := fmt.Sprintf("%s.services[%d]", at, j)
		if v.Kind != "http" && v.Kind != "echo" && v.Kind != "sink" {
			return s.at(at+".kind", "http, echo or sink", "unknown service %q", v.Kind)
		}
		if v.Port == 0 {
			return s.at(at+".port", "1 to 65535", "service %s without a port", v.Kind)
		}
		if slices.ContainsFunc(u.Services[:j], func(o Service) bool { return o.Port == v.Port }) {
			return s.at(at+".port", "a port for each service", "two services of UE %s on port %d", u.Name, v.Port)
		}
	}
	return nil
}

// device makes the n-th of a UE's Count.
func (u UE) device(n, index int) (Device, error) {
	imsi, err := ident.ParseIMSI(u.IMSI)
	if err != nil {
		return Device{}, err
	}
	d := Device{UE: u, IMSI: imsi, Index: index}
	if u.Count > 1 {
		v, _ := strconv.ParseUint(string(imsi), 10, 64) // digits, at most 15
		text := fmt.Sprintf("%0*d", len(imsi), v+uint64(n))
		if len(text) != len(imsi) {
			return Device{}, fmt.Errorf("IMSI %s cannot count up to %d", imsi, u.Count)
		}
		d.IMSI = ident.IMSI(text)
		d.Name = fmt.Sprintf("%s-%d", u.Name, n+1)
	}
	if d.SIMID == "" || u.Count > 1 {
		d.SIMID = "8988" + string(d.IMSI)
	}
	return d, nil
}

func (s *Spec) checkExternal() error {
	for i, e := range s.External {
		at := fmt.Sprintf("$.external[%d]", i)
		if !slices.Contains([]string{"n2", "n3", "n4", "n6", "public"}, e.Network) {
			return s.at(at+".network", "n2, n3, n4, n6 or public", "unknown network %q", e.Network)
		}
		if e.Interface == "" {
			return s.at(at+".interface", "add 'interface: br0'", "no interface to join")
		}
		known := slices.ContainsFunc(s.UPFs, func(u UPF) bool { return u.Name == e.UPF })
		if (e.Network == "n6") != known {
			return s.at(at+".upf", "name the UPF for n6, and only there", "upf %q with network %s", e.UPF, e.Network)
		}
	}
	return nil
}
