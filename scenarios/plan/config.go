package plan

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/nf/amf"
	"github.com/simreach/simreach/nf/sbi"
	"github.com/simreach/simreach/nf/smf"
	"github.com/simreach/simreach/nf/udm"
	"github.com/simreach/simreach/nf/upf"
	"github.com/simreach/simreach/relay/inner"
	"github.com/simreach/simreach/relay/outer"
	"github.com/simreach/simreach/scenarios/spec"
	"github.com/simreach/simreach/ue"
	"github.com/simreach/simreach/ue/device"
	"github.com/simreach/simreach/ue/gnb"
)

// Instance IDs of the network functions of a topology.
const (
	amfID sbi.NFID = "00000000-0000-4000-8000-000000000001"
	smfID sbi.NFID = "00000000-0000-4000-8000-000000000002"
)

// Operator is the tenant that owns every SIM of a scenario.
const Operator manager.OperatorID = "OP0000000001"

// Secrets are made for each run: nobody can use those of another.
type Secrets struct {
	AuthKeyID, AuthKey string // the operator's API credentials
	// CA issues the certificates of the manager and the relays.
	CA *pki.Authority
}

// NewSecrets makes the secrets of a run.
func NewSecrets() (Secrets, error) {
	random := func() string {
		b := make([]byte, 16)
		_, _ = rand.Read(b) // never fails
		return hex.EncodeToString(b)
	}
	ca, err := pki.NewAuthority(pki.AuthorityConfig{Name: "simreach testbed"})
	if err != nil {
		return Secrets{}, fmt.Errorf("secrets of the run: %w", err)
	}
	return Secrets{AuthKeyID: "keyId-" + random(), AuthKey: "secret-" + random(), CA: ca}, nil
}

func guami(s *spec.Spec) ident.GUAMI {
	return ident.GUAMI{PLMN: s.Network(), Region: 1, Set: 1, Pointer: 1}
}

// AMFID is the AMF's instance ID, by which the SMF finds it.
func AMFID() sbi.NFID { return amfID }

// AMF returns the AMF's configuration.
func AMF(s *spec.Spec) amf.Config {
	c := amf.Config{
		NFID: amfID, Name: "amf.simreach", GUAMI: guami(s),
		PLMNs:      []amf.PLMNSupport{{PLMN: s.Network(), Slices: s.SNSSAIs()}},
		DefaultDNN: ident.DNN(s.DNNs[0].Name),
	}
	for _, a := range s.Security.Integrity {
		c.Integrity = append(c.Integrity, int(a))
	}
	for _, a := range s.Security.Ciphering {
		c.Ciphering = append(c.Ciphering, int(a))
	}
	for _, d := range s.DNNs {
		c.DNNs = append(c.DNNs, ident.DNN(d.Name))
	}
	for _, g := range s.GNBs {
		if t := ident.TAC(g.TAC); !slices.Contains(c.PLMNs[0].TACs, t) {
			c.PLMNs[0].TACs = append(c.PLMNs[0].TACs, t)
		}
	}
	return c
}

// SMF returns the SMF's configuration; n4 is its own PFCP address and upf finds
// that of a UPF.
func SMF(s *spec.Spec, n4 netip.AddrPort, upf func(name string) netip.AddrPort) smf.Config {
	// Usage is reported every second, so that the manager can act on it soon.
	c := smf.Config{NFID: smfID, N4: n4, Usage: smf.Usage{Period: time.Second}}
	for _, u := range s.UPFs {
		x := smf.UPF{Name: u.Name, N4: upf(u.Name), Groups: u.Groups}
		for _, t := range u.TACs {
			x.TACs = append(x.TACs, ident.TAC(t))
		}
		for _, p := range u.Pools {
			i := slices.IndexFunc(x.DNNs, func(d smf.UPFDNN) bool { return string(d.DNN) == p.DNN })
			if i < 0 {
				i = len(x.DNNs)
				x.DNNs = append(x.DNNs, smf.UPFDNN{DNN: ident.DNN(p.DNN)})
			}
			x.DNNs[i].Pools = append(x.DNNs[i].Pools, p.Prefix())
		}
		c.UPFs = append(c.UPFs, x)
	}
	for _, d := range s.DNNs {
		x := smf.DNN{Name: ident.DNN(d.Name), MTU: d.MTU}
		for _, a := range d.DNS {
			ip, _ := netip.ParseAddr(a) // checked by spec.Load
			x.DNS = append(x.DNS, ip)
		}
		c.DNNs = append(c.DNNs, x)
	}
	return c
}

