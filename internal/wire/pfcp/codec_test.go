package pfcp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/wmnsk/go-pfcp/ie"

	"github.com/simreach/simreach/internal/ident"
)

var cmpOpts = cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}

func ptr[T any](v T) *T { return &v }

var (
	at    = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	late  = time.Date(2040, 1, 2, 3, 4, 5, 0, time.UTC) // after the 32-bit NTP wrap
	node4 = NodeID{Addr: netip.MustParseAddr("10.0.4.1")}
	node6 = NodeID{Addr: netip.MustParseAddr("2001:db8::4")}
	nodeF = NodeID{FQDN: "upf1.core.example"}
	gnb4  = ident.FTEID{Addr: netip.MustParseAddr("10.0.3.2"), TEID: 0x01020304}
	gnb6  = ident.FTEID{Addr: netip.MustParseAddr("2001:db8::3"), TEID: 0xfffffffe}
	ue4   = ident.UEAddress{V4: netip.MustParseAddr("10.45.0.2")}
	ue46  = ident.UEAddress{V4: netip.MustParseAddr("10.45.0.2"), V6: netip.MustParsePrefix("2001:db8:45::/64")}
	ue56  = ident.UEAddress{V6: netip.MustParsePrefix("2001:db8:45::/56")}
)

// ulDL is the rule set of an ordinary PDU session.
func ulDL(pdi PDI, ue ident.UEAddress, forward *Forwarding) Rules {
	action := ActionDrop
	if forward != nil {
		action = ActionForward
	}
	return Rules{
		PDRs: []PDR{
			{ID: 1, Precedence: 255, PDI: pdi, RemoveOuterHeader: true, FAR: 1, QERs: []uint32{1}, URRs: []uint32{1}},
			{ID: 2, Precedence: 255, PDI: PDI{Source: Core, NetworkInstance: "internet", UEAddress: &ue}, FAR: 2, QERs: []uint32{1}, URRs: []uint32{1}},
		},
		FARs: []FAR{
			{ID: 1, Action: ActionForward, Forward: &Forwarding{Destination: ptr(Core), NetworkInstance: "internet"}},
			{ID: 2, Action: action, Forward: forward},
		},
		QERs: []QER{{ID: 1, QFI: 1, MBR: &ident.AMBR{Uplink: 100_000_000, Downlink: 200_000_000}, Gates: &GateStatus{}}},
		URRs: []URR{{ID: 1, Volume: true, Duration: true, Period: 10 * time.Second, VolumeThreshold: 1 << 33}},
	}
}

type sample struct {
	name string
	h    Header
	m    Message
}

