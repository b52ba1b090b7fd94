package nas

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

var (
	plmn2 = ident.PLMN{MCC: "001", MNC: "01"}
	plmn3 = ident.PLMN{MCC: "310", MNC: "014"}
	slice = ident.SNSSAI{SST: 1, SD: "010203"}
	guti  = ident.GUTI{GUAMI: ident.GUAMI{PLMN: plmn2, Region: 0xca, Set: 0x3f8, Pointer: 0x15}, TMSI: 0xc0000001}
	suci  = &SUCI{PLMN: plmn2, RoutingIndicator: "0", SchemeOutput: []byte{0, 0, 0, 0, 0x10}}
	sm5   = SMHeader{PDUSessionID: 5, PTI: 9}
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

// sample is a message and its octets.
type sample struct {
	name     string
	msg      Message
	hex      string
	downlink bool
}

// samples has every message at least once, together with every IE we write.
var samples = []sample{
	{"registration request by SUCI", &RegistrationRequest{RegistrationType: RegistrationInitial, FollowOnRequest: true, NGKSI: NoKey, Identity: MobileIdentity{SUCI: suci}, Capability: &SecurityCapability{EA: 0x0f, IA: 0x0f}},
		"7e004179000d0100f110f0ff000000000000102e02f0f0", false},
	{"registration request, 3-digit MNC, profile A", &RegistrationRequest{RegistrationType: RegistrationInitial, NGKSI: NoKey, Identity: MobileIdentity{SUCI: &SUCI{PLMN: plmn3, RoutingIndicator: "1234", Scheme: 1, KeyID: 27, SchemeOutput: []byte("ephemeral public key, 32 octets!cipher8octettag")}}, Capability: &SecurityCapability{EA: 0x01, IA: 0x06, More: "\xf0\xf0"}},
		"7e0041710037011340102143011b657068656d6572616c207075626c6963206b65792c203332206f637465747321636970686572386f637465747461672e048060f0f0", false},
	{"registration request by GUTI with everything", &RegistrationRequest{RegistrationType: RegistrationMobility, NGKSI: 3, Identity: MobileIdentity{GUTI: &guti}, Capability: &SecurityCapability{EA: 0x0f, IA: 0x0e}, RequestedNSSAI: []ident.SNSSAI{slice, {SST: 2}}, LastVisitedTAI: &ident.TAI{PLMN: plmn3, TAC: 0x000102}, UplinkDataStatus: ptr(SessionSet(1 << 5)), PDUSessionStatus: ptr(SessionSet(1<<5 | 1<<12))},
		"7e004132000bf200f110cafe15c00000012e02f0702f0704010102030102521340100001024002200050022010", false},
	{"registration request with container", &RegistrationRequest{RegistrationType: RegistrationInitial, NGKSI: 0, Identity: MobileIdentity{GUTI: &guti}, Capability: &SecurityCapability{EA: 0x0f, IA: 0x0e}, NASContainer: []byte{0x7e, 0, 0x41, 1, 0, 0xb, 0xf2, 0, 0xf1, 0x10, 0xca, 0xfe, 0x15, 0xc0, 0, 0, 1}},
		"7e004101000bf200f110cafe15c00000012e02f0707100117e004101000bf200f110cafe15c0000001", false},
	{"registration accept", &RegistrationAccept{GUTI: &guti, TAIList: []ident.TAI{{PLMN: plmn2, TAC: 1}, {PLMN: plmn2, TAC: 7}}, AllowedNSSAI: []ident.SNSSAI{slice}, RejectedNSSAI: []ident.SNSSAI{{SST: 3}, {SST: 4, SD: "0a0b0c"}}, PDUSessionStatus: ptr(SessionSet(0)), T3512: time.Hour, T3502: 12 * time.Minute},
		"7e0042010177000bf200f110cafe15c0000001540a0100f110000001000007150504010102031107100340040a0b0c500200005e010616012c", true},
	{"registration accept, TAIs of two PLMNs", &RegistrationAccept{TAIList: []ident.TAI{{PLMN: plmn2, TAC: 1}, {PLMN: plmn3, TAC: 2}}, T3512: TimerDeactivated},
		"7e00420101540d4100f1100000011340100000025e01e0", true},
	{"registration complete", &RegistrationComplete{},
		"7e0043", false},
	{"registration reject", &RegistrationReject{Cause: MMCongestion, T3346: 30 * time.Second, T3502: 6 * time.Minute},
		"7e0044165f010f160126", true},
	{"authentication request", &AuthenticationRequest{NGKSI: 1, ABBA: []byte{0, 0}, RAND: [16]byte([]byte("sixteen octets r")), AUTN: [16]byte([]byte("sixteen octets a"))},
		"7e005601020000217369787465656e206f6374657473207220107369787465656e206f63746574732061", true},
	{"authentication response", &AuthenticationResponse{RESStar: []byte("sixteen octets s")},
		"7e00572d107369787465656e206f63746574732073", false},
	{"authentication failure, synch", &AuthenticationFailure{Cause: MMSynchFailure, AUTS: []byte("fourteen octet")},
		"7e005915300e666f75727465656e206f63746574", false},
	{"authentication failure, MAC", &AuthenticationFailure{Cause: MMMACFailure},
		"7e005914", false},
	{"authentication reject", &AuthenticationReject{},
		"7e0058", true},
	{"identity request", &IdentityRequest{IdentityType: IdentitySUCI},
		"7e005b01", true},
	{"identity response, SUCI", &IdentityResponse{Identity: MobileIdentity{SUCI: suci}},
		"7e005c000d0100f110f0ff00000000000010", false},
	{"identity response, IMEI", &IdentityResponse{Identity: MobileIdentity{PEI: "imei-356938035643809"}},
		"7e005c00083b65390853468390", false},
	{"identity response, IMEISV", &IdentityResponse{Identity: MobileIdentity{PEI: "imeisv-3569380356438091"}},
		"7e005c00093565390853468390f1", false},
	{"identity response, S-TMSI", &IdentityResponse{Identity: MobileIdentity{STMSI: ptr(guti.STMSI())}},
		"7e005c0007f4fe15c0000001", false},
	{"identity response, none", &IdentityResponse{},
		"7e005c000100", false},
	{"security mode command", &SecurityModeCommand{Ciphering: 2, Integrity: 3, NGKSI: 1, Replayed: SecurityCapability{EA: 0x0f, IA: 0x0e}, IMEISVRequested: true, Retransmit: true},
		"7e005d230102f070e1360102", true},
	{"security mode complete", &SecurityModeComplete{PEI: "imeisv-3569380356438091", NASContainer: []byte{0x7e, 0, 0x41, 1, 0, 0xb, 0xf2, 0, 0xf1, 0x10, 0xca, 0xfe, 0x15, 0xc0, 0, 0, 1}},
		"7e005e7700093565390853468390f17100117e004101000bf200f110cafe15c0000001", false},
	{"security mode reject", &SecurityModeReject{Cause: MMSecurityCapabilityMismatch},
		"7e005f17", false},
	{"deregistration request by UE", &DeregistrationRequest{SwitchOff: true, NGKSI: 1, Identity: MobileIdentity{GUTI: &guti}},
		"7e004519000bf200f110cafe15c0000001", false},
	{"deregistration accept to UE", &DeregistrationAccept{},
		"7e0046", true},
	{"deregistration request by network", &DeregistrationRequest{FromNetwork: true, Reregister: true, Cause: MMImplicitlyDeregistered},
		"7e004705580a", true},
	{"deregistration accept to network", &DeregistrationAccept{ToNetwork: true},
		"7e0048", false},
	{"service request", &ServiceRequest{NGKSI: 2, ServiceType: 1, STMSI: guti.STMSI(), UplinkDataStatus: ptr(SessionSet(1 << 1)), PDUSessionStatus: ptr(SessionSet(1<<1 | 1<<15))},
		"7e004c120007f4fe15c00000014002020050020280", false},
	{"service request with container", &ServiceRequest{NGKSI: 2, STMSI: guti.STMSI(), NASContainer: []byte{0x7e, 0, 0x4c, 2, 0, 7, 0xf4, 0xfe, 0x15, 0xc0, 0, 0, 1}},
		"7e004c020007f4fe15c000000171000d7e004c020007f4fe15c0000001", false},
	{"service accept", &ServiceAccept{PDUSessionStatus: ptr(SessionSet(1 << 1)), ReactivationResult: ptr(SessionSet(1 << 2))},
		"7e004e5002020026020400", true},
	{"service reject", &ServiceReject{Cause: MMIdentityCannotBeDerived, PDUSessionStatus: ptr(SessionSet(0))},
		"7e004d0950020000", true},
	{"configuration update command", &ConfigurationUpdateCommand{AckRequested: true, RegistrationRequested: true, GUTI: &guti, AllowedNSSAI: []ident.SNSSAI{slice}},
		"7e0054d377000bf200f110cafe15c000000115050401010203", true},
	{"configuration update complete", &ConfigurationUpdateComplete{},
		"7e0055", false},
	{"5GMM status", &MMStatus{Cause: MMTypeNonExistent},
		"7e006461", true},
	{"UL NAS transport", &ULNASTransport{PayloadType: PayloadN1SM, Payload: []byte{0x2e, 5, 9, 0xd1}, PDUSessionID: 5, RequestType: RequestInitial, SNSSAI: &slice, DNN: "internet.example"},
		"7e00670100042e0509d1120581220401010203251108696e7465726e6574076578616d706c65", false},
	{"DL NAS transport", &DLNASTransport{PayloadType: PayloadN1SM, Payload: []byte{0x2e, 5, 9, 0xc3, 26}, PDUSessionID: 5, Cause: MMPayloadNotForwarded, BackOff: time.Hour},
		"7e00680100052e0509c31a1205585a370106", true},
	{"PDU session establishment request", &PDUSessionEstablishmentRequest{SMHeader: sm5, SessionType: ident.IPv4v6, SSCMode: 1, PCO: &PCO{RequestDNSv4: true, RequestDNSv6: true, RequestMTU: true}},
		"2e0509c1ffff93a17b000a80000300000d00001000", false},
	{"PDU session establishment accept, IPv4", &PDUSessionEstablishmentAccept{SMHeader: sm5, SessionType: ident.IPv4, SSCMode: 1, Rules: []QoSRule{{ID: 1, Default: true, Precedence: 255, QFI: 1}}, AMBR: ident.AMBR{Uplink: 100_000_000, Downlink: 1_000_000_000}, Cause: SMIPv4OnlyAllowed, Address: ident.UEAddress{V4: netip.MustParseAddr("10.45.0.7")}, SNSSAI: &slice, DNN: "internet", Flows: []QoSFlow{{QFI: 1, FiveQI: 9}}, PCO: &PCO{DNS: []netip.Addr{netip.MustParseAddr("10.45.0.1"), netip.MustParseAddr("2001:db8::53")}, MTU: 1400}},
		"2e0509c211000901000631310101ff01060b000107001959322905010a2d00072204010102037900060120410101097b002080000d040a2d000100031020010db80000000000000000000000530010020578250908696e7465726e6574", true},
	{"PDU session establishment accept, IPv4v6", &PDUSessionEstablishmentAccept{SMHeader: sm5, SessionType: ident.IPv4v6, SSCMode: 2, Rules: []QoSRule{{ID: 1, Default: true, Precedence: 255, QFI: 5}}, AMBR: ident.AMBR{Uplink: 64_000, Downlink: 256_000_000_000}, Address: ident.UEAddress{V4: netip.MustParseAddr("10.45.0.7"), V6: netip.MustParsePrefix("fe80::1:2:3:4/64")}},
		"2e0509c223000901000631310101ff05060f0001040001290d0300010002000300040a2d0007", true},
	{"PDU session establishment reject", &PDUSessionEstablishmentReject{SMHeader: sm5, Cause: SMMissingOrUnknownDNN, BackOff: 10 * time.Minute},
		"2e0509c31b370194", true},
	{"PDU session modification request", &PDUSessionModificationRequest{SMHeader: sm5, Cause: 44},
		"2e0509c9592c", false},
	{"PDU session modification reject", &PDUSessionModificationReject{SMHeader: sm5, Cause: SMServiceOptionNotSupported},
		"2e0509ca20", true},
	{"PDU session modification command", &PDUSessionModificationCommand{SMHeader: sm5, Cause: SMRegularDeactivation, AMBR: &ident.AMBR{Uplink: 1_000_000, Downlink: 2_000_000}},
		"2e0509cb59242a06060002060001", true},
	{"PDU session modification complete", &PDUSessionModificationComplete{SMHeader: sm5},
		"2e0509cc", false},
	{"PDU session modification command reject", &PDUSessionModificationCommandReject{SMHeader: sm5, Cause: SMInvalidPDUSessionIdentity},
		"2e0509cd2b", false},
	{"PDU session release request", &PDUSessionReleaseRequest{SMHeader: sm5, Cause: SMRegularDeactivation},
		"2e0509d15924", false},
	{"PDU session release reject", &PDUSessionReleaseReject{SMHeader: sm5, Cause: SMInvalidPTI},
		"2e0509d251", true},
	{"PDU session release command", &PDUSessionReleaseCommand{SMHeader: sm5, Cause: SMReactivationRequested},
		"2e0509d327", true},
	{"PDU session release complete", &PDUSessionReleaseComplete{SMHeader: sm5, Cause: SMRegularDeactivation},
		"2e0509d45924", false},
	{"5GSM status", &SMStatus{SMHeader: sm5, Cause: SMProtocolError},
		"2e0509d66f", false},
}
