package udm

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

// Keys of TS 35.207 set 1 and of TS 33.501 annex C.4.
const (
	testK    = "465b5ce8b199b49faa5f0a2ee238a6bc"
	testOPc  = "cd63cb71954a9f4e48a5994e37a02baf"
	testOP   = "cdc202d5123e20f62b6d676ac72cb318"
	privateA = "c53c22208b61860b06c62e5406a7b330c2b577aa5558981510d128247d38bd1d"
	privateB = "f1ab1074477ebcc7f554ea1c5fc368b1616730155e0041ac447d6301975fecda"
	outputA  = "b2e92f836055a255837debf850b528997ce0201cb82adfe4be1f587d07d8457dcb02352410cddd9e730ef3fa87"
	outputB  = "039aab8376597021e855679a9778ea0b67396e68c66df32c0f41e9acca2da9b9d146a33fc2716ac7dae96aa30a4d"
)

var (
	home    = ident.PLMN{MCC: "001", MNC: "01"}
	snn     = home.ServingNetworkName()
	supi    = ident.SUPI("imsi-001010000000001")
	slice1  = ident.SNSSAI{SST: 1, SD: "0a0b0c"}
	slice2  = ident.SNSSAI{SST: 2}
	cmpAddr = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})
)

func testSubscriber(s ident.SUPI) Subscriber {
	return Subscriber{
		SUPI: s, K: testK, OPc: testOPc, UEGroup: "east",
		Slices: []Slice{
			{SNSSAI: slice2, DNNs: []DNN{{Name: "iot"}}},
			{SNSSAI: ident.SNSSAI{SST: 1, SD: "0A0B0C"}, Default: true, DNNs: []DNN{
				{
					Name: "Internet", Types: []ident.PDUSessionType{ident.IPv4v6, ident.IPv4}, AMBR: ident.AMBR{Uplink: 1000, Downlink: 2000},
					FiveQI: 7, ARPPriority: 3, StaticIPv4: netip.MustParseAddr("10.1.2.3"),
				},
			}},
		},
	}
}