// samples holds every message with every field used at least once.
func samples() []sample {
	s := func(seid ident.SEID, seq uint32) Header { return Header{SEID: seid, HasSEID: true, Sequence: seq} }
	n := func(seq uint32) Header { return Header{Sequence: seq} }
	usage := []UsageReport{
		{URR: 1, Sequence: 7, Trigger: TriggerPeriod, Start: at, End: late, UplinkBytes: 1, DownlinkBytes: 1 << 40, UplinkPackets: 3, DownlinkPackets: 4},
		{URR: 2, Sequence: 8, Trigger: TriggerVolume},
		{URR: 3, Sequence: 9, Trigger: TriggerTermination},
		{URR: 4, Sequence: 10, Trigger: TriggerImmediate},
	}
	return []sample{
		{"heartbeat request", n(1), &HeartbeatRequest{Recovery: at}},
		{"heartbeat response", n(maxSequence), &HeartbeatResponse{Recovery: late}},
		{"association setup request", n(2), &AssociationSetupRequest{Node: node4, Recovery: at}},
		{"association setup request by a UPF", n(2), &AssociationSetupRequest{Node: nodeF, Recovery: at, FTUP: true}},
		{"association setup response", n(2), &AssociationSetupResponse{Node: node6, Cause: CauseAccepted, Recovery: at, FTUP: true}},
		{"association release request", n(3), &AssociationReleaseRequest{Node: nodeF}},
		{"association release response", n(3), &AssociationReleaseResponse{Node: node4, Cause: CauseNoAssociation}},
		{"version not supported", n(4), &VersionNotSupported{}},
		{"establishment with CHOOSE", s(0, 5), &SessionEstablishmentRequest{
			Node: node4, FSEID: FSEID{SEID: 1, Addr: node4.Addr},
			Rules: ulDL(PDI{Source: Access, ChooseTEID: true, UEAddress: &ue4, UEIsSource: true, QFI: ptr(ident.QFI(1))}, ue4, nil)}},
		{"establishment with a known F-TEID", s(0, 6), &SessionEstablishmentRequest{
			Node: node4, FSEID: FSEID{SEID: 1, Addr: node4.Addr},
			Rules: ulDL(PDI{Source: Access, FTEID: &gnb4}, ue46, &Forwarding{Destination: ptr(Access), Outer: &gnb4})}},
		{"establishment over IPv6", s(0, 7), &SessionEstablishmentRequest{
			Node: node6, FSEID: FSEID{SEID: 1 << 63, Addr: node6.Addr},
			Rules: ulDL(PDI{Source: Access, ChooseTEID: true, FTEID: &ident.FTEID{Addr: netip.IPv6Unspecified()}}, ue56, &Forwarding{Destination: ptr(Access), Outer: &gnb6})}},
		{"establishment response", s(1, 5), &SessionEstablishmentResponse{
			Node: node4, Cause: CauseAccepted, FSEID: &FSEID{SEID: 2, Addr: node6.Addr},
			Created: []CreatedPDR{{ID: 1, FTEID: gnb4}, {ID: 3, FTEID: gnb6}}}},
		{"establishment refused", s(1, 5), &SessionEstablishmentResponse{Node: node4, Cause: CauseMandatoryIEMissing, OffendingIE: ie.CreateFAR}},
		{"modification to a gNB", s(2, 8), &SessionModificationRequest{
			FSEID: &FSEID{SEID: 9, Addr: node4.Addr},
			Update: Rules{
				PDRs: []PDR{{ID: 2, Precedence: 32, PDI: PDI{Source: Core, UEAddress: &ue4}, FAR: 3, QERs: []uint32{1, 2}}},
				FARs: []FAR{{ID: 2, Action: ActionForward, Forward: &Forwarding{Destination: ptr(Access), Outer: &gnb4, SendEndMarker: true}}},
				QERs: []QER{{ID: 1, MBR: &ident.AMBR{Uplink: 5_000, Downlink: 0}, Gates: &GateStatus{UplinkClosed: true}}},
				URRs: []URR{{ID: 1, Volume: true, VolumeThreshold: 100}},
			},
			QueryURRs: []uint32{1, 2}}},
		{"modification that creates and removes", s(2, 9), &SessionModificationRequest{
			Create: Rules{QERs: []QER{{ID: 2, Gates: &GateStatus{UplinkClosed: true, DownlinkClosed: true}}}, FARs: []FAR{{ID: 9, Action: ActionBuffer | ActionNotify}}},
			Remove: RuleIDs{PDRs: []uint16{3, 4}, FARs: []uint32{5}, QERs: []uint32{6}, URRs: []uint32{7}}}},
		{"update of one parameter each", s(2, 14), &SessionModificationRequest{Update: Rules{
			PDRs: []PDR{{ID: 1, QERs: []uint32{}, URRs: []uint32{}}, {ID: 2, FAR: 7}},
			FARs: []FAR{{ID: 1, Action: ActionDrop}, {ID: 2, Forward: &Forwarding{Outer: &gnb4}}, {ID: 3, Forward: &Forwarding{Destination: ptr(Access)}}},
			QERs: []QER{{ID: 1, MBR: &ident.AMBR{Uplink: 5_000}}, {ID: 2, MBR: &ident.AMBR{}}, {ID: 3, Gates: &GateStatus{}}, {ID: 4, QFI: 3}},
		}}},
		{"modification response", s(1, 8), &SessionModificationResponse{Cause: CauseAccepted, Created: []CreatedPDR{{ID: 3}}, Usage: usage}},
		{"modification refused", s(1, 8), &SessionModificationResponse{Cause: CauseRuleCreationFailure, OffendingIE: ie.PDRID}},
		{"deletion request", s(2, 10), &SessionDeletionRequest{}},
		{"deletion response", s(1, 10), &SessionDeletionResponse{Cause: CauseAccepted, Usage: usage}},
		{"deletion refused", s(0, 10), &SessionDeletionResponse{Cause: CauseSessionNotFound}},
		{"usage report", s(1, 11), &SessionReportRequest{Usage: usage}},
		{"error indication report", s(1, 12), &SessionReportRequest{ErrorIndication: &gnb4}},
		{"downlink data report", s(1, 13), &SessionReportRequest{DownlinkData: 2}},
		{"session report response", s(2, 11), &SessionReportResponse{Cause: CauseAccepted}},
		{"session report refused", s(2, 11), &SessionReportResponse{Cause: CauseMandatoryIEIncorrect, OffendingIE: ie.ReportType}},
	}
}

