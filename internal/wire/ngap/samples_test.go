package ngap

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/simreach/simreach/internal/ident"
)

var (
	plmn2 = ident.PLMN{MCC: "001", MNC: "01"}
	plmn3 = ident.PLMN{MCC: "310", MNC: "014"}
	slice = ident.SNSSAI{SST: 1, SD: "010203"}
	guami = ident.GUAMI{PLMN: plmn2, Region: 0xca, Set: 0x3f8, Pointer: 0x15}
	ids   = UEIDs{AMF: 7, RAN: 9}
	high  = UEIDs{AMF: 1<<40 - 1, RAN: 1<<32 - 1}
	here  = ident.Location{
		NRCGI: ident.NRCGI{PLMN: plmn2, Cell: 0x123456789},
		TAI:   ident.TAI{PLMN: plmn2, TAC: 0x000102},
	}
	status = []byte{0x7e, 0x00, 0x64, 0x6f} // 5GMM STATUS: a NAS message that dissectors accept
	smNAS  = []byte{0x7e, 0x00, 0x68, 0x01, 0x00, 0x05, 0x2e, 0x05, 0x09, 0xd3, 0x24, 0x12, 0x05}
)

func ptr[T any](v T) *T { return &v }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// transfer returns the octets of a transfer of the samples.
func transfer(v any) []byte {
	b, err := EncodeTransfer(v)
	if err != nil {
		return []byte(err.Error()) // TestTransfers says more
	}
	return b
}

var (
	setupRequest = &SetupRequestTransfer{
		AMBR:   &ident.AMBR{Uplink: 100_000_000, Downlink: 1_000_000_000},
		Uplink: ident.FTEID{Addr: netip.MustParseAddr("192.0.2.1"), TEID: 0x01020304},
		Type:   ident.IPv4,
		Flows:  []QoSFlow{{QFI: 1, FiveQI: 9, ARPPriority: 8}},
	}
	setupResponse = &SetupResponseTransfer{
		Downlink: ident.FTEID{Addr: netip.MustParseAddr("192.0.2.2"), TEID: 0x05060708},
		Flows:    []ident.QFI{1},
	}
	noResources = &UnsuccessfulTransfer{Cause: RadioResourcesNotAvailable}
)

// sample is a message and its octets.
type sample struct {
	name string
	msg  Message
	hex  string
}