func newUDM(t testing.TB, change func(*Config)) *UDM {
	t.Helper()
	cfg := Config{PLMN: home, Subscribers: []Subscriber{testSubscriber(supi)}}
	if change != nil {
		change(&cfg)
	}
	u, err := New(cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// usim is the least a USIM does: it checks AUTN, keeps the highest SEQ it took, and
// answers.
type usim struct {
	m   *aka.Milenage
	sqn uint64
}

func newUSIM(t testing.TB) *usim {
	k, _ := hex.DecodeString(testK)
	opc, _ := hex.DecodeString(testOPc)
	return &usim{m: aka.NewMilenage([16]byte(k), [16]byte(opc))}
}

var errSynch = errors.New("synch failure")

func (s *usim) answer(c sbi.AuthenticationContext) (resStar []byte, kseaf [32]byte, err error) {
	concealed, amf, mac := aka.SplitAUTN(c.AUTN)
	res, ck, ik, ak := s.m.F2345(c.RAND)
	sqn := aka.SQNFrom(concealed, ak)
	if s.m.F1(c.RAND, sqn, amf) != mac || amf[0]&0x80 == 0 {
		return nil, kseaf, errors.New("MAC failure")
	}
	if sqn>>indBits <= s.sqn>>indBits {
		return nil, kseaf, errSynch
	}
	s.sqn = sqn
	r := aka.RESStar(ck, ik, snn, c.RAND, res[:])
	return r[:], aka.KSEAF(aka.KAUSF(ck, ik, snn, concealed), snn), nil
}

func authenticate(t testing.TB, u *UDM, id string, resync *sbi.Resync) sbi.AuthenticationContext {
	t.Helper()
	c, err := u.Authenticate(t.Context(), sbi.AuthenticationRequest{SUPIOrSUCI: id, ServingNetworkName: snn, Resync: resync})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantProblem(t *testing.T, what string, err error, status int, cause string) {
	t.Helper()
	var p *sbi.Problem
	if !errors.As(err, &p) || p.Status != status || p.Cause != cause {
		t.Errorf("%s: %v, want %d %s", what, err, status, cause)
	}
}

func TestAuthentication(t *testing.T) {
	u, card := newUDM(t, nil), newUSIM(t)
	for i := range uint64(40) { // past one round of IND
		c := authenticate(t, u, "suci-0-001-01-0000-0-0-0000000001", nil)
		res, kseaf, err := card.answer(c)
		if err != nil {
			t.Fatalf("vector %d: %v", i, err)
		}
		if h := aka.HXRESStar(c.RAND, [16]byte(res)); h != c.HXRESStar {
			t.Fatalf("vector %d: HXRES* is not that of the USIM's RES*", i)
		}
		for range 2 { // a repeated confirmation gives the same answer
			got, err := u.Confirm(t.Context(), c.ID, res)
			if err != nil || got != (sbi.Confirmation{Success: true, SUPI: supi, KSEAF: kseaf}) {
				t.Fatalf("vector %d: Confirm = %+v, %v, want success with the USIM's KSEAF", i, got, err)
			}
		}
		if sqn, _ := u.SQN(supi); sqn != (i+1)<<5|(i+1)%32 {
			t.Errorf("SQN = %#x after %d vectors, want SEQ %d and IND %d", sqn, i+1, i+1, (i+1)%32)
		}
	}
}

func TestWrongRES(t *testing.T) {
	u, card := newUDM(t, nil), newUSIM(t)
	c := authenticate(t, u, string(supi), nil)
	res, _, _ := card.answer(c)
	for _, bad := range [][]byte{nil, res[:15], append(res[:15:15], res[15]^1), res} {
		got, err := u.Confirm(t.Context(), c.ID, bad)
		if err != nil || got != (sbi.Confirmation{}) {
			t.Errorf("Confirm(%x) = %+v, %v, want failure: wrong, or after a wrong one", bad, got, err)
		}
	}
	_, err := u.Confirm(t.Context(), "nonsense", res)
	wantProblem(t, "unknown context", err, 404, sbi.CauseContextNotFound)
	if s := u.Status(); s.Counters.WrongRES != 4 || s.Counters.Confirmed != 0 {
		t.Errorf("Status = %+v, want 4 wrong RES*", s)
	}
}

func TestContextsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, card := newUDM(t, nil), newUSIM(t)
		c := authenticate(t, u, string(supi), nil)
		res, _, _ := card.answer(c)
		<-time.After(DefaultAuthContextTTL - time.Nanosecond)
		if got, err := u.Confirm(t.Context(), c.ID, res); err != nil || !got.Success {
			t.Errorf("just before the expiry: %+v, %v, want success", got, err)
		}
		<-time.After(time.Nanosecond)
		_, err := u.Confirm(t.Context(), c.ID, res)
		wantProblem(t, "at the expiry", err, 404, sbi.CauseContextNotFound)
		if s := u.Status(); s.AuthContexts != 0 {
			t.Errorf("%d contexts are left, want none", s.AuthContexts)
		}
	})
}

func TestContextsAreBounded(t *testing.T) {
	u := newUDM(t, func(c *Config) { c.MaxAuthContexts = 3 })
	var ids []string
	for range 5 {
		ids = append(ids, authenticate(t, u, string(supi), nil).ID)
	}
	if s := u.Status(); s.AuthContexts != 3 || s.Counters.Evicted != 2 {
		t.Errorf("Status = %+v, want 3 contexts and 2 evicted", s)
	}
	for i, id := range ids {
		_, err := u.Confirm(t.Context(), id, nil)
		if (err != nil) != (i < 2) {
			t.Errorf("context %d: %v, want the two oldest gone", i, err)
		}
	}
}