func TestRoundTrip(t *testing.T) {
	seen := map[MessageType]bool{}
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			b, err := Encode(s.h, s.m)
			if err != nil {
				t.Fatal(err)
			}
			want := s.h
			want.Type = s.m.Type()
			h, m, err := Decode(b)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, h); d != "" {
				t.Errorf("header (-want +got):\n%s", d)
			}
			if d := cmp.Diff(s.m, m, cmpOpts); d != "" {
				t.Errorf("message (-want +got):\n%s", d)
			}
			seen[h.Type] = true
		})
	}
	for typ := range types {
		if !seen[typ] {
			t.Errorf("no sample of %s", typ)
		}
	}
}

// TestGolden pins the bytes of TS 29.244 down for messages whose layout was
// worked out by hand from clauses 7.2.2 and 8.2.
func TestGolden(t *testing.T) {
	for _, tt := range []struct {
		name string
		h    Header
		m    Message
		want string
	}{
		{"heartbeat: 1 January 1970 is 0x83aa7e80 seconds after 1900", Header{Sequence: 1}, &HeartbeatRequest{Recovery: time.Unix(0, 0)},
			"20 01 000c 000001 00  0060 0004 83aa7e80"},
		{"node ID as name: labels, no trailing dot", Header{Sequence: 0x010203}, &AssociationReleaseRequest{Node: NodeID{FQDN: "upf.a"}},
			"20 09 000f 010203 00  003c 0007 02 03 757066 01 61"},
		{"FTUP is bit 5 of the first feature octet", Header{}, &AssociationSetupResponse{Node: node4, Cause: 1, Recovery: time.Unix(0, 0), FTUP: true},
			"20 06 0020 000000 00  003c 0005 00 0a000401  0013 0001 01  0060 0004 83aa7e80  002b 0002 1000"},
		{"deletion: the S flag and a SEID", Header{SEID: 0x1122334455667788, Sequence: 2}, &SessionDeletionRequest{},
			"21 36 000c 1122334455667788 000002 00"},
		{"uplink PDR: F-TEID CH|V4, outer header removal GTP-U/UDP/IPv4, UE address as source", Header{SEID: 1},
			&SessionModificationRequest{Create: Rules{PDRs: []PDR{{ID: 1, Precedence: 255, RemoveOuterHeader: true, FAR: 1,
				PDI: PDI{ChooseTEID: true, UEAddress: &ue4, UEIsSource: true}}}}},
			"21 34 0043 0000000000000001 000000 00" +
				"0001 0033  0038 0002 0001  005f 0002 0000  001d 0004 000000ff" +
				"  0002 0013  0014 0001 00  0015 0001 05  005d 0005 02 0a2d0002  006c 0004 00000001"},
		{"downlink FAR: update, FORW, outer header creation 0x0100, SNDEM", Header{SEID: 1},
			&SessionModificationRequest{Update: Rules{FARs: []FAR{{ID: 2, Action: ActionForward,
				Forward: &Forwarding{Destination: ptr(Access), Outer: &gnb4, SendEndMarker: true}}}}},
			"21 34 003a 0000000000000001 000000 00" +
				"000a 002a  006c 0004 00000002  002c 0002 0200" +
				"  000b 0018  002a 0001 00  0054 000a 0100 01020304 0a000302  0031 0001 02"},
		{"MBR in kbit/s, rounded up", Header{SEID: 1},
			&SessionModificationRequest{Create: Rules{QERs: []QER{{ID: 1, QFI: 9, MBR: &ident.AMBR{Uplink: 1001, Downlink: 1_000_000}}}}},
			"21 34 0030 0000000000000001 000000 00" +
				"0007 0020  006d 0004 00000001  0019 0001 00  001a 000a 0000000002 00000003e8  007c 0001 09"},
		{"update QER: the MBR and nothing else", Header{SEID: 1},
			&SessionModificationRequest{Update: Rules{QERs: []QER{{ID: 1, MBR: &ident.AMBR{Uplink: 1000, Downlink: 2000}}}}},
			"21 34 0026 0000000000000001 000000 00" + "000e 0016  006d 0004 00000001  001a 000a 0000000001 0000000002"},
		{"update QER: no MBR any more, null length of clause 5.6.3", Header{SEID: 1},
			&SessionModificationRequest{Update: Rules{QERs: []QER{{ID: 1, MBR: &ident.AMBR{}}}}},
			"21 34 001c 0000000000000001 000000 00" + "000e 000c  006d 0004 00000001  001a 0000"},
		{"URR: volume, periodic and threshold triggers, total threshold", Header{SEID: 1},
			&SessionModificationRequest{Create: Rules{URRs: []URR{{ID: 1, Volume: true, Period: 1500 * time.Millisecond, VolumeThreshold: 256}}}},
			"21 34 0039 0000000000000001 000000 00" +
				"0006 0029  0051 0004 00000001  003e 0001 02  0025 0003 030000  0040 0004 00000002  001f 0009 01 0000000000000100"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := Encode(tt.h, tt.m)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := hex.EncodeToString(b), strings.ReplaceAll(tt.want, " ", ""); got != want {
				t.Errorf("\n got %s\nwant %s", got, want)
			}
		})
	}
}

