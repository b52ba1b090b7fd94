package nas

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/simreach/simreach/internal/ident"
)

// equal compares messages; an empty slice is as good as none.
var equal = cmp.Options{
	cmpopts.EquateEmpty(),
	cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}),
}

func TestSamplesBothWays(t *testing.T) {
	for _, s := range samples {
		t.Run(s.name, func(t *testing.T) {
			want := unhex(t, s.hex)
			got, err := Encode(s.msg)
			if err != nil {
				t.Fatalf("Encode: %v", err)
			}
			if hex.EncodeToString(got) != hex.EncodeToString(want) {
				t.Errorf("Encode:\n got %x\nwant %x", got, want)
			}
			m, err := Decode(want)
			if err != nil {
				t.Fatalf("Decode: %v", err)
			}
			if d := cmp.Diff(s.msg, m, equal); d != "" {
				t.Errorf("Decode (-want +got):\n%s", d)
			}
		})
	}
}

func TestEveryMessageHasASample(t *testing.T) {
	seen := map[MessageType]bool{}
	for _, s := range samples {
		seen[s.msg.Type()] = true
	}
	for typ := range layouts {
		if !seen[typ] {
			t.Errorf("no sample of %s", typ)
		}
	}
}

// A name in a layout that the library does not have would be found only when
// such an IE is met.
func TestLayoutsMatchTheLibrary(t *testing.T) {
	for typ, l := range layouts {
		if got := l.new().Type(); got != typ {
			t.Errorf("layout of %s makes a %s", typ, got)
		}
		_, body := libMessage(typ, l.lib)
		for _, list := range [][]field{l.mandatory, l.optional} {
			for _, f := range list {
				if f.name == "" {
					continue
				}
				v, ok := body.Type().FieldByName(f.name)
				if !ok {
					t.Errorf("%s: library has no %s", typ, f.name)
				} else if optional := v.Type.Kind() == reflect.Pointer; optional != (f.format >= formatT1) {
					t.Errorf("%s: %s optional in the library: %t", typ, f.name, optional)
				}
			}
		}
	}
}