func TestResynchronisation(t *testing.T) {
	u, card := newUDM(t, nil), newUSIM(t)
	card.sqn = 1000 << 5 // the home network has restarted
	c := authenticate(t, u, string(supi), nil)
	if _, _, err := card.answer(c); !errors.Is(err, errSynch) {
		t.Fatalf("the USIM says %v, want a synch failure", err)
	}
	auts := aka.BuildAUTS(card.m, c.RAND, card.sqn)
	bad := auts
	bad[13] ^= 1
	_, err := u.Authenticate(t.Context(), sbi.AuthenticationRequest{SUPIOrSUCI: string(supi), ServingNetworkName: snn, Resync: &sbi.Resync{RAND: c.RAND, AUTS: bad}})
	wantProblem(t, "AUTS with a wrong MAC-S", err, 403, sbi.CauseAuthenticationRejected)
	if sqn, _ := u.SQN(supi); sqn>>5 != 1 {
		t.Errorf("SEQ = %d after a false AUTS, want it unmoved", sqn>>5)
	}
	c = authenticate(t, u, string(supi), &sbi.Resync{RAND: c.RAND, AUTS: auts})
	res, _, err := card.answer(c)
	if err != nil {
		t.Fatalf("after resynchronisation the USIM says %v", err)
	}
	if got, err := u.Confirm(t.Context(), c.ID, res); err != nil || !got.Success {
		t.Errorf("Confirm = %+v, %v, want success", got, err)
	}
	if s := u.Status(); s.Counters.Resyncs != 1 || s.Counters.BadAUTS != 1 {
		t.Errorf("Status = %+v, want one resynchronisation and one bad AUTS", s)
	}
}

func TestSQNRules(t *testing.T) {
	for _, c := range []struct {
		why          string
		he, ms, want uint64
	}{
		{"the USIM is ahead", 5 << 5, 9 << 5, 9 << 5},
		{"the USIM has the next one", 5 << 5, 6<<5 | 3, 6<<5 | 3},
		{"the next one is fresh", 5<<5 | 7, 5 << 5, 5<<5 | 7},
		{"just within delta", delta << 5, 1 << 5, delta << 5},
		{"beyond delta", (delta + 1) << 5, 1 << 5, 1 << 5},
	} {
		if got := resyncSQN(c.he, c.ms); got != c.want {
			t.Errorf("%s: resyncSQN(%#x, %#x) = %#x, want %#x", c.why, c.he, c.ms, got, c.want)
		}
	}
	if _, ok := nextSQN(maxSQN); ok {
		t.Error("SEQ wraps")
	}
	u := newUDM(t, func(c *Config) { c.Subscribers[0].SQN = maxSQN })
	_, err := u.Authenticate(t.Context(), sbi.AuthenticationRequest{SUPIOrSUCI: string(supi), ServingNetworkName: snn})
	wantProblem(t, "used up", err, 403, sbi.CauseAuthenticationRejected)
}