func TestTruncated(t *testing.T) {
	for _, s := range samples() {
		b, err := Encode(s.h, s.m)
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(b) {
			_, _, err := Decode(b[:n])
			var de *DecodeError
			if !errors.As(err, &de) {
				t.Fatalf("%s cut to %d of %d octets: got %v, want a DecodeError", s.name, n, len(b), err)
			}
		}
		// The same with a length field that agrees with the datagram: whatever is
		// left is either a complete message or a named fault.
		for n := sessHeaderLen; n < len(b); n++ {
			c := append([]byte(nil), b[:n]...)
			binary.BigEndian.PutUint16(c[2:], uint16(n-lengthFieldBase))
			h, _, err := Decode(c)
			var de *DecodeError
			if err != nil && !errors.As(err, &de) {
				t.Fatalf("%s cut to %d: got %v, want a DecodeError", s.name, n, err)
			}
			if de != nil && (de.Header.Type != s.m.Type() || de.Header.Sequence != h.Sequence || de.Cause < 66 || de.Cause > 69) {
				t.Errorf("%s cut to %d: got %+v, want header and cause 66..69", s.name, n, de)
			}
		}
	}
}

// establishment builds a session establishment request by hand, so that it can
// be wrong in ways that Encode refuses.
func establishment(t *testing.T, ies ...*ie.IE) []byte {
	t.Helper()
	var p []byte
	for _, i := range ies {
		b, err := i.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		p = append(p, b...)
	}
	h := []byte{0x21, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0}
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(p)-lengthFieldBase))
	return append(h, p...)
}