// Every beginning of every message is either refused with a typed error or, where
// it ends between or within optional IEs, a message without them.
func TestTruncation(t *testing.T) {
	for _, s := range samples {
		pdu := unhex(t, s.hex)
		for n := range len(pdu) {
			m, err := Decode(pdu[:n:n])
			var de *DecodeError
			switch {
			case err == nil:
				if m.Type() != s.msg.Type() {
					t.Errorf("%s, %d octets: became %s", s.name, n, m.Type())
				}
				if _, err := Encode(m); err != nil {
					t.Errorf("%s, %d octets: %v", s.name, n, err)
				}
			case !errors.As(err, &de):
				t.Errorf("%s, %d octets: %T is not a *DecodeError", s.name, n, err)
			case de.Ignore() != (de.Cause == 0):
				t.Errorf("%s, %d octets: ignore %t, cause %d", s.name, n, de.Ignore(), de.Cause)
			case n < 3 && !errors.Is(err, ErrTooShort):
				t.Errorf("%s, %d octets: %v, want ErrTooShort", s.name, n, err)
			}
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	for _, c := range []struct {
		name  string
		hex   string
		cause uint8
		is    error
	}{
		{"empty", "", 0, ErrTooShort},
		{"5GMM without message type", "7e 00", 0, ErrTooShort},
		{"5GSM without message type", "2e 05 09", 0, ErrTooShort},
		{"EPS mobility management", "07 41 00", 0, ErrDiscriminator},
		{"security protected", "7e 02 00000000 00 7e0043", 111, ErrProtected},
		{"unknown 5GMM type", "7e 00 40", 97, nil},
		{"5GSM type as 5GMM", "7e 00 d1", 97, nil},
		{"5GMM type as 5GSM", "2e 05 09 41", 97, nil},
		{"unknown 5GSM type", "2e 05 09 c0", 97, nil},
		{"mandatory IE missing", "7e 00 44", 96, nil},
		{"mandatory IE cut short", "7e 00 41 79 000d 01 00f110", 96, nil},
		{"mandatory IE too short", "7e 00 41 79 0003 010203", 96, nil},
		{"mandatory identity not BCD", "7e 00 41 79 000d 01 aabbcc f0ff 00 00 0000000010", 96, nil},
		{"null scheme output not BCD", "7e 00 41 79 000d 01 00f110 f0ff 00 00 00a0000010", 96, nil},
		{"SUPI is a network access identifier", "7e 00 41 79 000d 11 00f110 f0ff 00 00 0000000010", 96, nil},
		{"service request by GUTI", "7e 00 4c 02 0007 f2 fe15 c0000001", 96, nil},
		{"unknown IE that must be comprehended", "7e 00 43 0a 00", 96, nil},
		{"QoS rules cut short", "2e0509c2 11 0009 010007313101 01ff01 06 060064060064", 96, nil},
		{"synch failure without AUTS", "7e 00 59 15", 100, nil},
		{"authentication request without AUTN", "7e 00 56 01 02 0000 21 00112233445566778899aabbccddeeff", 100, nil},
		{"IPv6 address for an IPv4 session", "2e0509c2 11 0009 010006313101 01ff01 06 060064060064 2909 02 0000000000000001", 95, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Decode(unhex(t, c.hex))
			var de *DecodeError
			if !errors.As(err, &de) {
				t.Fatalf("error is %v, want a *DecodeError", err)
			}
			if de.Cause != c.cause || de.Ignore() != (c.cause == 0) {
				t.Errorf("cause %d, ignore %t; want cause %d (%v)", de.Cause, de.Ignore(), c.cause, err)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("error %v is not %v", err, c.is)
			}
		})
	}
}

func TestDecodeErrorNamesTheTransaction(t *testing.T) {
	_, err := Decode(unhex(t, "2e 05 09 c3"))
	de, _ := errors.AsType[*DecodeError](err)
	want := &DecodeError{EPD: 0x2e, Type: TypePDUSessionEstablishmentReject, PDUSessionID: 5, PTI: 9, Cause: 96}
	if d := cmp.Diff(want, de, cmpopts.IgnoreFields(DecodeError{}, "Err")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TS 24.501 clauses 7.6.1, 7.6.3 and 7.7.1.
func TestOptionalIEs(t *testing.T) {
	const head = "7e 00 68 01 0004 2e0509d2" // DL NAS TRANSPORT
	full := &DLNASTransport{PayloadType: 1, Payload: unhex(t, "2e0509d2"), PDUSessionID: 5, Cause: 90}
	for _, c := range []struct {
		name, ies string
		want      *DLNASTransport
	}{
		{"in order", "1205 585a", full},
		{"out of order", "585a 1205", full},
		{"unknown TLV holds what looks like IEs", "1205 24 04 1207 5816 585a", full},
		{"unknown TLV-E", "7a 0004 12071207 1205 585a", full},
		{"unknown type 1", "1205 9f 585a", full},
		{"second of a kind is ignored", "1205 585a 1207 5816", full},
		{"bad length is not present", "1205 585a 37 02 0101", full},
		{"last one cut short", "1205 585a 37 01", full},
		{"unknown one cut short", "1205 585a 24 09 00", full},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := Decode(unhex(t, head+c.ies))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(Message(c.want), m, equal); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestDecodeKeepsNoInput(t *testing.T) {
	for _, s := range samples {
		pdu := unhex(t, s.hex)
		m, err := Decode(pdu)
		if err != nil {
			t.Fatal(err)
		}
		for i := range pdu {
			pdu[i] = 0xaa
		}
		if d := cmp.Diff(s.msg, m, equal); d != "" {
			t.Errorf("%s changed with the input:\n%s", s.name, d)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	id := MobileIdentity{GUTI: &guti}
	for _, c := range []struct {
		name string
		msg  Message
	}{
		{"nil", nil},
		{"nil pointer", (*RegistrationRequest)(nil)},
		{"no identity", &RegistrationRequest{}},
		{"bad PLMN", &RegistrationRequest{Identity: MobileIdentity{GUTI: &ident.GUTI{}}}},
		{"AMF set of 11 bits", &ServiceRequest{STMSI: ident.STMSI{Set: 1 << 10}}},
		{"routing indicator of 5 digits", &IdentityResponse{Identity: MobileIdentity{SUCI: &SUCI{PLMN: plmn2, RoutingIndicator: "12345", SchemeOutput: []byte{1}}}}},
		{"routing indicator not digits", &IdentityResponse{Identity: MobileIdentity{SUCI: &SUCI{PLMN: plmn2, RoutingIndicator: "1x", SchemeOutput: []byte{1}}}}},
		{"IMEI where IMEISV is due", &SecurityModeComplete{PEI: "imei-356938035643809"}},
		{"IMEI of 14 digits", &IdentityResponse{Identity: MobileIdentity{PEI: "imei-35693803564380"}}},
		{"IMEI not digits", &IdentityResponse{Identity: MobileIdentity{PEI: "imei-x56938035643809"}}},
		{"TAC of 25 bits", &RegistrationAccept{TAIList: []ident.TAI{{PLMN: plmn2, TAC: 1 << 24}}}},
		{"17 TAIs", &RegistrationAccept{TAIList: make([]ident.TAI, 17)}},
		{"SD of 2 octets", &RegistrationAccept{AllowedNSSAI: []ident.SNSSAI{{SST: 1, SD: "0102"}}}},
		{"RES* of 8 octets", &AuthenticationResponse{RESStar: make([]byte, 8)}},
		{"no ABBA", &AuthenticationRequest{}},
		{"no payload", &ULNASTransport{PayloadType: 1}},
		{"DNN with an empty label", &ULNASTransport{PayloadType: 1, Payload: []byte{1}, DNN: "a..b"}},
		{"no QoS rule", &PDUSessionEstablishmentAccept{}},
		{"container too long", &RegistrationRequest{Identity: id, NASContainer: make([]byte, 1<<16)}},
	} {
		if b, err := Encode(c.msg); !errors.Is(err, ErrEncode) {
			t.Errorf("%s: got %x, %v; want an ErrEncode", c.name, b, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range samples {
		f.Add(unhex(f, s.hex))
	}
	f.Fuzz(func(t *testing.T, pdu []byte) {
		_, _ = PeekSecurityHeader(pdu)
		_, _ = PeekPlain(pdu)
		m, err := Decode(pdu)
		if err != nil {
			if _, ok := errors.AsType[*DecodeError](err); !ok {
				t.Fatalf("%T is not a *DecodeError", err)
			}
			return
		}
		again, err := Encode(m)
		if err != nil {
			t.Fatalf("decoded %+v, but: %v", m, err)
		}
		m2, err := Decode(again)
		if err != nil {
			t.Fatalf("decoded %+v, encoded %x, but: %v", m, again, err)
		}
		if d := cmp.Diff(m, m2, equal); d != "" {
			t.Fatalf("re-encoding changed it (-first +second):\n%s", d)
		}
	})
}
