package ue

import (
	"crypto/ecdh"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/nf/sbi"
	"github.com/simreach/simreach/nf/udm"
)

// Home network private keys of TS 33.501 annex C.4.
const (
	privateA = "c53c22208b61860b06c62e5406a7b330c2b577aa5558981510d128247d38bd1d"
	privateB = "f1ab1074477ebcc7f554ea1c5fc368b1616730155e0041ac447d6301975fecda"
)

// The home network as its configuration file gives it: ECIES profiles A and B
// beside the null scheme, and a USIM whose key looks like a number.
const udmYAML = `
plmn: 001-01
home_keys:
  - {id: 1, scheme: A, private_key: ` + privateA + `}
  - {id: 2, scheme: B, private_key: ` + privateB + `}
subscribers:
  - supi: imsi-001010000000001
    k: 00112233445566778899001122334455
    opc: 11223344556677889900112233445566
    sqn: SQN
    slices:
      - snssai: 1
        default: true
        dnns:
          - name: internet
`

const ueYAML = `
supi: imsi-001010000000001
k: 00112233445566778899001122334455
opc: 11223344556677889900112233445566
gnbs: [a]
`

// The USIM and the real UDM agree: a first registration takes exactly one
// AUTHENTICATION REQUEST, also of a fresh USIM (SQN 0 on both sides), whatever the
// SUCI's scheme; a USIM that is ahead of the home network one resynchronisation,
// and the registration after it none (TS 33.102 clauses 6.3.3 and 6.3.5, annex C).
func TestUSIMAndUDM(t *testing.T) {
	key, err := ecdh.X25519().NewPrivateKey(octets(t, privateA))
	if err != nil {
		t.Fatal(err)
	}
	publicB, err := aka.PublicB(octets(t, privateB))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		change  func(*Config)
		udmSQN  string
		resyncs int
	}{
		{"null scheme, fresh USIM", func(*Config) {}, "0", 0},
		{"profile A", func(c *Config) { c.Scheme, c.HomeKeyID, c.HomeKey = 1, 1, key.PublicKey().Bytes() }, "0", 0},
		{"profile B", func(c *Config) { c.Scheme, c.HomeKeyID, c.HomeKey = 2, 2, publicB }, "0", 0},
		{"the home network is ahead", func(*Config) {}, "3200", 0},
		{"both were in use", func(c *Config) { c.SQN = 3200 }, "3200", 0},
		{"the home network forgot", func(c *Config) { c.SQN = 3203 }, "0", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var uc udm.Config
			if err := yaml.Unmarshal([]byte(strings.Replace(udmYAML, "SQN", tc.udmSQN, 1)), &uc); err != nil {
				t.Fatal(err)
			}
			home, err := udm.New(uc, udm.Deps{})
			if err != nil {
				t.Fatal(err)
			}
			var cfg Config
			if err := yaml.Unmarshal([]byte(ueYAML), &cfg); err != nil {
				t.Fatal(err)
			}
			tc.change(&cfg)
			bubble(t, cfg, func(t *testing.T, n *testNet) {
				for round, resyncs := range []int{tc.resyncs, 0} {
					done := n.register("")
					c := n.wantConn("registration")
					first := wantUplink[*nas.RegistrationRequest](c, "request")
					if round == 0 && first.Identity.SUCI.Scheme != cfg.Scheme {
						t.Fatalf("scheme %d, want %d", first.Identity.SUCI.Scheme, cfg.Scheme)
					}
					ksi := nas.NGKSI(round + 1)
					kamf, failed := c.aka(home, ksi, first)
					if failed != resyncs {
						t.Fatalf("registration %d: %d resynchronisations, want %d", round, failed, resyncs)
					}
					c.secure(kamf, ksi, 2, 2)
					c.send(testAccept())
					wantUplink[*nas.RegistrationComplete](c, "complete")
					if err := n.result("register", done); err != nil {
						t.Fatal(err)
					}
					gone := start(func() error { return n.u.Deregister(t.Context(), false) })
					wantUplink[*nas.DeregistrationRequest](c, "deregister")
					c.send(&nas.DeregistrationAccept{})
					if err := n.result("deregister", gone); err != nil {
						t.Fatal(err)
					}
					c.release(nil)
				}
			})
		})
	}
}

// aka runs 5G AKA between the UE and home as an AMF would, and counts the
// resynchronisations.
func (c *testConn) aka(home *udm.UDM, ksi nas.NGKSI, first *nas.RegistrationRequest) (kamf [32]byte, resyncs int) {
	t, ctx := c.n.t, c.n.t.Context()
	t.Helper()
	id := string(testSUPI)
	if s := first.Identity.SUCI; s != nil {
		id = s.String()
	}
	req := sbi.AuthenticationRequest{SUPIOrSUCI: id, ServingNetworkName: testPLMN.ServingNetworkName()}
	for {
		av, err := home.Authenticate(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		c.plain(&nas.AuthenticationRequest{NGKSI: ksi, ABBA: testABBA, RAND: av.RAND, AUTN: av.AUTN})
		pdu := <-c.up
		switch m := c.decode(pdu).(type) {
		case *nas.AuthenticationFailure:
			if m.Cause != nas.MMSynchFailure {
				t.Fatalf("cause %d", m.Cause)
			}
			resyncs++
			req.Resync = &sbi.Resync{RAND: av.RAND, AUTS: [14]byte(m.AUTS)}
		case *nas.AuthenticationResponse:
			conf, err := home.Confirm(ctx, av.ID, m.RESStar)
			if err != nil || !conf.Success || conf.SUPI != ident.SUPI(testSUPI) {
				t.Fatalf("confirmation %v of %s, %v", conf.Success, conf.SUPI, err)
			}
			return aka.KAMF(conf.KSEAF, conf.SUPI, testABBA), resyncs
		default:
			t.Fatalf("answer %T", m)
		}
	}
}

func octets(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
