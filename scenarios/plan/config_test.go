package plan_test

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/nf/smf"
	"github.com/simreach/simreach/nf/udm"
	"github.com/simreach/simreach/scenarios"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/scenarios/spec"
	"github.com/simreach/simreach/ue"
)

// everything uses every field of the scenario language that becomes configuration.
const everything = `name: everything
plmn: "310-150"
slices: ["1", "2-0a0b0c"]
dnns: [{name: internet, mtu: 1300, dns: [8.8.8.8, 1.1.1.1]}, {name: ims}]
security: {integrity: [3, 1], ciphering: [0]}
upfs:
  - name: upf1
    groups: [north]
    tacs: [1, 7]
    pools: [{cidr: 10.45.0.9/16}, {cidr: 10.46.0.0/24}, {cidr: 10.47.0.0/16, dnn: ims}]
  - {name: upf2, pools: [{cidr: 10.45.0.0/16}]}
inner_relays: [{name: inner1, upfs: [upf1]}, {name: inner2, upfs: [upf2]}]
outer_relays: [{name: outer1, ports: 2000-2999}, {name: outer2}]
gnbs:
  - {name: gnb1, tac: 7, air: {delay: 10ms, jitter: 2ms, loss: 0.01, rate: 1000000}}
  - {name: gnb2}
  - {name: gnb3, tac: 7}
ues:
  - name: many
    count: 3
    imsi: "310150000000001"
    group: north
    gnbs: [gnb2]
    sessions: [{dnn: internet}, {dnn: ims, ambr: 5000000}, {dnn: internet, slice: 2-0a0b0c}]
    services: [{kind: http, port: 80}, {kind: echo, port: 7}, {kind: sink, port: 9}]
  - {name: static, imsi: "310150000000010", sim_id: mine, sessions: [{address: 10.45.3.3}]}
  - {name: wrong, imsi: "310150000000011", usim_key: "00112233445566778899aabbccddeeff"}
  - {name: stranger, imsi: "310150000000012", unknown: true}
clients: [{name: client1}]
`