// The home network's keys are those of the test data in TS 33.501 annex C.4: they
// protect nobody, and a capture can be deciphered with them.
const (
	homeKeyA     = 27
	homePrivateA = "c53c22208b61860b06c62e5406a7b330c2b577aa5558981510d128247d38bd1d"
	homeKeyB     = 28
	homePrivateB = "f1ab1074477ebcc7f554ea1c5fc368b1616730155e0041ac447d6301975fecda"
)

// UDM returns the UDM's configuration: a subscription for every UE that is not
// unknown to the network.
func UDM(s *spec.Spec) udm.Config {
	c := udm.Config{PLMN: s.Network(), HomeKeys: []udm.HomeKey{
		{ID: homeKeyA, Scheme: "A", PrivateKey: homePrivateA},
		{ID: homeKeyB, Scheme: "B", PrivateKey: homePrivateB},
	}}
	for _, d := range s.Devices {
		if d.Unknown {
			continue
		}
		sub := udm.Subscriber{SUPI: d.IMSI.SUPI(), K: udm.Secret(d.Key), OPc: udm.Secret(d.OPc), UEGroup: d.Group}
		for _, x := range d.Sessions {
			n, _ := ident.ParseSNSSAI(x.Slice) // checked by spec.Load
			i := slices.IndexFunc(sub.Slices, func(l udm.Slice) bool { return l.SNSSAI == n })
			if i < 0 {
				i = len(sub.Slices)
				sub.Slices = append(sub.Slices, udm.Slice{SNSSAI: n, Default: i == 0})
			}
			dnn := udm.DNN{Name: ident.DNN(x.DNN), AMBR: ident.AMBR{Uplink: x.AMBR, Downlink: x.AMBR}}
			if x.Address != "" {
				dnn.StaticIPv4, _ = netip.ParseAddr(x.Address) // checked by spec.Load
			}
			sub.Slices[i].DNNs = append(sub.Slices[i].DNNs, dnn)
		}
		c.Subscribers = append(c.Subscribers, sub)
	}
	return c
}

// Manager returns the manager's configuration.
func Manager(s *spec.Spec, k Secrets) manager.Config {
	c := manager.Config{Operators: []manager.OperatorConfig{{
		ID: Operator, AuthKeys: []manager.AuthKeyConfig{{ID: k.AuthKeyID, Key: k.AuthKey}},
	}}}
	for _, d := range s.Devices {
		if !d.Unknown {
			c.Subscribers = append(c.Subscribers, manager.SubscriberConfig{IMSI: string(d.IMSI), SIMID: d.SIMID, OperatorID: Operator})
		}
	}
	for _, r := range s.InnerRelays {
		c.InnerRelays = append(c.InnerRelays, manager.InnerRelayConfig{ID: manager.RelayID(r.Name), UPFs: r.UPFs})
	}
	return c
}

