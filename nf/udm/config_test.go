package udm

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/simreach/simreach/internal/ident"
)

// Each mistake is named by its field.
func TestValidate(t *testing.T) {
	for field, spoil := range map[string]func(*Config){
		"plmn":                            func(c *Config) { c.PLMN.MNC = "1" },
		"serving_networks[0]":             func(c *Config) { c.ServingNetworks = []ident.PLMN{{}} },
		"auth_context_ttl":                func(c *Config) { c.AuthContextTTL = -1 },
		"max_auth_contexts":               func(c *Config) { c.MaxAuthContexts = -1 },
		"home_keys[0].scheme":             func(c *Config) { c.HomeKeys[0].Scheme = "C" },
		"home_keys[1].private_key":        func(c *Config) { c.HomeKeys[1].PrivateKey = Secret(strings.Repeat("0", 64)) },
		"home_keys[0].private_key":        func(c *Config) { c.HomeKeys[0].PrivateKey = "00" },
		"home_keys[2].id":                 func(c *Config) { c.HomeKeys = append(c.HomeKeys, c.HomeKeys[0]) },
		"subscribers[0].supi":             func(c *Config) { c.Subscribers[0].SUPI = "001010000000001" },
		"subscribers[1].supi":             func(c *Config) { c.Subscribers = append(c.Subscribers, c.Subscribers[0]) },
		"subscribers[0].supi: imsi-999":   func(c *Config) { c.Subscribers[0].SUPI = "imsi-999700000000001" },
		"subscribers[0].k":                func(c *Config) { c.Subscribers[0].K = "00" },
		"subscribers[0].opc":              func(c *Config) { c.Subscribers[0].OPc = "zz" },
		"subscribers[0].opc: opc and op":  func(c *Config) { c.Subscribers[0].OP = testOP },
		"subscribers[0].op":               func(c *Config) { c.Subscribers[0].OPc, c.Subscribers[0].OP = "", "00" },
		"subscribers[0].amf":              func(c *Config) { c.Subscribers[0].AMF = "0000" },
		"subscribers[0].amf: 2":           func(c *Config) { c.Subscribers[0].AMF = "80" },
		"subscribers[0].sqn":              func(c *Config) { c.Subscribers[0].SQN = 1 << 48 },
		"subscribers[0].slices":           func(c *Config) { c.Subscribers[0].Slices = nil },
		"subscribers[0].slices[0].snssai": func(c *Config) { c.Subscribers[0].Slices[0].SNSSAI.SD = "x" },
		"subscribers[0].slices[1].snssai": func(c *Config) { c.Subscribers[0].Slices[1].SNSSAI = slice2 },
		"subscribers[0].slices[0].dnns":   func(c *Config) { c.Subscribers[0].Slices[0].DNNs = nil },
		"slices[0].dnns[0].name":          func(c *Config) { c.Subscribers[0].Slices[0].DNNs[0].Name = "" },
		"slices[0].dnns[1].name":          func(c *Config) { c.Subscribers[0].Slices[0].DNNs = []DNN{{Name: "a"}, {Name: "A"}} },
		"slices[0].dnns[0].types[0]":      func(c *Config) { c.Subscribers[0].Slices[0].DNNs[0].Types = []ident.PDUSessionType{4} },
		"slices[0].dnns[0].arp_priority":  func(c *Config) { c.Subscribers[0].Slices[0].DNNs[0].ARPPriority = 16 },
		"slices[0].dnns[0].static_ipv4":   func(c *Config) { c.Subscribers[0].Slices[0].DNNs[0].StaticIPv4 = netip.IPv6Loopback() },
		"slices[0].dnns[0].static_ipv6": func(c *Config) {
			c.Subscribers[0].Slices[0].DNNs[0].StaticIPv6 = netip.MustParsePrefix("2001:db8::1/64")
		},
	} {
		c := Config{
			PLMN: home, Subscribers: []Subscriber{testSubscriber(supi)},
			HomeKeys: []HomeKey{{ID: 1, Scheme: "A", PrivateKey: privateA}, {ID: 1, Scheme: "B", PrivateKey: privateB}},
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("before %s is spoilt: %v", field, err)
		}
		spoil(&c)
		err := c.Validate()
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), field) || !strings.Contains(err.Error(), ": want ") {
			t.Errorf("%s: %v, want an ErrConfig that names the field and the fix", field, err)
		}
		if err != nil && strings.Contains(err.Error(), testK) {
			t.Errorf("%s: the error shows the key: %v", field, err)
		}
		if _, err := New(c, Deps{}); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: New = %v, want ErrConfig", field, err)
		}
	}
}

func TestValidateIsBounded(t *testing.T) {
	c := Config{PLMN: home, Subscribers: make([]Subscriber, 1000)}
	if n := strings.Count(c.Validate().Error(), "\n") + 1; n != maxProblems {
		t.Errorf("%d problems reported at once, want %d", n, maxProblems)
	}
}

const configYAML = `
plmn: 001-01
auth_context_ttl: 10s
home_keys:
  - {id: 1, scheme: A, private_key: ` + privateA + `}
subscribers:
  - supi: imsi-001010000000001
    k: ` + testK + `
    op: ` + testOP + `
    sqn: 0x20
    ambr: {uplink: 1000000, downlink: 2000000}
    ue_group: east
    slices:
      - snssai: 1-010203
        default: true
        dnns:
          - {name: internet, types: [1], five_qi: 9, arp_priority: 8, static_ipv4: 10.0.0.7, static_ipv6: "2001:db8:1::/64"}
`

func TestConfigFromYAML(t *testing.T) {
	var c Config
	if err := yaml.UnmarshalWithOptions([]byte(configYAML), &c, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	u, err := New(c, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := u.SessionManagement(t.Context(), supi, ident.SNSSAI{SST: 1, SD: "010203"}, "internet")
	if err != nil || d.Static.V4 != netip.MustParseAddr("10.0.0.7") || d.Static.V6 != netip.MustParsePrefix("2001:db8:1::/64") {
		t.Errorf("session data = %+v, %v, want what the file says", d, err)
	}
	if sqn, _ := u.SQN(supi); sqn != 0x20 {
		t.Errorf("SQN = %#x, want 0x20", sqn)
	}
}

func FuzzIdentify(f *testing.F) {
	cfg := Config{
		PLMN: ident.PLMN{MCC: "274", MNC: "012"}, HomeKeys: []HomeKey{{ID: 27, Scheme: "A", PrivateKey: privateA}, {ID: 27, Scheme: "B", PrivateKey: privateB}},
	}
	u, err := New(cfg, Deps{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("imsi-274012001002086")
	f.Add("suci-0-274-012-678-0-0-001002086")
	f.Add("suci-0-274-012-678-1-27-" + outputA)
	f.Add("suci-0-274-012-678-2-27-" + outputB)
	f.Fuzz(func(t *testing.T, id string) {
		supi, err := u.identify(id)
		if err != nil {
			if supi != "" {
				t.Fatalf("%q gives %q with %v", id, supi, err)
			}
			return
		}
		if _, err := ident.ParseSUPI(string(supi)); err != nil {
			t.Fatalf("%q gives the SUPI %q", id, supi)
		}
	})
}
