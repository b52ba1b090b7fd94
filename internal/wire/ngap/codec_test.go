package ngap

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/simreach/simreach/internal/ident"
)

// equal compares messages; an empty slice is as good as none.
var equal = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})}

func TestSamplesBothWays(t *testing.T) {
	for _, s := range samples {
		t.Run(s.name, func(t *testing.T) {
			got, err := Encode(s.msg)
			if err != nil {
				t.Fatalf("Encode: %v", err)
			}
			if hex.EncodeToString(got) != s.hex {
				t.Errorf("Encode:\n got %x\nwant %s", got, s.hex)
			}
			m, err := Decode(unhex(t, s.hex))
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
	seen := map[pduKey]bool{}
	for _, s := range samples {
		seen[pduKey{s.msg.Procedure(), s.msg.(codec).triggering()}] = true
	}
	for key, spec := range pduSpecs {
		if c := spec.new(); c.Procedure() != key.procedure || c.triggering() != key.triggering {
			t.Errorf("the entry of %s makes a %T", spec.name, c)
		}
		if !seen[key] {
			t.Errorf("no sample of %s", spec.name)
		}
	}
}

// Every sample must stay within its definition: all mandatory IEs, in order.
func TestSamplesFollowTheDefinitions(t *testing.T) {
	for _, s := range samples {
		var e envelope
		if err := parseEnvelope(unhex(t, s.hex), &e); err != nil {
			t.Fatal(err)
		}
		r := &reader{}
		bad := r.comprehend(pduSpecs[pduKey{e.procedure, e.triggering}].ies, e.ies)
		if len(bad) > 0 || r.falsely != nil || r.incomplete || len(r.ies) != len(e.ies) {
			t.Errorf("%s: %v, %v, incomplete %t", s.name, bad, r.falsely, r.incomplete)
		}
	}
}

func TestTruncation(t *testing.T) {
	for _, s := range samples {
		pdu := unhex(t, s.hex)
		for n := range len(pdu) {
			_, err := Decode(pdu[:n:n])
			de, ok := errors.AsType[*DecodeError](err)
			if !ok || de.Cause != ProtocolTransferSyntax {
				t.Fatalf("%s, %d octets: %v, want a transfer syntax error", s.name, n, err)
			}
		}
	}
}

// The outer lengths may be right and an IE cut short nevertheless.
func TestTruncatedIEs(t *testing.T) {
	for _, s := range samples {
		var e envelope
		if err := parseEnvelope(unhex(t, s.hex), &e); err != nil {
			t.Fatal(err)
		}
		for i, ie := range e.ies {
			for n := range len(ie.value) {
				bad := e
				bad.ies = slices.Clone(e.ies)
				bad.ies[i].value = ie.value[:n]
				pdu, err := bad.bytes()
				if err != nil {
					t.Fatal(err)
				}
				if m, err := Decode(pdu); err == nil {
					// The last octets may be padding of what was complete before.
					if _, err := Encode(m); err != nil {
						t.Errorf("%s, IE %d of %d octets: %v", s.name, ie.id, n, err)
					}
				} else if _, ok := errors.AsType[*DecodeError](err); !ok {
					t.Errorf("%s, IE %d of %d octets: %T", s.name, ie.id, n, err)
				}
			}
		}
	}
}

// replaceIE returns a sample with its IEs changed by f.
func replaceIE(t *testing.T, name string, f func([]rawIE) []rawIE) []byte {
	t.Helper()
	i := slices.IndexFunc(samples, func(s sample) bool { return s.name == name })
	var e envelope
	if err := parseEnvelope(unhex(t, samples[i].hex), &e); err != nil {
		t.Fatal(err)
	}
	e.ies = f(e.ies)
	b, err := e.bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TS 38.413 clause 10.
func TestDecodeErrors(t *testing.T) {
	without := func(id int64) func([]rawIE) []rawIE {
		return func(l []rawIE) []rawIE {
			return slices.DeleteFunc(l, func(ie rawIE) bool { return ie.id == id })
		}
	}
	with := func(more ...rawIE) func([]rawIE) []rawIE {
		return func(l []rawIE) []rawIE { return append(l, more...) }
	}
	setting := func(id int64, value string) func([]rawIE) []rawIE {
		return func(l []rawIE) []rawIE {
			for i := range l {
				if l[i].id == id {
					l[i].value = unhex(t, value)
				}
			}
			return l
		}
	}
	both := PartialIDs{AMF: ptr(int64(7)), RAN: ptr(uint32(9))}
	const ics, downlink = "initial context setup request", "downlink NAS transport"
	for _, c := range []struct {
		name string
		pdu  []byte
		want DecodeError
	}{
		{"nothing", nil, DecodeError{Cause: ProtocolTransferSyntax}},
		{"extended PDU choice", unhex(t, "80 15 00 03 000000"),
			DecodeError{Procedure: ProcNGSetup, Triggering: 2, Cause: ProtocolTransferSyntax}},
		{"octets left over", unhex(t, "20 14 00 03 000000 00"),
			DecodeError{Procedure: ProcNGReset, Triggering: 1, Cause: ProtocolTransferSyntax}},
		{"IE count too high", unhex(t, "20 14 00 03 000001"),
			DecodeError{Procedure: ProcNGReset, Triggering: 1, Cause: ProtocolTransferSyntax}},
		{"unknown procedure, reject", unhex(t, "00 0c 00 0f 000002 000a00020007 005500020009"),
			DecodeError{Procedure: 12, IDs: both, Cause: ProtocolAbstractReject, Diagnostics: &Diagnostics{Procedure: 12}}},
		{"unknown procedure, ignore", unhex(t, "00 33 40 03 000000"),
			DecodeError{Procedure: 51, Diagnostics: &Diagnostics{Procedure: 51}}},
		{"unknown procedure, notify", unhex(t, "00 33 80 03 000000"),
			DecodeError{Procedure: 51, Cause: ProtocolAbstractIgnoreNotify, Diagnostics: &Diagnostics{Procedure: 51}}},
		{"outcome of a procedure without", unhex(t, "20 04 00 03 000000"),
			DecodeError{
				Procedure: ProcDownlinkNASTransport, Triggering: 1, Cause: ProtocolAbstractReject,
				Diagnostics: &Diagnostics{Procedure: ProcDownlinkNASTransport, Triggering: 1},
			}},
		{"mandatory IE missing", replaceIE(t, ics, without(idSecurityKey)),
			DecodeError{
				Procedure: ProcInitialContextSetup, IDs: both, Cause: ProtocolAbstractReject,
				Diagnostics: &Diagnostics{
					Procedure: ProcInitialContextSetup,
					IEs:       []IEDiagnostic{{ID: idSecurityKey, Missing: true}},
				},
			}},
		{"unknown IE, reject", replaceIE(t, ics, with(rawIE{id: 500, crit: reject})),
			DecodeError{
				Procedure: ProcInitialContextSetup, IDs: both, Cause: ProtocolAbstractReject,
				Diagnostics: &Diagnostics{Procedure: ProcInitialContextSetup, IEs: []IEDiagnostic{{ID: 500}}},
			}},
		{"identifier missing from a response", replaceIE(t, "UE context release complete", without(idAMFUENGAPID)),
			DecodeError{
				Procedure: ProcUEContextRelease, Triggering: 1, IDs: PartialIDs{RAN: both.RAN}, Cause: ProtocolAbstractReject,
				Diagnostics: &Diagnostics{
					Procedure: ProcUEContextRelease, Triggering: 1,
					IEs: []IEDiagnostic{{ID: idAMFUENGAPID, Missing: true, Criticality: uint8(ignore)}},
				},
			}},
		{"IE repeated", replaceIE(t, downlink, with(rawIE{id: idNASPDU, value: []byte{1, 0}})),
			DecodeError{
				Procedure: ProcDownlinkNASTransport, IDs: both, Cause: ProtocolFalselyConstructed,
				Diagnostics: &Diagnostics{Procedure: ProcDownlinkNASTransport},
			}},
		{"IEs out of order", replaceIE(t, downlink, func(l []rawIE) []rawIE { slices.Reverse(l); return l }),
			DecodeError{
				Procedure: ProcDownlinkNASTransport, IDs: both, Cause: ProtocolFalselyConstructed,
				Diagnostics: &Diagnostics{Procedure: ProcDownlinkNASTransport},
			}},
		{"IE malformed", replaceIE(t, ics, setting(idGUAMI, "00")),
			DecodeError{Procedure: ProcInitialContextSetup, IDs: both, Cause: ProtocolTransferSyntax}},
		{"NAS message of no octets", replaceIE(t, downlink, setting(idNASPDU, "00")),
			DecodeError{Procedure: ProcDownlinkNASTransport, IDs: both, Cause: ProtocolSemantic}},
		{"PLMN not BCD", replaceIE(t, ics, setting(idGUAMI, "0000faf1cafe15")),
			DecodeError{Procedure: ProcInitialContextSetup, IDs: both, Cause: ProtocolSemantic}},
		{"UE context release of both identifiers", replaceIE(t, "UE context release command", setting(idCause, "")),
			DecodeError{Procedure: ProcUEContextRelease, IDs: both, Cause: ProtocolTransferSyntax}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Decode(c.pdu)
			de, ok := errors.AsType[*DecodeError](err)
			if !ok {
				t.Fatalf("error is %v, want a *DecodeError", err)
			}
			if d := cmp.Diff(&c.want, de, cmpopts.IgnoreFields(DecodeError{}, "Err")); d != "" {
				t.Errorf("%v (-want +got):\n%s", err, d)
			}
			if de.Diagnostics != nil && de.Cause != 0 {
				// What we would answer must be sendable.
				if _, err := Encode(&ErrorIndication{IDs: de.IDs, Cause: &de.Cause, Diagnostics: de.Diagnostics}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestIEsSteppedOver(t *testing.T) {
	unknown := func(c criticality) rawIE { return rawIE{id: 500, crit: c, value: []byte{1, 2, 3}} }
	known := rawIE{id: idIndexToRFSP, crit: ignore, value: []byte{0xff}} // not even well formed
	got, err := Decode(replaceIE(t, "downlink NAS transport", func(l []rawIE) []rawIE {
		return append(append([]rawIE{unknown(ignore)}, l...), unknown(notify), known)
	}))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Message(&DownlinkNASTransport{IDs: ids, NAS: status}), got, equal); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// A mandatory IE of criticality ignore that is missing does not stop the message
// (TS 38.413 clause 10.3.5).
func TestMissingIgnored(t *testing.T) {
	got, err := Decode(replaceIE(t, "uplink NAS transport", func(l []rawIE) []rawIE { return l[:3] }))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Message(&UplinkNASTransport{IDs: ids, NAS: status}), got, equal); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// Extension containers within IEs carry what later releases added: here the
// configured TAC indication (272) in a supported TA, and one that does not exist.
func TestExtensionsSteppedOver(t *testing.T) {
	for _, id := range []string{"0110", "fffe"} {
		list := "00 40 000001 00 00f110 0000 0008 0000" + id + "400100"
		got, err := Decode(replaceIE(t, "NG setup request, 22-bit gNB ID", func(l []rawIE) []rawIE {
			l[1].value = unhex(t, list)
			return l
		}))
		if err != nil {
			t.Fatal(err)
		}
		want := []SupportedTA{{TAC: 1, Broadcast: []BroadcastPLMN{{PLMN: plmn2, Slices: []ident.SNSSAI{{SST: 1}}}}}}
		if d := cmp.Diff(want, got.(*NGSetupRequest).Supported, equal); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
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
	gnb := ident.GNBID{PLMN: plmn2, Value: 1, Bits: 24}
	tas := []SupportedTA{{TAC: 1, Broadcast: []BroadcastPLMN{{PLMN: plmn2, Slices: []ident.SNSSAI{slice}}}}}
	for _, c := range []struct {
		name string
		msg  Message
	}{
		{"nil", nil},
		{"nil pointer", (*NGReset)(nil)},
		{"gNB ID of 21 bits", &NGSetupRequest{GNB: ident.GNBID{PLMN: plmn2, Bits: 21}, Supported: tas}},
		{"gNB ID too large", &NGSetupRequest{GNB: ident.GNBID{PLMN: plmn2, Value: 1 << 24, Bits: 24}, Supported: tas}},
		{"no TA", &NGSetupRequest{GNB: gnb}},
		{"DRX of no such value", &NGSetupRequest{GNB: gnb, Supported: tas, DefaultDRX: 100}},
		{"no GUAMI", &NGSetupResponse{AMFName: "a", PLMNs: tas[0].Broadcast}},
		{"no AMF name", &NGSetupResponse{GUAMIs: []ident.GUAMI{guami}, PLMNs: tas[0].Broadcast}},
		{"no cause", &NGSetupFailure{}},
		{"time to wait of 3 s", &NGSetupFailure{Cause: MiscUnspecified, TimeToWait: 3}},
		{"no NAS", &DownlinkNASTransport{IDs: ids}},
		{"AMF UE NGAP ID of 41 bits", &DownlinkNASTransport{IDs: UEIDs{AMF: 1 << 40}, NAS: status}},
		{"no location", &UplinkNASTransport{IDs: ids, NAS: status}},
		{"NAS too long for one piece", &DownlinkNASTransport{IDs: ids, NAS: make([]byte, 1<<14)}},
		{"no allowed slice", &InitialContextSetupRequest{IDs: ids, GUAMI: guami}},
		{"no session", &PDUSessionResourceSetupRequest{IDs: ids}},
		{"neither cause nor diagnostics", &ErrorIndication{IDs: PartialIDs{AMF: ptr(int64(7))}}},
		{"connection without identifier", &NGResetAcknowledge{Connections: make([]PartialIDs, 1)}},
		{"too many connections", &NGReset{Cause: MiscUnspecified, Connections: make([]PartialIDs, 5000)}},
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
		m, incomplete, err := decode(slices.Clone(pdu))
		if err != nil {
			if _, ok := errors.AsType[*DecodeError](err); !ok {
				t.Fatalf("%T is not a *DecodeError", err)
			}
			return
		}
		if e, ok := m.(*ErrorIndication); incomplete || ok && e.Cause == nil && e.Diagnostics == nil {
			return // the sender broke rules that we keep
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

func TestStrings(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{RadioUserInactivity.String(), "radioNetwork: user-inactivity"},
		{NewCause(CauseMisc, 200).String(), "misc: 200"},
		{Cause(0).String(), "no cause"},
		{Cause(0x0901).String(), "cause group 9: 1"},
		{ProcNGSetup.String(), "NGSetup"},
		{ProcedureCode(12).String(), "procedure 12"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	for p := range procedureText {
		if !slices.ContainsFunc(reflect.ValueOf(pduSpecs).MapKeys(), func(k reflect.Value) bool {
			return k.Interface().(pduKey).procedure == p
		}) {
			t.Errorf("%s has no messages", p)
		}
	}
}