func TestIdentities(t *testing.T) {
	c4 := ident.PLMN{MCC: "274", MNC: "012"}
	u := newUDM(t, func(c *Config) {
		c.PLMN, c.ServingNetworks = c4, []ident.PLMN{home}
		c.Subscribers = []Subscriber{testSubscriber("imsi-274012001002086")}
		c.HomeKeys = []HomeKey{{ID: 27, Scheme: "A", PrivateKey: privateA}, {ID: 27, Scheme: "b", PrivateKey: privateB}}
	})
	for _, c := range []struct {
		why, id string
		status  int // 0 means it is our subscriber
		cause   string
	}{
		{"SUPI", "imsi-274012001002086", 0, ""},
		{"null scheme", "suci-0-274-012-678-0-0-001002086", 0, ""},
		{"profile A", "suci-0-274-012-678-1-27-" + outputA, 0, ""},
		{"profile A, upper case", "suci-0-274-012-678-1-27-" + strings.ToUpper(outputA), 0, ""},
		{"profile B", "suci-0-274-012-678-2-27-" + outputB, 0, ""},
		{"profile A, altered", "suci-0-274-012-678-1-27-" + outputA[:88] + "00", 403, sbi.CauseAuthenticationRejected},
		{"profile A, short", "suci-0-274-012-678-1-27-00", 403, sbi.CauseAuthenticationRejected},
		{"profile A, other key", "suci-0-274-012-678-1-26-" + outputA, 403, sbi.CauseAuthenticationRejected},
		{"profile A, not hex", "suci-0-274-012-678-1-27-xyz", 400, sbi.CauseMandatoryIEIncorrect},
		{"unknown scheme", "suci-0-274-012-678-c-27-00", 403, sbi.CauseAuthenticationRejected},
		{"unknown subscriber", "suci-0-274-012-678-0-0-001002087", 404, sbi.CauseUserNotFound},
		{"unknown SUPI", "imsi-274012001002087", 404, sbi.CauseUserNotFound},
		{"another home network", "suci-0-001-01-678-0-0-001002086", 404, sbi.CauseUserNotFound},
		{"nothing", "", 400, sbi.CauseMandatoryIEIncorrect},
		{"not digits", "imsi-27401200100208x", 400, sbi.CauseMandatoryIEIncorrect},
		{"MSIN too long", "suci-0-274-012-678-0-0-00100208600", 400, sbi.CauseMandatoryIEIncorrect},
		{"SUPI type", "suci-1-274-012-678-0-0-001002086", 400, sbi.CauseMandatoryIEIncorrect},
		{"routing indicator", "suci-0-274-012-67890-0-0-001002086", 400, sbi.CauseMandatoryIEIncorrect},
		{"key id", "suci-0-274-012-678-1-256-00", 400, sbi.CauseMandatoryIEIncorrect},
		{"long", strings.Repeat("suci-", 200), 400, sbi.CauseMandatoryIEIncorrect},
	} {
		_, err := u.Authenticate(t.Context(), sbi.AuthenticationRequest{SUPIOrSUCI: c.id, ServingNetworkName: snn})
		if c.status == 0 {
			if err != nil {
				t.Errorf("%s: %v, want a challenge", c.why, err)
			}
			continue
		}
		wantProblem(t, c.why, err, c.status, c.cause)
	}
	for _, network := range []string{c4.ServingNetworkName(), "", strings.ToUpper(snn)} {
		_, err := u.Authenticate(t.Context(), sbi.AuthenticationRequest{SUPIOrSUCI: "imsi-274012001002086", ServingNetworkName: network})
		wantProblem(t, fmt.Sprintf("serving network %q", network), err, 403, sbi.CauseServingNetwork)
	}
}

func TestSubscriptionData(t *testing.T) {
	u := newUDM(t, nil)
	am, err := u.AccessMobility(t.Context(), supi)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sbi.AccessMobilityData{
		AMBR: ident.AMBR{Uplink: Unlimited, Downlink: Unlimited}, DefaultSlices: []ident.SNSSAI{slice1}, Slices: []ident.SNSSAI{slice1, slice2},
	}, am); diff != "" {
		t.Errorf("am-data (-want +got):\n%s", diff)
	}
	am.Slices[0] = ident.SNSSAI{SST: 99} // the caller's own

	got, err := u.SessionManagement(t.Context(), supi, slice1, "INTERNET")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sbi.SessionData{
		Types: []ident.PDUSessionType{ident.IPv4v6, ident.IPv4}, AMBR: ident.AMBR{Uplink: 1000, Downlink: 2000},
		FiveQI: 7, ARPPriority: 3, UEGroup: "east", Static: ident.UEAddress{V4: netip.MustParseAddr("10.1.2.3")},
	}, got, cmpAddr); diff != "" {
		t.Errorf("sm-data (-want +got):\n%s", diff)
	}
	got, err = u.SessionManagement(t.Context(), supi, slice2, "iot")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sbi.SessionData{
		Types: []ident.PDUSessionType{ident.IPv4}, AMBR: ident.AMBR{Uplink: Unlimited, Downlink: Unlimited},
		FiveQI: DefaultFiveQI, ARPPriority: DefaultARPPriority, UEGroup: "east",
	}, got, cmpAddr); diff != "" {
		t.Errorf("sm-data with defaults (-want +got):\n%s", diff)
	}
	_, err = u.SessionManagement(t.Context(), supi, slice2, "internet")
	wantProblem(t, "DNN of another slice", err, 403, sbi.CauseDNNNotAllowed)
	_, err = u.SessionManagement(t.Context(), supi, ident.SNSSAI{SST: 1}, "internet")
	wantProblem(t, "slice without its SD", err, 403, sbi.CauseSNSSAINotAllowed)
	_, err = u.SessionManagement(t.Context(), "imsi-001019", slice1, "internet")
	wantProblem(t, "unknown subscriber", err, 404, sbi.CauseUserNotFound)
	_, err = u.AccessMobility(t.Context(), "imsi-001019")
	wantProblem(t, "unknown subscriber", err, 404, sbi.CauseUserNotFound)
}

