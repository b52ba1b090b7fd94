package sbi

import (
	"context"
	"net/netip"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// calls is every operation of every service with arguments that use every field.
// want is what the implementation must be asked; answer what the caller must get.
var calls = []struct {
	name   string
	call   func(ctx context.Context, c allServices) (any, error)
	want   []any
	answer any // nil for operations without result
}{
	{
		"authenticate",
		func(ctx context.Context, c allServices) (any, error) { return c.Authenticate(ctx, authRequest) },
		[]any{authRequest}, authAnswer,
	},
	{
		"confirm",
		func(ctx context.Context, c allServices) (any, error) { return c.Confirm(ctx, "ctx/1", []byte{1, 2, 3}) },
		[]any{"ctx/1", []byte{1, 2, 3}}, Confirmation{Success: true, SUPI: supi, KSEAF: [32]byte{9, 8}},
	},
	{
		"am-data",
		func(ctx context.Context, c allServices) (any, error) { return c.AccessMobility(ctx, supi) },
		[]any{supi}, AccessMobilityData{
			AMBR: ident.AMBR{Uplink: 1_500_000, Downlink: 2_000_000_000}, DefaultSlices: []ident.SNSSAI{slice1},
			Slices: []ident.SNSSAI{slice1, slice2},
		},
	},
	{
		"sm-data",
		func(ctx context.Context, c allServices) (any, error) {
			return c.SessionManagement(ctx, supi, slice1, "internet")
		},
		[]any{supi, slice1, ident.DNN("internet")}, SessionData{
			Types: []ident.PDUSessionType{ident.IPv6, ident.IPv4}, AMBR: ident.AMBR{Uplink: 1, Downlink: 1_000_001},
			FiveQI: 9, ARPPriority: 8, UEGroup: "east",
			Static: ident.UEAddress{V4: netip.MustParseAddr("10.0.0.7"), V6: netip.MustParsePrefix("2001:db8:1::/64")},
		},
	},
	{
		"register-amf",
		func(ctx context.Context, c allServices) (any, error) {
			return nil, c.RegisterAMF(ctx, supi, AMFRegistration{AMF: "amf-1", GUAMI: guami, PEI: "imei-490154203237518"})
		},
		[]any{supi, AMFRegistration{
			AMF: "amf-1", GUAMI: guami, PEI: "imei-490154203237518",
			Callback: callback + "/namf-callback/v1/imsi-001010000000001/dereg-notify",
		}}, nil,
	},
	{
		"deregister-amf",
		func(ctx context.Context, c allServices) (any, error) { return nil, c.DeregisterAMF(ctx, supi, "amf-1") },
		[]any{supi, NFID("amf-1")}, nil,
	},
	{
		"register-smf",
		func(ctx context.Context, c allServices) (any, error) {
			return nil, c.RegisterSMF(ctx, supi, SMFRegistration{SMF: "smf-1", Session: 5, SNSSAI: slice1, DNN: "internet", PLMN: plmn})
		},
		[]any{supi, SMFRegistration{SMF: "smf-1", Session: 5, SNSSAI: slice1, DNN: "internet", PLMN: plmn}}, nil,
	},
	{
		"deregister-smf",
		func(ctx context.Context, c allServices) (any, error) { return nil, c.DeregisterSMF(ctx, supi, 5) },
		[]any{supi, ident.PDUSessionID(5)}, nil,
	},
	{
		"create-sm-context",
		func(ctx context.Context, c allServices) (any, error) { return c.CreateSMContext(ctx, createRequest) },
		[]any{createRequest}, SMContextRef("ctx/7 ü"),
	},
	{
		"update-sm-context",
		func(ctx context.Context, c allServices) (any, error) {
			return c.UpdateSMContext(ctx, "ctx/7 ü", UpdateSMContext{N2: []byte{1, 0, 2}, N2Type: N2SetupResponse, Location: &place})
		},
		[]any{SMContextRef("ctx/7 ü"), UpdateSMContext{N2: []byte{1, 0, 2}, N2Type: N2SetupResponse, Location: &place}},
		UpdatedSMContext{N1: []byte("--n1\r\n"), N2: []byte{0}, N2Type: N2ReleaseCommand, UPState: UPActivating},
	},
	{
		"release-sm-context",
		func(ctx context.Context, c allServices) (any, error) {
			return nil, c.ReleaseSMContext(ctx, "7", ReleaseDeregistration)
		},
		[]any{SMContextRef("7"), ReleaseDeregistration}, nil,
	},
	{
		"n1-n2-transfer",
		func(ctx context.Context, c allServices) (any, error) { return nil, c.N1N2Transfer(ctx, supi, n1n2) },
		[]any{supi, n1n2}, nil,
	},
	{
		"sm-context-released",
		func(ctx context.Context, c allServices) (any, error) {
			return nil, c.SMContextReleased(ctx, supi, 5, "ctx/7")
		},
		[]any{supi, ident.PDUSessionID(5), SMContextRef("ctx/7")}, nil,
	},
	{
		"deregister",
		func(ctx context.Context, c allServices) (any, error) {
			return nil, c.Deregister(ctx, supi, ReregistrationRequired)
		},
		[]any{supi, ReregistrationRequired}, nil,
	},
	{
		"set-ambr",
		func(ctx context.Context, c allServices) (any, error) {
			return nil, c.SetAMBR(ctx, supi, 5, ident.AMBR{Uplink: 64_000, Downlink: 3})
		},
		[]any{supi, ident.PDUSessionID(5), ident.AMBR{Uplink: 64_000, Downlink: 3}}, nil,
	},
	{
		"release",
		func(ctx context.Context, c allServices) (any, error) { return nil, c.Release(ctx, supi, 5) },
		[]any{supi, ident.PDUSessionID(5)}, nil,
	},
	{
		"recreate",
		func(ctx context.Context, c allServices) (any, error) { return nil, c.Recreate(ctx, supi, 5) },
		[]any{supi, ident.PDUSessionID(5)}, nil,
	},
	{
		"sessions-of",
		func(ctx context.Context, c allServices) (any, error) { return c.SessionsOf(ctx, supi) },
		[]any{supi}, []SessionInfo{{
			SUPI: supi, PEI: "imeisv-4370816125816151", Session: 5, DNN: "internet", SNSSAI: slice1, Address: address, UPF: "upf1",
			AMBR: ident.AMBR{Uplink: 1000, Downlink: 2}, Location: place, State: "active", Created: noon,
			Used: UsedUnits{1, 2, 3, 4, noon, noon.Add(time.Minute)},
		}},
	},
	{
		"sessions-of-all",
		func(ctx context.Context, c allServices) (any, error) { return c.SessionsOf(ctx, "") },
		[]any{ident.SUPI("")}, []SessionInfo{},
	},
	{
		"subscriptions",
		func(ctx context.Context, c allServices) (any, error) { return c.Subscriptions(ctx) },
		nil, []Subscription{subscribed, {SUPI: supi}},
	},
	{
		"subscription",
		func(ctx context.Context, c allServices) (any, error) { return c.Subscription(ctx, supi) },
		[]any{supi}, subscribed,
	},
	{
		"provision",
		func(ctx context.Context, c allServices) (any, error) {
			return c.Provision(ctx, supi, SubscriptionChange{Barred: new(false), Lock: &subscribed.Lock, SessionAMBR: &subscribed.SessionAMBR})
		},
		[]any{supi, SubscriptionChange{Barred: new(false), Lock: &subscribed.Lock, SessionAMBR: &subscribed.SessionAMBR}}, subscribed,
	},
	{
		"provision-unlock",
		func(ctx context.Context, c allServices) (any, error) {
			return c.Provision(ctx, supi, SubscriptionChange{Lock: new(PEILock), SessionAMBR: new(ident.AMBR), UEGroup: new("")})
		},
		[]any{supi, SubscriptionChange{Lock: new(PEILock), SessionAMBR: new(ident.AMBR), UEGroup: new("")}}, Subscription{SUPI: supi},
	},
	{
		"charging-create",
		func(ctx context.Context, c allServices) (any, error) { return c.CreateCharging(ctx, charging(1)) },
		[]any{charging(1)}, ChargingRef("ref/1 ü"),
	},
	{
		"charging-update",
		func(ctx context.Context, c allServices) (any, error) {
			return nil, c.UpdateCharging(ctx, "ref/1 ü", used(charging(2)))
		},
		[]any{ChargingRef("ref/1 ü"), used(charging(2))}, nil,
	},
	{
		"charging-release",
		func(ctx context.Context, c allServices) (any, error) {
			return nil, c.ReleaseCharging(ctx, "ref/1 ü", stopped(used(charging(3))))
		},
		[]any{ChargingRef("ref/1 ü"), stopped(used(charging(3)))}, nil,
	},
	{
		"equipment-status",
		func(ctx context.Context, c allServices) (any, error) {
			return c.CheckEquipment(ctx, supi, "imeisv-4370816125816151")
		},
		[]any{supi, ident.PEI("imeisv-4370816125816151")}, EquipmentBlacklisted,
	},
	{
		"equipment-event",
		func(ctx context.Context, c allServices) (any, error) {
			return nil, c.EquipmentEvent(ctx, equipmentEvent)
		},
		[]any{equipmentEvent}, nil,
	},
}

const callback = "http://amf.example:7777"

var (
	noon       = time.Date(2026, 3, 4, 12, 0, 0, 5000, time.UTC)
	address    = ident.UEAddress{V4: netip.MustParseAddr("10.0.0.7"), V6: netip.MustParsePrefix("2001:db8:1::/64")}
	subscribed = Subscription{
		SUPI: supi, Barred: true, Lock: PEILock{PEI: "imei-490154203237518", Anonymous: true},
		SessionAMBR: ident.AMBR{Uplink: 64_000, Downlink: 128_000}, UEGroup: "east", AMF: "amf-1", PEI: "imeisv-4370816125816151",
	}
	equipmentEvent = EquipmentEvent{
		ID: "e1", Type: EquipmentRefused, SUPI: supi, PEI: "imeisv-4370816125816151", Old: "imei-490154203237518", At: noon,
	}
)

func charging(sequence uint32) ChargingData {
	return ChargingData{
		SMF: "smf-1", Sequence: sequence, At: noon.Add(time.Second), ChargingID: "00ff-0001", SUPI: supi, PEI: "imeisv-4370816125816151",
		Session: 5, DNN: "internet", SNSSAI: slice1, Address: address, UPF: "upf1", Location: place,
		AMBR: ident.AMBR{Uplink: 1, Downlink: 2_000_000}, Started: noon,
	}
}

func used(d ChargingData) ChargingData {
	d.Used = &UsedUnits{1, 1 << 40, 3, 4, noon, noon.Add(time.Second)}
	return d
}

func stopped(d ChargingData) ChargingData {
	d.Stopped = noon.Add(time.Minute)
	return d
}

type allServices interface {
	Authentication
	SubscriberData
	UEContext
	Sessions
	Communication
	SessionControl
	Provisioning
	Charging
	EquipmentIdentity
	EquipmentEvents
}

var (
	authRequest = AuthenticationRequest{
		SUPIOrSUCI: "suci-0-001-01-0000-0-0-0000000001", ServingNetworkName: plmn.ServingNetworkName(),
		Resync: &Resync{RAND: [16]byte{1}, AUTS: [14]byte{2}},
	}
	authAnswer    = AuthenticationContext{ID: "ctx/1", RAND: [16]byte{1}, AUTN: [16]byte{2}, HXRESStar: [16]byte{3}}
	createRequest = CreateSMContext{
		SUPI: supi, PEI: "imei-490154203237518", Session: 5, DNN: "internet", SNSSAI: slice1,
		AMF: "amf-1", GUAMI: guami, Location: place, N1: []byte{0x2e, 5, 1, 0xc1},
	}
	n1n2 = N1N2Message{Session: 5, N1: []byte{0x2e}, N2: []byte{0, 1}, N2Type: N2SetupRequest, SNSSAI: slice2}
)