func TestFaults(t *testing.T) {
	node := ie.New(ie.NodeID, []byte{0, 10, 0, 0, 1})
	fseid := ie.NewFSEID(1, []byte{10, 0, 0, 1}, nil)
	far := ie.NewCreateFAR(ie.NewFARID(1), ie.NewApplyAction(1))
	pdr := func(ies ...*ie.IE) *ie.IE { return ie.NewGroupedIE(ie.CreatePDR, ies...) }
	pdi := func(ies ...*ie.IE) *ie.IE { return ie.NewGroupedIE(ie.PDI, ies...) }
	id, prec, farID, src := ie.NewPDRID(1), ie.NewPrecedence(1), ie.NewFARID(1), ie.NewSourceInterface(0)
	good := pdr(id, prec, pdi(src), farID)

	for _, tt := range []struct {
		name  string
		b     []byte
		cause Cause
		ie    uint16
		err   error
	}{
		{"no node ID", establishment(t, fseid, good, far), CauseMandatoryIEMissing, ie.NodeID, ErrMissing},
		{"no F-SEID", establishment(t, node, good, far), CauseMandatoryIEMissing, ie.FSEID, ErrMissing},
		{"no PDR", establishment(t, node, fseid, far), CauseMandatoryIEMissing, ie.CreatePDR, ErrMissing},
		{"no FAR", establishment(t, node, fseid, good), CauseMandatoryIEMissing, ie.CreateFAR, ErrMissing},
		{"PDR without ID", establishment(t, node, fseid, far, pdr(prec, pdi(src), farID)), CauseMandatoryIEMissing, ie.PDRID, ErrMissing},
		{"PDR without precedence", establishment(t, node, fseid, far, pdr(id, pdi(src), farID)), CauseMandatoryIEMissing, ie.Precedence, ErrMissing},
		{"PDR without PDI", establishment(t, node, fseid, far, pdr(id, prec, farID)), CauseMandatoryIEMissing, ie.PDI, ErrMissing},
		{"PDR without FAR ID", establishment(t, node, fseid, far, pdr(id, prec, pdi(src))), CauseConditionalIEMissing, ie.FARID, ErrMissing},
		{"PDI without source", establishment(t, node, fseid, far, pdr(id, prec, pdi(ie.NewQFI(1)), farID)), CauseMandatoryIEMissing, ie.SourceInterface, ErrMissing},
		{"FAR without action", establishment(t, node, fseid, good, ie.NewCreateFAR(farID)), CauseMandatoryIEMissing, ie.ApplyAction, ErrMissing},
		{"FORW without parameters", establishment(t, node, fseid, good, ie.NewCreateFAR(farID, ie.NewApplyAction(2))), CauseConditionalIEMissing, ie.ForwardingParameters, ErrMissing},
		{"QER without gate", establishment(t, node, fseid, good, far, ie.NewCreateQER(ie.NewQERID(1))), CauseMandatoryIEMissing, ie.GateStatus, ErrMissing},
		{"apply action without a flag", establishment(t, node, fseid, good, ie.NewCreateFAR(farID, ie.NewApplyAction(0))), CauseMandatoryIEIncorrect, ie.ApplyAction, ErrIEValue},
		{"null length where nothing can be removed", establishment(t, node, fseid, good, far, ie.NewCreateQER(ie.NewQERID(1), ie.NewUint8IE(ie.GateStatus, 0), ie.New(ie.MBR, nil))), CauseInvalidLength, ie.MBR, ErrIELength},
		{"short F-SEID", establishment(t, node, ie.New(ie.FSEID, []byte{2, 0, 0}), good, far), CauseInvalidLength, ie.FSEID, ErrIELength},
		{"F-SEID without address", establishment(t, node, ie.New(ie.FSEID, make([]byte, 9)), good, far), CauseMandatoryIEIncorrect, ie.FSEID, ErrIEValue},
		{"node ID of unknown kind", establishment(t, ie.New(ie.NodeID, []byte{3, 1}), fseid, good, far), CauseMandatoryIEIncorrect, ie.NodeID, ErrIEValue},
		{"IE longer than the PDI it is in", bytes.Replace(establishment(t, node, fseid, far, good), []byte{0, 20, 0, 1}, []byte{0, 20, 0, 9}, 1), CauseInvalidLength, ie.SourceInterface, ErrIELength},
		{"octets after the last IE", append(establishment(t, node, fseid, good, far), 1), CauseInvalidLength, 0, ErrLength},
		{"version 2", append([]byte{0x41}, establishment(t, node)[1:]...), CauseRejected, 0, ErrVersion},
		{"unknown type", []byte{0x20, 99, 0, 4, 0, 0, 1, 0}, CauseRejected, 0, ErrUnknownType},
		{"session message without SEID", []byte{0x20, 54, 0, 4, 0, 0, 1, 0}, CauseInvalidLength, 0, ErrLength},
		{"nothing", nil, CauseInvalidLength, 0, ErrTooShort},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, m, err := Decode(tt.b)
			var de *DecodeError
			if !errors.As(err, &de) {
				t.Fatalf("got %+v, %v, want a DecodeError", m, err)
			}
			if de.Cause != tt.cause || de.OffendingIE != tt.ie || !errors.Is(err, tt.err) {
				t.Errorf("got cause %d IE %d err %v, want cause %d IE %d err %v", de.Cause, de.OffendingIE, de.Err, tt.cause, tt.ie, tt.err)
			}
			if len(tt.b) >= sessHeaderLen && de.Header.Sequence != 1 {
				t.Errorf("got sequence %d, want 1: the answer needs it", de.Header.Sequence)
			}
		})
	}

	t.Run("unknown IEs are skipped", func(t *testing.T) {
		vendor := ie.New(0x8001, []byte{0, 10, 1, 2})
		if _, _, err := Decode(establishment(t, vendor, node, fseid, good, far, ie.New(999, nil))); err != nil {
			t.Error(err)
		}
	})
	t.Run("a second message may follow with the FO flag", func(t *testing.T) {
		b := append(establishment(t, node, fseid, good, far), 1, 2, 3)
		b[0] |= flagFollowOn
		if _, _, err := Decode(b); err != nil {
			t.Error(err)
		}
	})
	t.Run("DNN as labels, as other control planes send it", func(t *testing.T) {
		ni := ie.New(ie.NetworkInstance, []byte("\x08internet\x03ims"))
		_, m, err := Decode(establishment(t, node, fseid, far, pdr(id, prec, pdi(src, ni), farID)))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.(*SessionEstablishmentRequest).Rules.PDRs[0].PDI.NetworkInstance; got != "internet.ims" {
			t.Errorf("got %q, want internet.ims", got)
		}
	})
}