func TestRegistrations(t *testing.T) {
	u, ctx := newUDM(t, nil), t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	wantProblem(t, "not registered yet", u.DeregisterAMF(ctx, supi, "a"), 404, sbi.CauseContextNotFound)
	must(u.RegisterAMF(ctx, supi, sbi.AMFRegistration{AMF: "a"}))
	must(u.RegisterAMF(ctx, supi, sbi.AMFRegistration{AMF: "b", PEI: "imei-1"}))
	wantProblem(t, "the AMF before", u.DeregisterAMF(ctx, supi, "a"), 404, sbi.CauseContextNotFound)
	if r, ok := u.Registration(supi); !ok || r.AMF != "b" || r.PEI != "imei-1" {
		t.Errorf("Registration = %+v, %v, want that of b", r, ok)
	}
	must(u.RegisterSMF(ctx, supi, sbi.SMFRegistration{SMF: "s", Session: 1}))
	must(u.RegisterSMF(ctx, supi, sbi.SMFRegistration{SMF: "s", Session: 1}))
	must(u.RegisterSMF(ctx, supi, sbi.SMFRegistration{SMF: "s", Session: 2}))
	if s := u.Status(); s.AMFs != 1 || s.Sessions != 2 {
		t.Errorf("Status = %+v, want one AMF and two sessions", s)
	}
	must(u.DeregisterSMF(ctx, supi, 1))
	wantProblem(t, "gone already", u.DeregisterSMF(ctx, supi, 1), 404, sbi.CauseContextNotFound)
	must(u.DeregisterSMF(ctx, supi, 2))
	must(u.DeregisterAMF(ctx, supi, ""))
	wantProblem(t, "session 16", u.RegisterSMF(ctx, supi, sbi.SMFRegistration{Session: 16}), 400, sbi.CauseMandatoryIEIncorrect)
	for _, err := range []error{
		u.RegisterAMF(ctx, "imsi-001019", sbi.AMFRegistration{}), u.DeregisterAMF(ctx, "imsi-001019", ""),
		u.RegisterSMF(ctx, "imsi-001019", sbi.SMFRegistration{Session: 1}), u.DeregisterSMF(ctx, "imsi-001019", 1),
	} {
		wantProblem(t, "unknown subscriber", err, 404, sbi.CauseUserNotFound)
	}
}

