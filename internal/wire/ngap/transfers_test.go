package ngap

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"

	"github.com/free5gc/ngap/ngapType"
	"github.com/google/go-cmp/cmp"

	"github.com/simreach/simreach/internal/ident"
)

// transferDecoder is one of the Decode functions, whatever it returns.
type transferDecoder func([]byte) (any, error)

func asAny[T any](f func([]byte) (*T, error)) transferDecoder {
	return func(b []byte) (any, error) {
		v, err := f(b)
		if err != nil {
			return nil, err
		}
		return v, nil
	}
}

var transferSamples = []struct {
	name   string
	v      any
	decode transferDecoder
	hex    string
}{
	{"setup request", setupRequest, asAny(DecodeSetupRequestTransfer),
		"0000040082000a0c3b9aca003005f5e100008b000a01f0c00002010102030400860001000088000700010000091c00"},
	{"setup request, IPv6 tunnel, two flows, no AMBR",
		&SetupRequestTransfer{
			Uplink: ident.FTEID{Addr: netip.MustParseAddr("2001:db8::1"), TEID: 1},
			Type:   ident.IPv4v6,
			Flows:  []QoSFlow{{QFI: 1, FiveQI: 9, ARPPriority: 15}, {QFI: 63, FiveQI: 255, ARPPriority: 1}},
		}, asAny(DecodeSetupRequestTransfer), ""},
	{"setup response", setupResponse, asAny(DecodeSetupResponseTransfer), "0003e0c0000202050607080001"},
	{"unsuccessful", noResources, asAny(DecodeUnsuccessfulTransfer), "00b0"},
	{"unsuccessful, value of a later release", &UnsuccessfulTransfer{Cause: NewCause(CauseRadioNetwork, 60)},
		asAny(DecodeUnsuccessfulTransfer), ""},
	{"release command", &ReleaseCommandTransfer{Cause: NASNormalRelease}, asAny(DecodeReleaseCommandTransfer), "10"},
	{"release response", &ReleaseResponseTransfer{}, asAny(DecodeReleaseResponseTransfer), "00"},
	{"modify request", &ModifyRequestTransfer{AMBR: &ident.AMBR{Uplink: 1_000_000, Downlink: 2_000_000}},
		asAny(DecodeModifyRequestTransfer), "00000100820008081e8480200f4240"},
	{"modify request, nothing", &ModifyRequestTransfer{}, asAny(DecodeModifyRequestTransfer), "000000"},
	{"modify response", &ModifyResponseTransfer{}, asAny(DecodeModifyResponseTransfer), "00"},
}

func TestTransfers(t *testing.T) {
	for _, s := range transferSamples {
		t.Run(s.name, func(t *testing.T) {
			b, err := EncodeTransfer(s.v)
			if err != nil {
				t.Fatal(err)
			}
			if s.hex != "" && hex.EncodeToString(b) != s.hex {
				t.Errorf("EncodeTransfer:\n got %x\nwant %s", b, s.hex)
			}
			got, err := s.decode(b)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(s.v, got, equal); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			for n := range len(b) {
				if _, err := s.decode(b[:n:n]); err != nil && !errors.Is(err, ErrTransfer) {
					t.Errorf("%d octets: %v, want an ErrTransfer", n, err)
				}
			}
		})
	}
}

func TestTransferErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		decode transferDecoder
		hex    string
	}{
		{"no tunnel", asAny(DecodeSetupRequestTransfer), "000002 0086000100 0088000700010000091c00"},
		{"unstructured session", asAny(DecodeSetupRequestTransfer),
			"000003 008b000a01f0c0000201 01020304 0086000130 0088000700010000091c00"},
		{"unknown IE, reject", asAny(DecodeModifyRequestTransfer), "000001 01f4000100"},
		{"nothing", asAny(DecodeSetupResponseTransfer), ""},
		{"garbage", asAny(DecodeSetupResponseTransfer), "ffffffffff"},
		{"choice of a later release", asAny(DecodeReleaseCommandTransfer), "38"},
	} {
		if v, err := c.decode(unhex(t, c.hex)); !errors.Is(err, ErrTransfer) {
			t.Errorf("%s: %+v, %v; want an ErrTransfer", c.name, v, err)
		}
	}
	if v, err := DecodeReleaseResponseTransfer(nil); err != nil || v == nil {
		t.Errorf("release response of no octets: %v, %v", v, err)
	}
	for _, v := range []any{
		nil, 7, SetupRequestTransfer{}, &SetupRequestTransfer{}, (*SetupResponseTransfer)(nil),
		&SetupResponseTransfer{Downlink: setupResponse.Downlink}, &UnsuccessfulTransfer{},
		&SetupRequestTransfer{Uplink: setupRequest.Uplink, Type: ident.IPv4, Flows: []QoSFlow{{QFI: 1}}},
	} {
		if b, err := EncodeTransfer(v); !errors.Is(err, ErrEncode) {
			t.Errorf("%T %+v: %x, %v; want an ErrEncode", v, v, b, err)
		}
	}
}

// A tunnel endpoint of both families has IPv4 first (TS 38.414 clause 5.1); we
// take that.
func TestDualStackTunnel(t *testing.T) {
	got, err := DecodeSetupResponseTransfer(unhex(t,
		"0013e0 c0000202 20010db8000000000000000000000001 05060708 0001"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(setupResponse, got, equal); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// Unlike NAS, NGAP keeps the digits of a 3-digit MNC in their order.
func TestPLMN(t *testing.T) {
	for octets, p := range map[string]ident.PLMN{
		"00f110": plmn2, "130041": plmn3, "21f354": {MCC: "123", MNC: "45"}, "214365": {MCC: "123", MNC: "456"},
	} {
		enc, err := fromPLMN(p)
		if err != nil || hex.EncodeToString(enc.Value) != octets {
			t.Errorf("%s: %x, %v; want %s", p, enc.Value, err, octets)
		}
		if back, err := toPLMN(enc); err != nil || back != p {
			t.Errorf("%s: %s, %v; want %s", octets, back, err, p)
		}
	}
	for _, bad := range []string{"f0f110", "0ff110", "00ff10", "00f1f0", "00f11f", "00a110"} {
		if p, err := toPLMN(ngapType.PLMNIdentity{Value: unhex(t, bad)}); !errors.Is(err, ident.ErrInvalid) {
			t.Errorf("%s: %s, %v; want ErrInvalid", bad, p, err)
		}
	}
}

func FuzzDecodeTransfer(f *testing.F) {
	for _, s := range transferSamples {
		if b, err := EncodeTransfer(s.v); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, s := range transferSamples {
			v, err := s.decode(b)
			if err != nil {
				if !errors.Is(err, ErrTransfer) {
					t.Fatalf("%v is not an ErrTransfer", err)
				}
				continue
			}
			again, err := EncodeTransfer(v)
			if r, ok := v.(*SetupRequestTransfer); ok && err != nil && len(r.Flows) > 0 {
				continue // e.g. no ARP priority we would send
			}
			if err != nil {
				t.Fatalf("decoded %+v, but: %v", v, err)
			}
			v2, err := s.decode(again)
			if err != nil {
				t.Fatalf("decoded %+v, encoded %x, but: %v", v, again, err)
			}
			if d := cmp.Diff(v, v2, equal); d != "" {
				t.Fatalf("re-encoding changed it (-first +second):\n%s", d)
			}
		}
	})
}
