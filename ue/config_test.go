package ue

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/goccy/go-yaml"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/ident"
)

func TestConfigYAML(t *testing.T) {
	var g GroupConfig
	err := yaml.UnmarshalWithOptions([]byte(`
ues:
  - supi: imsi-001010000000001
    k: 465b5ce8b199b49faa5f0a2ee238a6bc
    opc: cd63cb71954a9f4e48a5994e37a02baf
    pei: imeisv-1234567890123456
    requested_nssai: ["1-010203"]
    plmn: 001-01
    op: 11111111111111111111111111111111
    home_key: "0123"
    sessions: [{id: 1, dnn: internet, snssai: "1"}]
    gnbs: [a, b]
    autostart: true
    timers: {t3510: 5s}
`), &g, yaml.Strict())
	if err != nil {
		t.Fatal(err)
	}
	c := g.UEs[0]
	if c.OP[0] != 0x11 || len(c.HomeKey) != 2 || c.PLMN != testPLMN || c.RequestedNSSAI[0].SD != "010203" {
		t.Errorf("config %+v", c)
	}
	if c.K != testK || c.OPc != testOPc || c.Timers.T3510.Seconds() != 5 || c.Sessions[0].SNSSAI.SST != 1 {
		t.Errorf("config %+v", c)
	}
	for _, s := range []string{fmt.Sprintf("%v", c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), c.K.String()} {
		if strings.Contains(s, "465b5c") || strings.Contains(s, "70 91 92") || strings.Contains(s, "0x46, 0x5b") {
			t.Errorf("a key shows: %s", s)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"supi":           func(c *Config) { c.SUPI = "imsi-1" },
		"plmn":           func(c *Config) { c.PLMN = ident.PLMN{MCC: "999", MNC: "01"} },
		"k":              func(c *Config) { c.K = Key{} },
		"opc":            func(c *Config) { c.OPc = Key{} },
		"sqn":            func(c *Config) { c.SQN = 1 << 48 },
		"routing":        func(c *Config) { c.RoutingIndicator = "12a" },
		"null key":       func(c *Config) { c.HomeKey = make([]byte, 32) },
		"profile A key":  func(c *Config) { c.Scheme = 1 },
		"profile B key":  func(c *Config) { c.Scheme = 2; c.HomeKey = make([]byte, 32) },
		"scheme":         func(c *Config) { c.Scheme = 3 },
		"nea":            func(c *Config) { c.Ciphering = []uint8{4} },
		"nia0":           func(c *Config) { c.Integrity = []uint8{0} },
		"gnbs":           func(c *Config) { c.GNBs = nil },
		"mtu":            func(c *Config) { c.MTU = 100 },
		"session id":     func(c *Config) { c.Sessions = []SessionConfig{{ID: 16}} },
		"session type":   func(c *Config) { c.Sessions = []SessionConfig{{Type: 4}} },
		"session twice":  func(c *Config) { c.Sessions = []SessionConfig{{ID: 1}, {ID: 1}} },
		"sixteen of 'em": func(c *Config) { c.Sessions = make([]SessionConfig, 16) },
	} {
		c := testConfig()
		if err := c.Validate(); err != nil {
			t.Fatalf("the sample itself: %v", err)
		}
		spoil(&c)
		if c.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestConceal(t *testing.T) {
	c := testConfig()
	c.PLMN, c.SUPI, c.RoutingIndicator = ident.PLMN{MCC: "310", MNC: "410"}, "imsi-310410123456789", "17"
	s, err := c.conceal(rand.Reader)
	if err != nil || s.String() != "suci-0-310-410-17-0-0-123456789" {
		t.Errorf("null scheme: %v %v", s, err)
	}
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.Scheme, c.HomeKey, c.HomeKeyID = 1, key.PublicKey().Bytes(), 27
	a, err := c.conceal(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bcd, err := aka.DecryptA(key.Bytes(), a.SchemeOutput)
	if err != nil {
		t.Fatal(err)
	}
	if msin, _ := aka.MSINFromBCD(bcd); msin != "123456789" || a.KeyID != 27 {
		t.Errorf("profile A opens to %s, key %d", msin, a.KeyID)
	}
	b, err := c.conceal(rand.Reader)
	if err != nil || bytes.Equal(a.SchemeOutput, b.SchemeOutput) {
		t.Errorf("two concealments are the same (%v)", err)
	}
	p256, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := aka.PublicB(p256.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	c.Scheme, c.HomeKey = 2, pub
	if b, err = c.conceal(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if bcd, err = aka.DecryptB(p256.Bytes(), b.SchemeOutput); err != nil {
		t.Fatal(err)
	}
	if msin, _ := aka.MSINFromBCD(bcd); msin != "123456789" {
		t.Errorf("profile B opens to %s", msin)
	}
}

func TestGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := testConfig(), testConfig()
		b.SUPI = "imsi-001010000000002"
		deps := Deps{Host: &testHost{}, Air: func(string) (Air, error) { return nil, ErrNoCell }}
		g, err := NewGroup(GroupConfig{UEs: []Config{a, b}}, deps)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		<-g.Ready()
		if len(g.UEs()) != 2 || g.UE(b.SUPI).SUPI() != b.SUPI || len(g.Status()) != 2 || g.UE("imsi-1") != nil {
			t.Error("the group does not list its UEs")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := NewGroup(GroupConfig{UEs: []Config{a, a}}, deps); err == nil {
			t.Error("the same SUPI twice is refused")
		}
	})
}