func TestUnencodable(t *testing.T) {
	for _, tt := range []struct {
		name string
		h    Header
		m    Message
	}{
		{"empty node ID", Header{}, &AssociationReleaseRequest{}},
		{"label over 63 octets", Header{}, &AssociationReleaseRequest{Node: NodeID{FQDN: strings.Repeat("a", 64)}}},
		{"F-SEID without address", Header{}, &SessionModificationRequest{FSEID: &FSEID{SEID: 1}}},
		{"F-TEID without address", Header{}, &SessionReportRequest{ErrorIndication: &ident.FTEID{TEID: 1}}},
		{"FAR without apply action", Header{}, &SessionModificationRequest{Create: Rules{FARs: []FAR{{ID: 1}}}}},
		{"forwarding without destination", Header{}, &SessionModificationRequest{Create: Rules{FARs: []FAR{{ID: 1, Action: ActionForward, Forward: &Forwarding{}}}}}},
		{"QFI over 63", Header{}, &SessionModificationRequest{Create: Rules{QERs: []QER{{QFI: 64}}}}},
		{"empty UE address", Header{}, &SessionModificationRequest{Create: Rules{PDRs: []PDR{{PDI: PDI{UEAddress: &ident.UEAddress{}}}}}}},
		{"sequence over 24 bits", Header{Sequence: 1 << 24}, &VersionNotSupported{}},
	} {
		if _, err := Encode(tt.h, tt.m); !errors.Is(err, ErrUnencodable) {
			t.Errorf("%s: got %v, want ErrUnencodable", tt.name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range samples() {
		b, err := Encode(s.h, s.m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, m, err := Decode(b)
		if err != nil {
			if errors.Is(err, ErrPanic) {
				t.Fatal(err)
			}
			return
		}
		again, err := Encode(h, m)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v\n%+v", err, m)
		}
		h2, m2, err := Decode(again)
		if err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v\n%+v", err, m)
		}
		if d := cmp.Diff(h, h2) + cmp.Diff(m, m2, cmpOpts); d != "" {
			t.Fatalf("decode, encode, decode is not stable:\n%s", d)
		}
	})
}