func parse(t *testing.T, text string) *spec.Spec {
	t.Helper()
	s, err := spec.Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestEveryComponentAcceptsItsConfiguration: what a scenario file may say becomes
// configuration that each component takes, for the library's scenarios too.
func TestEveryComponentAcceptsItsConfiguration(t *testing.T) {
	all := []*spec.Spec{parse(t, everything)}
	files, err := filepath.Glob("../library/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no library: %v", err)
	}
	for _, f := range files {
		s, err := spec.Load(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	for _, s := range all {
		check := func(what string, c interface{ Validate() error }) {
			t.Helper()
			if err := c.Validate(); err != nil {
				t.Errorf("%s: %s: %v", s.Name, what, err)
			}
		}
		at := func(node, network string, port uint16) netip.AddrPort {
			a := plan.On(s, node, network)
			if !a.IsValid() {
				t.Errorf("%s: %s is not on %s", s.Name, node, network)
			}
			return netip.AddrPortFrom(a, port)
		}
		check("AMF", plan.AMF(s))
		check("SMF", plan.SMF(s, at("smf", plan.N4, 8805), func(u string) netip.AddrPort { return at(u, plan.N4, 8805) }))
		check("UDM", plan.UDM(s))
		check("manager", plan.Manager(s, secrets(t)))
		for _, u := range s.UPFs {
			check(u.Name, plan.UPF(u, at(u.Name, plan.N3, 0).Addr(), at(u.Name, plan.N4, 0).Addr()))
		}
		for i, g := range s.GNBs {
			check(g.Name, plan.GNB(s, i, at(g.Name, plan.N3, 2152), at("amf", plan.N2, 38412)))
		}
		hop, _ := plan.HopNetwork(s)
		for _, r := range s.InnerRelays {
			check(r.Name, plan.Inner(r, at(r.Name, hop, plan.PortInner)))
		}
		for _, r := range s.OuterRelays {
			check(r.Name, plan.Outer(r, at(r.Name, plan.Public, 0).Addr()))
		}
		for _, d := range s.Devices {
			c, err := plan.UE(s, d)
			if err != nil {
				t.Errorf("%s: %s: %v", s.Name, d.Name, err)
			}
			check(d.Name, c)
			for _, v := range plan.Services(d) {
				check(d.Name, v)
			}
		}
	}
}

// TestTheFileArrives: what stands in the file reaches the component it is about.
func TestTheFileArrives(t *testing.T) {
	s := parse(t, everything)
	want := func(what string, want, got any) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	a := plan.AMF(s)
	want("NIAs", []int{3, 1}, a.Integrity)
	want("NEAs", []int{0}, a.Ciphering)
	want("TACs", []ident.TAC{7, 1}, a.PLMNs[0].TACs)
	want("slices", s.SNSSAIs(), a.PLMNs[0].Slices)

	m := plan.SMF(s, netip.MustParseAddrPort("198.18.4.2:8805"), func(string) netip.AddrPort { return netip.MustParseAddrPort("198.18.4.10:8805") })
	pool := func(text ...string) (out []netip.Prefix) {
		for _, x := range text {
			out = append(out, netip.MustParsePrefix(x))
		}
		return out
	}
	same := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff([]smf.UPFDNN{{DNN: "internet", Pools: pool("10.45.0.0/16", "10.46.0.0/24")}, {DNN: "ims", Pools: pool("10.47.0.0/16")}}, m.UPFs[0].DNNs, same); diff != "" {
		t.Errorf("pools of upf1: %s", diff)
	}
	want("groups of upf1", []string{"north"}, m.UPFs[0].Groups)
	want("tracking areas of upf1", []ident.TAC{1, 7}, m.UPFs[0].TACs)
	want("MTUs", []uint16{1300, 1400}, []uint16{m.DNNs[0].MTU, m.DNNs[1].MTU})
	want("DNS servers", 2, len(m.DNNs[0].DNS))

	u := plan.UDM(s)
	want("subscriptions", 5, len(u.Subscribers)) // not the stranger's
	many, static, wrong := u.Subscribers[0], u.Subscribers[3], u.Subscribers[4]
	want("slices of many", []int{2, 1}, []int{len(many.Slices[0].DNNs), len(many.Slices[1].DNNs)})
	want("group of many", "north", many.UEGroup)
	want("AMBR of many on ims", ident.AMBR{Uplink: 5_000_000, Downlink: 5_000_000}, many.Slices[0].DNNs[1].AMBR)
	want("static address", "10.45.3.3", static.Slices[0].DNNs[0].StaticIPv4.String())
	want("the network's key", udm.Secret(spec.DefaultKey), wrong.K)

	c, err := plan.UE(s, s.Devices[4])
	if err != nil {
		t.Fatal(err)
	}
	want("the USIM's key", ue.Key{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}, c.K)
	if c, err = plan.UE(s, s.Devices[0]); err != nil {
		t.Fatal(err)
	}
	want("gNBs of many", []string{"gnb2"}, c.GNBs)
	want("sessions of many", []ident.DNN{"internet", "ims", "internet"}, []ident.DNN{c.Sessions[0].DNN, c.Sessions[1].DNN, c.Sessions[2].DNN})
	want("requested slices of many", s.SNSSAIs(), c.RequestedNSSAI)

	g := plan.GNB(s, 0, netip.MustParseAddrPort("198.18.3.10:2152"), netip.MustParseAddrPort("198.18.2.1:38412"))
	want("air", s.GNBs[0].Air.Delay.Std(), g.Downlink.Delay)
	want("air", 0.01, g.Uplink.Loss)
	want("ports", manager.PortRange{First: 2000, Last: 2999}, plan.Outer(s.OuterRelays[0], netip.MustParseAddr("198.18.0.120")).Ports)

	k := plan.Manager(s, plan.Secrets{AuthKeyID: "keyId-x", AuthKey: "secret-y"})
	want("SIMs", 5, len(k.Subscribers))
	want("SIM of static", "mine", k.Subscribers[3].SIMID)
	want("keys", manager.AuthKeyConfig{ID: "keyId-x", Key: "secret-y"}, k.Operators[0].AuthKeys[0])
	want("inner relays", []manager.InnerRelayConfig{{ID: "inner1", UPFs: []string{"upf1"}}, {ID: "inner2", UPFs: []string{"upf2"}}}, k.InnerRelays)
}

// TestStepsKnowTheNetworks: a capture step takes each network that a topology has.
func TestStepsKnowTheNetworks(t *testing.T) {
	for _, n := range plan.Networks(parse(t, everything)) {
		s := parse(t, everything+"steps: [{capture: {network: "+n+", has: [x]}}]\n")
		if _, err := scenarios.Compile(s); err != nil {
			t.Error(err)
		}
	}
	s := parse(t, everything+"steps: [{capture: {network: n6-upf9, has: [x]}}]\n")
	if _, err := scenarios.Compile(s); err == nil || !strings.Contains(err.Error(), "n6-upf2") {
		t.Errorf("a network that is not there: %v", err)
	}
}

// TestSecretsAreOfOneRun: nobody can use those of another run.
func TestSecretsAreOfOneRun(t *testing.T) {
	a, b := secrets(t), secrets(t)
	if a.AuthKeyID == b.AuthKeyID || a.AuthKey == b.AuthKey || a.CA.Certificate().Equal(b.CA.Certificate()) {
		t.Error("secrets repeat")
	}
	if len(a.AuthKey) != len("secret-")+32 {
		t.Errorf("a key of %d characters", len(a.AuthKey))
	}
}

func secrets(t *testing.T) plan.Secrets {
	t.Helper()
	k, err := plan.NewSecrets()
	if err != nil {
		t.Fatal(err)
	}
	return k
}