func TestProvisioning(t *testing.T) {
	u, card := newUDM(t, nil), newUSIM(t)
	if err := u.AddSubscriber(testSubscriber(supi)); !errors.Is(err, ErrExists) {
		t.Errorf("adding twice = %v, want ErrExists", err)
	}
	if err := u.UpdateSubscriber(testSubscriber("imsi-001010000000002")); !errors.Is(err, ErrNotFound) {
		t.Errorf("updating nobody = %v, want ErrNotFound", err)
	}
	if err := u.AddSubscriber(Subscriber{SUPI: supi}); !errors.Is(err, ErrConfig) {
		t.Errorf("adding without K = %v, want ErrConfig", err)
	}
	c := authenticate(t, u, string(supi), nil)
	res, _, _ := card.answer(c)

	changed := testSubscriber(supi)
	changed.UEGroup, changed.OPc, changed.OP, changed.SQN = "west", "", testOP, 7<<5
	if err := u.UpdateSubscriber(changed); err != nil {
		t.Fatal(err)
	}
	if sqn, _ := u.SQN(supi); sqn != 1<<5|1 {
		t.Errorf("SQN = %#x after an update with the same keys, want it to go on", sqn)
	}
	if d, _ := u.SessionManagement(t.Context(), supi, slice1, "internet"); d.UEGroup != "west" {
		t.Errorf("group = %q, want the new one", d.UEGroup)
	}
	changed.K = "000102030405060708090a0b0c0d0e0f"
	if err := u.UpdateSubscriber(changed); err != nil {
		t.Fatal(err)
	}
	if sqn, _ := u.SQN(supi); sqn != 7<<5 {
		t.Errorf("SQN = %#x with another K, want the configured one", sqn)
	}
	if err := u.RegisterAMF(t.Context(), supi, sbi.AMFRegistration{AMF: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := u.RemoveSubscriber(supi); err != nil {
		t.Fatal(err)
	}
	if err := u.RemoveSubscriber(supi); !errors.Is(err, ErrNotFound) {
		t.Errorf("removing twice = %v, want ErrNotFound", err)
	}
	if got, err := u.Confirm(t.Context(), c.ID, res); err != nil || got.Success {
		t.Errorf("confirming for a removed subscriber = %+v, %v, want failure", got, err)
	}
	if s := u.Status(); s.Subscribers != 0 || s.AMFs != 0 || len(u.profiles) != 0 {
		t.Errorf("Status = %+v and %d profiles, want nothing left", s, len(u.profiles))
	}
	if _, ok := u.SQN(supi); ok {
		t.Error("a removed subscriber has an SQN")
	}
}

func TestProfilesAreShared(t *testing.T) {
	u := newUDM(t, nil)
	for i := 2; i <= 100; i++ {
		s := testSubscriber(ident.SUPI(fmt.Sprintf("imsi-00101%010d", i)))
		s.Slices[1].DNNs[0].StaticIPv4 = netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		if err := u.AddSubscriber(s); err != nil {
			t.Fatal(err)
		}
	}
	if len(u.profiles) != 1 {
		t.Errorf("100 like subscriptions have %d profiles, want 1", len(u.profiles))
	}
	d, err := u.SessionManagement(t.Context(), "imsi-001010000000007", slice1, "internet")
	if err != nil || d.Static.V4 != netip.AddrFrom4([4]byte{10, 0, 0, 7}) {
		t.Errorf("static address = %v, %v, want the subscriber's own", d.Static.V4, err)
	}
}

func TestConcurrentUse(t *testing.T) {
	u := newUDM(t, nil)
	var wg sync.WaitGroup
	seen := make(chan [16]byte, 80)
	for range 8 {
		wg.Go(func() {
			for range 10 {
				c := authenticate(t, u, string(supi), nil)
				seen <- c.AUTN
				_, _ = u.Confirm(t.Context(), c.ID, nil)
				_, _ = u.AccessMobility(t.Context(), supi)
				_ = u.RegisterAMF(t.Context(), supi, sbi.AMFRegistration{})
				u.Status()
			}
		})
	}
	wg.Wait()
	if sqn, _ := u.SQN(supi); sqn>>5 != 80 {
		t.Errorf("SEQ = %d after 80 vectors, want each to have its own", sqn>>5)
	}
}

func TestCancelledContext(t *testing.T) {
	u := newUDM(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, e1 := u.Authenticate(ctx, sbi.AuthenticationRequest{})
	_, e2 := u.Confirm(ctx, "", nil)
	_, e3 := u.AccessMobility(ctx, supi)
	_, e4 := u.SessionManagement(ctx, supi, slice1, "")
	for _, err := range []error{
		e1, e2, e3, e4, u.RegisterAMF(ctx, supi, sbi.AMFRegistration{}), u.DeregisterAMF(ctx, supi, ""),
		u.RegisterSMF(ctx, supi, sbi.SMFRegistration{}), u.DeregisterSMF(ctx, supi, 1),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("with a cancelled context: %v", err)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	var b strings.Builder
	log := slog.New(slog.NewTextHandler(&b, nil))
	s := testSubscriber(supi)
	log.Info("x", "s", s, "k", s.K)
	fmt.Fprintf(&b, "%v %+v %#v %s", s, s, s, s.K)
	if text := b.String(); strings.Contains(text, testK) || strings.Contains(text, testOPc) {
		t.Errorf("a key was printed: %s", text)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	u := newUDM(b, nil)
	req := sbi.AuthenticationRequest{SUPIOrSUCI: string(supi), ServingNetworkName: snn}
	for b.Loop() {
		if _, err := u.Authenticate(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAddSubscriber(b *testing.B) {
	u := newUDM(b, nil)
	for i := 2; b.Loop(); i++ {
		if err := u.AddSubscriber(testSubscriber(ident.SUPI(fmt.Sprintf("imsi-00101%010d", i)))); err != nil {
			b.Fatal(err)
		}
	}
}
