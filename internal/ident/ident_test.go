package ident

import (
	"errors"
	"net/netip"
	"testing"
)

func TestPLMNBytesAreThoseOfTS24501(t *testing.T) {
	for _, c := range []struct {
		text string
		want [3]byte
		name string
	}{
		{"001-01", [3]byte{0x00, 0xf1, 0x10}, "5G:mnc001.mcc001.3gppnetwork.org"},
		{"310-410", [3]byte{0x13, 0x00, 0x14}, "5G:mnc410.mcc310.3gppnetwork.org"},
		{"20893", [3]byte{0x02, 0xf8, 0x39}, "5G:mnc093.mcc208.3gppnetwork.org"},
	} {
		p, err := ParsePLMN(c.text)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Bytes(); got != c.want {
			t.Errorf("%s: want %x, got %x", c.text, c.want, got)
		}
		back, err := PLMNFromBytes(c.want)
		if err != nil || back != p {
			t.Errorf("%x: want %v back, got %v, %v", c.want, p, back, err)
		}
		if got := p.ServingNetworkName(); got != c.name {
			t.Errorf("%s: want serving network name %s, got %s", c.text, c.name, got)
		}
	}
	if _, err := PLMNFromBytes([3]byte{0xab, 0, 0}); !errors.Is(err, ErrInvalid) {
		t.Errorf("digits above 9 must be refused, got %v", err)
	}
}

func TestParsersRefuse(t *testing.T) {
	for name, f := range map[string]func(string) error{
		"IMSI":    func(s string) error { _, err := ParseIMSI(s); return err },
		"SUPI":    func(s string) error { _, err := ParseSUPI(s); return err },
		"PLMN":    func(s string) error { _, err := ParsePLMN(s); return err },
		"S-NSSAI": func(s string) error { _, err := ParseSNSSAI(s); return err },
	} {
		for _, s := range []string{"", "x", "imsi-", "imsi-12345", "imsi-1234567890123456", "1-", "256", "1-01020g", "1234", "00a-01", "001-1"} {
			if err := f(s); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s %q: want ErrInvalid, got %v", name, s, err)
			}
		}
	}
}

func TestTextForms(t *testing.T) {
	var s SNSSAI
	if err := s.UnmarshalText([]byte("1-0A0B0C")); err != nil || s != (SNSSAI{SST: 1, SD: "0a0b0c"}) {
		t.Errorf("want SST 1 with a lower-case SD, got %+v, %v", s, err)
	}
	if b, _ := s.MarshalText(); string(b) != "1-0a0b0c" {
		t.Errorf("want 1-0a0b0c, got %s", b)
	}
	var p PLMN
	if err := p.UnmarshalText(nil); err != nil || p != (PLMN{}) {
		t.Errorf("empty text is the zero PLMN, got %v, %v", p, err)
	}
	if got := (GUAMI{Region: 0xca, Set: 0x3fe, Pointer: 1}).AMFID(); got != "caff81" {
		t.Errorf("AMF ID: want caff81, got %s", got)
	}
	a := UEAddress{V6: netip.MustParsePrefix("2001:db8:1::/64")}
	if got := a.Reach(); got != netip.MustParseAddr("2001:db8:1::1") {
		t.Errorf("an IPv6 UE is reached at the first host address, got %v", got)
	}
}
