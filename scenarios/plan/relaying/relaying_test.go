package relaying_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/simreach/simreach/internal/node"
	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/scenarios/plan/relaying"
	"github.com/simreach/simreach/scenarios/spec"
)

const topology = `
name: x
upfs: [{name: upf1, pools: [{cidr: 10.45.0.0/16}]}, {name: upf2, pools: [{cidr: 10.45.0.0/16}]}]
inner_relays: [{name: inner1, upfs: [upf1]}, {name: inner2, upfs: [upf2]}]
outer_relays: [{name: outer1, region: east}, {name: outer2, region: west}]
gnbs: [{name: gnb1}]
clients: [{name: client1, region: west}, {name: client2}, {name: client3, region: west}]
policy: region
steps: [{register: {ue: ue1}}]
ues: [{name: ue1, imsi: "001010000000001"}]
`

// roles is what a Plan makes.
type roles struct {
	manager *node.Manager
	inners  map[string]*node.Inner
	outers  map[string]*node.Outer
}

func parse(t *testing.T, b spec.Boundary) *spec.Spec {
	t.Helper()
	s, err := spec.Parse("x.yaml", []byte(topology+"boundary: "+string(b)+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// planned returns the plan of a backend with separate networks.
func planned(t *testing.T, s *spec.Spec) relaying.Plan {
	t.Helper()
	secrets, err := plan.NewSecrets()
	if err != nil {
		t.Fatal(err)
	}
	return relaying.Plan{Spec: s, Secrets: secrets, Dir: "run", At: func(n, network string) netip.Addr {
		a := plan.On(s, n, network)
		if !a.IsValid() {
			t.Errorf("%s: %s has no address on %s", s.Boundary, n, network)
		}
		return a
	}}
}

func build(t *testing.T, p relaying.Plan) roles {
	t.Helper()
	out := roles{inners: map[string]*node.Inner{}, outers: map[string]*node.Outer{}}
	var err error
	if out.manager, err = p.Manager(); err != nil {
		t.Fatal(err)
	}
	for _, x := range p.Spec.InnerRelays {
		if out.inners[x.Name], err = p.Inner(x); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range p.Spec.OuterRelays {
		if out.outers[x.Name], err = p.Outer(x); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// leaf returns a role's certificate, which must be of the run's CA.
func leaf(t *testing.T, p relaying.Plan, c pki.Config, use x509.ExtKeyUsage) *x509.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(c.Cert), []byte(c.Key))
	if err != nil {
		t.Fatal(err)
	}
	x, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Verify(x509.VerifyOptions{Roots: p.Secrets.CA.Pool(), KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
		t.Errorf("%s: %v", x.Subject, err)
	}
	return x
}

func host(t *testing.T, at string) string {
	t.Helper()
	h, _, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestCertificatesNameTheirOwner: a relay can speak for itself only, and what one
// connects to proves the address that it is reached at.
func TestCertificatesNameTheirOwner(t *testing.T) {
	for _, b := range spec.Boundaries() {
		t.Run(string(b), func(t *testing.T) {
			p := planned(t, parse(t, b))
			r := build(t, p)
			manager := leaf(t, p, r.manager.RPC.TLS, x509.ExtKeyUsageServerAuth)
			serials := map[string]string{manager.SerialNumber.String(): "manager"}
			for kind, list := range map[string]map[string]pki.Config{
				"inner": {"inner1": r.inners["inner1"].Control.TLS, "inner2": r.inners["inner2"].Control.TLS},
				"outer": {"outer1": r.outers["outer1"].Control.TLS, "outer2": r.outers["outer2"].Control.TLS},
			} {
				for name, c := range list {
					x := leaf(t, p, c, x509.ExtKeyUsageClientAuth)
					if k, id, err := pki.ParseRelay(x); err != nil || k != kind || id != name {
						t.Errorf("the certificate of %s names %s %s, %v", name, k, id, err)
					}
					if other := serials[x.SerialNumber.String()]; other != "" {
						t.Errorf("%s and %s have one certificate", name, other)
					}
					serials[x.SerialNumber.String()] = name
				}
			}
			for name, c := range r.outers {
				if err := manager.VerifyHostname(host(t, c.Control.Manager)); err != nil {
					t.Errorf("%s does not accept the manager: %v", name, err)
				}
				front := leaf(t, p, c.TLS, x509.ExtKeyUsageServerAuth)
				if err := front.VerifyHostname("relay.invalid"); err == nil {
					t.Errorf("%s has a certificate for any name: %v", name, front.DNSNames)
				}
				if err := front.VerifyHostname(c.Relay.Address.String()); err != nil {
					t.Errorf("clients of %s: %v", name, err)
				}
				if c.TLS.CA != "" {
					t.Errorf("%s wants its clients to be of the run's CA", name)
				}
			}
			for name, c := range r.inners {
				if err := manager.VerifyHostname(host(t, c.Control.Manager)); err != nil {
					t.Errorf("%s does not accept the manager: %v", name, err)
				}
				_, outside := plan.HopNetwork(p.Spec)
				if (c.TLS.Cert != "") != outside {
					t.Errorf("%s: TLS on the hop is %v; the hop is outside: %v", name, c.TLS.Cert != "", outside)
				}
				if outside {
					if err := leaf(t, p, c.TLS, x509.ExtKeyUsageServerAuth).VerifyHostname(host(t, c.Relay.Listen)); err != nil {
						t.Errorf("outer relays do not accept %s: %v", name, err)
					}
				}
			}
		})
	}
}

// TestAddressesAreOfTheBoundary: what stands outside the closed network has no address
// inside it, and everybody is reached where both are.
func TestAddressesAreOfTheBoundary(t *testing.T) {
	type place struct{ hop, outer, inner string } // networks: between the relays, and of each to the manager
	for b, want := range map[spec.Boundary]place{
		spec.OuterToUE:       {hop: plan.Core, outer: plan.Core, inner: plan.Core},
		spec.OuterToInner:    {hop: plan.Core, outer: plan.Public, inner: plan.Public},
		spec.RelaysAlone:     {hop: plan.Public, outer: plan.Public, inner: plan.Public},
		spec.InnerAndManager: {hop: plan.Public, outer: plan.Public, inner: plan.Core},
	} {
		t.Run(string(b), func(t *testing.T) {
			s := parse(t, b)
			r := build(t, planned(t, s))
			on := func(n, network string, port uint16) string {
				return netip.AddrPortFrom(plan.On(s, n, network), port).String()
			}
			for name, c := range r.inners {
				if c.Relay.Listen != on(name, want.hop, plan.PortInner) || c.Control.Manager != on("manager", want.inner, plan.PortRPC) {
					t.Errorf("%s listens on %s and asks %s; want networks %s and %s", name, c.Relay.Listen, c.Control.Manager, want.hop, want.inner)
				}
			}
			for name, c := range r.outers {
				if c.Relay.Address != plan.On(s, name, plan.Public) || c.Control.Manager != on("manager", want.outer, plan.PortRPC) {
					t.Errorf("%s is at %s and asks %s; want network %s for that", name, c.Relay.Address, c.Control.Manager, want.outer)
				}
				if (c.InnerTLS.Cert != "") != (want.hop == plan.Public) {
					t.Errorf("%s: TLS on the hop is %v; the hop is on the network %s", name, c.InnerTLS.Cert != "", want.hop)
				}
			}
			inside := map[string]bool{
				"manager": want.outer == plan.Core || want.inner == plan.Core,
				"outer1":  b == spec.OuterToUE || b == spec.OuterToInner, "outer2": b == spec.OuterToUE || b == spec.OuterToInner,
				"inner1": b != spec.RelaysAlone, "inner2": b != spec.RelaysAlone,
				"client1": false, "client2": false, "client3": false,
			}
			for n, may := range inside {
				if got := plan.On(s, n, plan.Core).IsValid(); got != may {
					t.Errorf("%s is on the core network: %v; want %v", n, got, may)
				}
			}
		})
	}
}

// TestOneAddress: where all networks are one, the manager listens at its public address
// only, and every relay asks there.
func TestOneAddress(t *testing.T) {
	for _, b := range spec.Boundaries() {
		p := planned(t, parse(t, b))
		p.OneAddress = true
		r := build(t, p)
		want := netip.AddrPortFrom(plan.On(p.Spec, "manager", plan.Public), plan.PortRPC).String()
		got := []string{r.manager.RPC.Listen}
		for _, c := range r.inners {
			got = append(got, c.Control.Manager)
		}
		for _, c := range r.outers {
			got = append(got, c.Control.Manager)
		}
		for _, at := range got {
			if at != want {
				t.Errorf("%s: %s; want %s", b, at, want)
			}
		}
		if x := leaf(t, p, r.manager.RPC.TLS, x509.ExtKeyUsageServerAuth); len(x.IPAddresses) != 1 {
			t.Errorf("%s: the manager's certificate has the addresses %v; want one", b, x.IPAddresses)
		}
	}
}

// TestOriginsOfClients: the manager knows the region of each client that names one, and
// which relays are of that region.
func TestOriginsOfClients(t *testing.T) {
	p := planned(t, parse(t, spec.OuterToUE))
	c := build(t, p).manager.Manager
	if c.Policy != "region" || len(c.Regions) != 1 || len(c.Carriers) != 1 {
		t.Fatalf("policy %s, regions %v, carriers %v; want one of each, of the clients that have one", c.Policy, c.Regions, c.Carriers)
	}
	want := []netip.Addr{plan.On(p.Spec, "client1", plan.Public), plan.On(p.Spec, "client3", plan.Public)}
	if r := c.Regions[0]; r.Region != "west" || len(r.Prefixes) != 2 || r.Prefixes[0].Addr() != want[0] || r.Prefixes[1].Addr() != want[1] || !r.Prefixes[0].IsSingleIP() {
		t.Errorf("region %v; want west with %v alone", r, want)
	}
	if k := c.Carriers[0]; k.Name != "west" || len(k.Relays) != 1 || k.Relays[0] != "outer2" {
		t.Errorf("carrier %v; want west with outer2 alone", k)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

// TestTraceFiles: spans are kept where there are results, a file for each role.
func TestTraceFiles(t *testing.T) {
	p := planned(t, parse(t, spec.OuterToUE))
	if r := build(t, p); r.manager.Telemetry.Enabled() || r.inners["inner1"].Telemetry.Enabled() || r.outers["outer1"].Telemetry.Enabled() || p.TraceFiles() != nil {
		t.Error("spans are kept without results")
	}
	p.Results = "out"
	r := build(t, p)
	got := map[string]bool{}
	for _, f := range []string{
		r.manager.Telemetry.Traces.File, r.inners["inner1"].Telemetry.Traces.File, r.inners["inner2"].Telemetry.Traces.File,
		r.outers["outer1"].Telemetry.Traces.File, r.outers["outer2"].Telemetry.Traces.File,
	} {
		got[f] = true
	}
	for _, f := range p.TraceFiles() {
		if !got[f] {
			t.Errorf("no role writes %s", f)
		}
	}
	if len(got) != 5 || len(p.TraceFiles()) != 5 || !got[filepath.Join("out", "traces-outer2.jsonl")] {
		t.Errorf("roles write %v and the backend removes %v; want a file for each role", got, p.TraceFiles())
	}
}

// Where every host is a loopback address, event handlers may send web requests there, and
// nowhere else.
func TestWebhooksWhereAllIsLoopback(t *testing.T) {
	p := planned(t, parse(t, spec.Boundaries()[0]))
	if m := build(t, p).manager; len(m.Webhooks.Allow) != 0 {
		t.Errorf("networks of their own: %v is allowed; want the defaults", m.Webhooks.Allow)
	}
	p.OneAddress = true
	p.At = func(string, string) netip.Addr { return netip.MustParseAddr("127.3.4.5") }
	if m := build(t, p).manager; len(m.Webhooks.Allow) != 1 || m.Webhooks.Allow[0] != netip.MustParsePrefix("127.0.0.0/8") {
		t.Errorf("all in one process: %v is allowed; want 127.0.0.0/8", m.Webhooks.Allow)
	}
}