// UE returns a device's configuration. Its keys are the USIM's, which may differ
// from the network's.
func UE(s *spec.Spec, d spec.Device) (ue.Config, error) {
	c := ue.Config{
		SUPI: d.IMSI.SUPI(), PLMN: s.Network(), GNBs: d.GNBs, MTU: spec.DefaultMTU,
		// Devices differ in the serial number; the last two digits are the software's
		// version, which a lock does not compare.
		PEI: ident.PEI(fmt.Sprintf("imeisv-%014d00", d.Index+1)),
	}
	if err := c.K.UnmarshalText([]byte(d.USIMKey)); err != nil {
		return ue.Config{}, err
	}
	if err := c.OPc.UnmarshalText([]byte(d.OPc)); err != nil {
		return ue.Config{}, err
	}
	if err := conceal(&c, d.SUCI); err != nil {
		return ue.Config{}, err
	}
	for i, x := range d.Sessions {
		n, err := ident.ParseSNSSAI(x.Slice)
		if err != nil {
			return ue.Config{}, err
		}
		c.Sessions = append(c.Sessions, ue.SessionConfig{ID: ident.PDUSessionID(i + 1), DNN: ident.DNN(x.DNN), SNSSAI: &n, Type: ident.IPv4})
		if !slices.Contains(c.RequestedNSSAI, n) {
			c.RequestedNSSAI = append(c.RequestedNSSAI, n)
		}
	}
	return c, nil
}

// conceal gives a USIM the home network's public key of a SUCI protection scheme.
func conceal(c *ue.Config, scheme string) error {
	var private string
	var public func([]byte) ([]byte, error)
	switch scheme {
	case "A":
		c.Scheme, c.HomeKeyID, private, public = 1, homeKeyA, homePrivateA, aka.PublicA
	case "B":
		c.Scheme, c.HomeKeyID, private, public = 2, homeKeyB, homePrivateB, aka.PublicB
	default:
		return nil
	}
	key, err := hex.DecodeString(private)
	if err == nil {
		c.HomeKey, err = public(key)
	}
	return err
}

// Services returns what runs on a device.
func Services(d spec.Device) []device.Service {
	var out []device.Service
	for _, v := range d.Services {
		out = append(out, device.Service{Kind: device.Kind(v.Kind), Port: v.Port})
	}
	return out
}

// GNB returns the configuration of the i-th gNB; n3 is its GTP-U address and amf
// the AMF's N2 address.
func GNB(s *spec.Spec, i int, n3, amf netip.AddrPort) gnb.Config {
	g := s.GNBs[i]
	air := gnb.Impairment{Delay: g.Air.Delay.Std(), Jitter: g.Air.Jitter.Std(), Loss: g.Air.Loss, Rate: g.Air.Rate}
	return gnb.Config{
		Name: g.Name, ID: ident.GNBID{PLMN: s.Network(), Value: uint32(i + 1), Bits: 24}, TAC: ident.TAC(g.TAC),
		Slices: s.SNSSAIs(), N3: n3, AMFs: []netip.AddrPort{amf}, Uplink: air, Downlink: air,
	}
}

// UPF returns a UPF's configuration; n3 and n4 are its addresses.
func UPF(u spec.UPF, n3, n4 netip.Addr) upf.Config {
	c := upf.Config{NodeID: u.Name, N3Address: n3, N4Address: n4}
	for _, p := range u.Pools {
		if d := ident.DNN(p.DNN); !slices.Contains(c.NetworkInstances, d) {
			c.NetworkInstances = append(c.NetworkInstances, d)
		}
	}
	return c
}

// Outer returns an outer relay's configuration; at is its public address.
func Outer(r spec.OuterRelay, at netip.Addr) outer.Config {
	first, last, _ := r.PortRange() // checked by spec.Load
	return outer.Config{
		ID: manager.RelayID(r.Name), Address: at, Ports: manager.PortRange{First: first, Last: last}, Region: r.Region,
		EntryRate: float64(r.Rate), EntryBurst: r.Rate, IdleTimeout: r.Idle.Std(),
	}
}

// Inner returns an inner relay's configuration; at is where outer relays connect.
func Inner(r spec.InnerRelay, at netip.AddrPort) inner.Config {
	return inner.Config{ID: r.Name, Listen: at.String()}
}