// samples has every message at least once, together with every IE we write.
var samples = []sample{
	{"NG setup request", &NGSetupRequest{GNB: ident.GNBID{PLMN: plmn2, Value: 0x000001, Bits: 24}, Name: "gnb1", Supported: []SupportedTA{{TAC: 1, Broadcast: []BroadcastPLMN{{PLMN: plmn2, Slices: []ident.SNSSAI{slice, {SST: 2}}}}}, {TAC: 0xffffff, Broadcast: []BroadcastPLMN{{PLMN: plmn3, Slices: []ident.SNSSAI{{SST: 1}}}}}}, DefaultDRX: 256},
		"0015003f000004001b00080000f11010000001005240060180676e62310066001d01000000010000f110000110080102030010ffffff00130041000000080015400160"},
	{"NG setup request, 22-bit gNB ID", &NGSetupRequest{GNB: ident.GNBID{PLMN: plmn3, Value: 0x3fffff, Bits: 22}, Supported: []SupportedTA{{TAC: 1, Broadcast: []BroadcastPLMN{{PLMN: plmn3, Slices: []ident.SNSSAI{{SST: 1}}}}}}, DefaultDRX: 128},
		"00150025000003001b00080013004100fffffc0066000d000000000100130041000000080015400140"},
	{"NG setup request, 32-bit gNB ID", &NGSetupRequest{GNB: ident.GNBID{PLMN: plmn3, Value: 0xfedcba98, Bits: 32}, Supported: []SupportedTA{{TAC: 1, Broadcast: []BroadcastPLMN{{PLMN: plmn3, Slices: []ident.SNSSAI{{SST: 1}}}}}}, DefaultDRX: 32},
		"00150026000003001b00090013004150fedcba980066000d000000000100130041000000080015400100"},
	{"NG setup response", &NGSetupResponse{AMFName: "amf1", GUAMIs: []ident.GUAMI{guami}, Capacity: 255, PLMNs: []BroadcastPLMN{{PLMN: plmn2, Slices: []ident.SNSSAI{slice}}}},
		"2015002d000004000100060180616d663100600008000000f110cafe1500564001ff0050000b0000f11000001008010203"},
	{"NG setup failure", &NGSetupFailure{Cause: MiscUnknownPLMN, TimeToWait: 10},
		"4015000d000002000f400188006b400130"},
	{"initial UE message", &InitialUEMessage{RAN: 9, NAS: status, Location: here, EstablishmentCause: 3, STMSI: &ident.STMSI{Set: 0x3f8, Pointer: 0x15, TMSI: 0xc0000001}, ContextRequested: true},
		"000f403a00000600550002000900260005047e00646f0079000f4000f110123456789000f110000102005a400118001a00073f8540c00000010070400100"},
	{"downlink NAS transport", &DownlinkNASTransport{IDs: ids, NAS: status},
		"00044018000003000a0002000700550002000900260005047e00646f"},
	{"downlink NAS transport, highest identifiers", &DownlinkNASTransport{IDs: high, NAS: status},
		"0004401f000003000a000680ffffffffff00550005c0ffffffff00260005047e00646f"},
	{"uplink NAS transport", &UplinkNASTransport{IDs: ids, NAS: status, Location: here},
		"002e402b000004000a0002000700550002000900260005047e00646f0079400f4000f110123456789000f110000102"},
	{"NAS non delivery indication", &NASNonDeliveryIndication{IDs: ids, NAS: status, Cause: RadioConnectionWithUELost},
		"0013401e000004000a0002000700550002000900264005047e00646f000f40020540"},
	{"initial context setup request", &InitialContextSetupRequest{IDs: ids, AMBR: &ident.AMBR{Uplink: 1_000_000_000, Downlink: 2_000_000_000}, GUAMI: guami, Sessions: []SessionSetup{{ID: 5, NAS: smNAS, SNSSAI: slice, Transfer: transfer(setupRequest)}}, AllowedNSSAI: []ident.SNSSAI{slice}, EA: 0x0f, IA: 0x0f, SecurityKey: [32]byte([]byte("a key of thirty-two octets, 256 b")[:32]), NAS: status},
		"000e0080b5000009000a00020007005500020009006e000a0c77359400303b9aca00001c00070000f110cafe15004700460040050d7e00680100052e0509d324120540200102032f0000040082000a0c3b9aca003005f5e100008b000a01f0c00002010102030400860001000088000700010000091c00000000050201010203007700091c000e000000000000005e002061206b6579206f66207468697274792d74776f206f63746574732c203235362000264005047e00646f"},
	{"initial context setup request without sessions", &InitialContextSetupRequest{IDs: high, GUAMI: guami, AllowedNSSAI: []ident.SNSSAI{{SST: 1}}, EA: 0x01, IA: 0x05},
		"000e0058000006000a000680ffffffffff00550005c0ffffffff001c00070000f110cafe1500000002000100770009000004000000000000005e00200000000000000000000000000000000000000000000000000000000000000000"},
	{"initial context setup response", &InitialContextSetupResponse{IDs: ids, Sessions: []SessionTransfer{{ID: 5, Transfer: transfer(setupResponse)}}, Failed: []SessionTransfer{{ID: 6, Transfer: transfer(noResources)}}},
		"200e002e000004000a40020007005540020009004840110000050d0003e0c0000202050607080001003740060000060200b0"},
	{"initial context setup failure", &InitialContextSetupFailure{IDs: ids, Failed: []SessionTransfer{{ID: 6, Transfer: transfer(noResources)}}, Cause: RadioUnspecified},
		"400e001f000004000a40020007005540020009008440060000060200b0000f40020000"},
	{"UE context release request", &UEContextReleaseRequest{IDs: ids, Sessions: []ident.PDUSessionID{5, 6}, Cause: RadioUserInactivity},
		"002a401e000004000a00020007005500020009008500050100050006000f40020500"},
	{"UE context release command", &UEContextReleaseCommand{IDs: ids, HasRAN: true, Cause: NASNormalRelease},
		"002900100000020072000400070009000f400140"},
	{"UE context release command, AMF identifier only", &UEContextReleaseCommand{IDs: UEIDs{AMF: 1<<40 - 1}, Cause: NASDeregister},
		"002900120000020072000660ffffffffff000f400148"},
	{"UE context release complete", &UEContextReleaseComplete{IDs: ids, Sessions: []ident.PDUSessionID{5}},
		"20290016000003000a40020007005540020009003c0003000005"},
	{"PDU session resource setup request", &PDUSessionResourceSetupRequest{IDs: ids, AMBR: &ident.AMBR{Uplink: 1_000_000_000, Downlink: 4_000_000_000_000}, Sessions: []SessionSetup{{ID: 5, NAS: smNAS, SNSSAI: slice, Transfer: transfer(setupRequest)}, {ID: 6, SNSSAI: ident.SNSSAI{SST: 2}, Transfer: transfer(setupRequest)}}},
		"001d00809d000004000a00020007005500020009004a007a0140050d7e00680100052e0509d324120540200102032f0000040082000a0c3b9aca003005f5e100008b000a01f0c00002010102030400860001000088000700010000091c00000600402f0000040082000a0c3b9aca003005f5e100008b000a01f0c00002010102030400860001000088000700010000091c00006e400c1403a352944000303b9aca00"},
	{"PDU session resource setup response", &PDUSessionResourceSetupResponse{IDs: ids, Sessions: []SessionTransfer{{ID: 5, Transfer: transfer(setupResponse)}}, Failed: []SessionTransfer{{ID: 6, Transfer: transfer(noResources)}}},
		"201d002e000004000a40020007005540020009004b40110000050d0003e0c0000202050607080001003a40060000060200b0"},
	{"PDU session resource release command", &PDUSessionResourceReleaseCommand{IDs: ids, NAS: smNAS, Sessions: []SessionTransfer{{ID: 5, Transfer: transfer(&ReleaseCommandTransfer{Cause: NASNormalRelease})}}},
		"001c002a000004000a000200070055000200090026400e0d7e00680100052e0509d3241205004f00050000050110"},
	{"PDU session resource release response", &PDUSessionResourceReleaseResponse{IDs: ids, Sessions: []SessionTransfer{{ID: 5, Transfer: transfer(&ReleaseResponseTransfer{})}}},
		"201c0018000003000a40020007005540020009004640050000050100"},
	{"PDU session resource modify request", &PDUSessionResourceModifyRequest{IDs: ids, Sessions: []SessionSetup{{ID: 5, NAS: smNAS, Transfer: transfer(&ModifyRequestTransfer{AMBR: &ident.AMBR{Uplink: 1_000_000, Downlink: 2_000_000}})}}},
		"001a0034000003000a00020007005500020009004000210040050d7e00680100052e0509d32412050f00000100820008081e8480200f4240"},
	{"PDU session resource modify response", &PDUSessionResourceModifyResponse{IDs: ids, Sessions: []SessionTransfer{{ID: 5, Transfer: transfer(&ModifyResponseTransfer{})}}, Failed: []SessionTransfer{{ID: 6, Transfer: transfer(&UnsuccessfulTransfer{Cause: RadioUnknownPDUSessionID})}}},
		"201a0022000004000a40020007005540020009004140050000050100003640060000060200d0"},
	{"NG reset, all", &NGReset{Cause: MiscOMIntervention, All: true},
		"0014000d000002000f4001860058000100"},
	{"NG reset, some", &NGReset{Cause: TransportResourceUnavailable, Connections: []PartialIDs{{AMF: ptr(int64(7)), RAN: ptr(uint32(9))}, {AMF: ptr(int64(1<<40 - 1))}, {RAN: ptr(uint32(1<<32 - 1))}}},
		"0014001d000002000f4001200058001140036007000948ffffffffff2cffffffff"},
	{"NG reset acknowledge", &NGResetAcknowledge{Connections: []PartialIDs{{AMF: ptr(int64(7)), RAN: ptr(uint32(9))}}},
		"2014000c000001006f40050160070009"},
	{"NG reset acknowledge without list", &NGResetAcknowledge{},
		"20140003000000"},
	{"NG setup failure with diagnostics", &NGSetupFailure{Cause: ProtocolAbstractReject, TimeToWait: 10, Diagnostics: &Diagnostics{Procedure: ProcNGSetup, IEs: []IEDiagnostic{{ID: 102, Missing: true}}}},
		"40150019000003000f400162006b400130001340087815000000006640"},
	{"initial context setup failure with diagnostics", &InitialContextSetupFailure{IDs: UEIDs{AMF: 7, RAN: 9}, Cause: ProtocolAbstractReject, Diagnostics: &Diagnostics{Procedure: ProcInitialContextSetup, IEs: []IEDiagnostic{{ID: 94, Missing: true}}}},
		"400e0020000004000a40020007005540020009000f40016200134008780e000000005e40"},
	{"error indication", &ErrorIndication{IDs: PartialIDs{AMF: ptr(int64(7)), RAN: ptr(uint32(9))}, Cause: ptr(ProtocolAbstractReject), Diagnostics: &Diagnostics{Procedure: ProcInitialContextSetup, Triggering: 0, IEs: []IEDiagnostic{{ID: 94, Missing: true}, {ID: 500, Criticality: 2}}}},
		"00094023000004000a40020007005540020009000f4001620013400b780e000100005e4801f400"},
	{"error indication, cause only", &ErrorIndication{Cause: ptr(ProtocolTransferSyntax)},
		"00094008000001000f400160"},
}
