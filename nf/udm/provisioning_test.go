package udm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

const (
	pei1 ident.PEI = "imeisv-4901542032375101"
	pei2 ident.PEI = "imeisv-4370816125816151"
)

// testAMF keeps what it was told, and answers err.
type testAMF struct {
	sbi.Communication // the rest is not called
	got               []string
	err               error
}

func (a *testAMF) Deregister(_ context.Context, supi ident.SUPI, r sbi.DeregistrationReason) error {
	a.got = append(a.got, fmt.Sprint(supi, " ", r))
	return a.err
}

type operated struct {
	*UDM
	t      *testing.T
	amf    *testAMF
	events []sbi.EquipmentEvent
}

func newOperated(t *testing.T) *operated {
	t.Helper()
	o := &operated{t: t, amf: &testAMF{}}
	var err error
	o.UDM, err = New(Config{PLMN: home, Subscribers: []Subscriber{testSubscriber(supi)}}, Deps{
		AMF:       func(sbi.AMFRegistration) (sbi.Communication, error) { return o.amf, nil },
		Equipment: func(e sbi.EquipmentEvent) { o.events = append(o.events, e) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *operated) provision(c sbi.SubscriptionChange) sbi.Subscription {
	o.t.Helper()
	s, err := o.Provision(o.t.Context(), supi, c)
	if err != nil {
		o.t.Fatal(err)
	}
	return s
}

func (o *operated) register(pei ident.PEI) {
	o.t.Helper()
	if err := o.RegisterAMF(o.t.Context(), supi, sbi.AMFRegistration{AMF: "amf-1", PEI: pei}); err != nil {
		o.t.Fatal(err)
	}
}

// Barring deregisters the UE and refuses everything until it is lifted.
func TestBarring(t *testing.T) {
	o, ctx := newOperated(t), t.Context()
	o.register(pei1)
	want := sbi.Subscription{SUPI: supi, Barred: true, UEGroup: "east", AMF: "amf-1", PEI: pei1}
	if got := o.provision(sbi.SubscriptionChange{Barred: new(true)}); got != want {
		t.Errorf("Provision = %+v, want %+v", got, want)
	}
	if want := []string{"imsi-001010000000001 SUBSCRIPTION_WITHDRAWN"}; !slices.Equal(o.amf.got, want) {
		t.Errorf("the AMF was told %q, want %q", o.amf.got, want)
	}
	if err := o.DeregisterAMF(ctx, supi, "amf-1"); err != nil {
		t.Errorf("a barred subscriber is deregistered: %v", err)
	}
	wantProblem(t, "register", o.RegisterAMF(ctx, supi, sbi.AMFRegistration{AMF: "amf-1"}), 403, sbi.CauseNoPSSubscription)
	_, err := o.AccessMobility(ctx, supi)
	wantProblem(t, "am-data", err, 403, sbi.CauseNoPSSubscription)
	_, err = o.SessionManagement(ctx, supi, slice1, "internet")
	wantProblem(t, "sm-data", err, 403, sbi.CauseNoPSSubscription)
	if n := o.Status().Counters.Barred; n != 3 {
		t.Errorf("%d requests counted, want 3", n)
	}
	if err := o.UpdateSubscriber(testSubscriber(supi)); err != nil {
		t.Fatal(err)
	}
	if s, err := o.Subscription(ctx, supi); err != nil || !s.Barred {
		t.Errorf("after UpdateSubscriber: %+v, %v, want it barred still", s, err)
	}
	o.provision(sbi.SubscriptionChange{Barred: new(false)})
	o.register(pei1)
	if len(o.amf.got) != 1 {
		t.Errorf("the AMF was told %q, want no more than once", o.amf.got)
	}
}

// An AMF that cannot be told leaves the change in force; one that has lost the UE is
// as good as told.
func TestBarringWithoutAMF(t *testing.T) {
	o := newOperated(t)
	o.register(pei1)
	o.amf.err = errors.New("away")
	if s, err := o.Provision(t.Context(), supi, sbi.SubscriptionChange{Barred: new(true)}); err == nil || !s.Barred {
		t.Errorf("Provision = %+v, %v, want it barred and an error", s, err)
	}
	o.amf.err = nil
	o.provision(sbi.SubscriptionChange{Barred: new(true)})
	if len(o.amf.got) != 2 {
		t.Errorf("the AMF was told %q, want twice", o.amf.got)
	}
	o.amf.err = &sbi.Problem{Status: 404, Cause: sbi.CauseContextNotFound}
	o.provision(sbi.SubscriptionChange{Barred: new(true)})
	if _, ok := o.Registration(supi); ok {
		t.Error("still registered at an AMF that does not know the UE")
	}
	plain := newUDM(t, nil)
	if err := plain.RegisterAMF(t.Context(), supi, sbi.AMFRegistration{AMF: "a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Provision(t.Context(), supi, sbi.SubscriptionChange{Barred: new(true)}); err == nil {
		t.Error("without Deps.AMF: nil, want an error that says so")
	}
}

// A lock is what the EIR answers from; a UE that is registered with another device is
// asked to register again, which shows it why.
func TestPEILock(t *testing.T) {
	o, ctx := newOperated(t), t.Context()
	check := func(why string, pei ident.PEI, want sbi.EquipmentStatus) {
		t.Helper()
		if got, err := o.CheckEquipment(ctx, supi, pei); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", why, got, err, want)
		}
	}
	check("no lock", pei1, sbi.EquipmentWhitelisted)
	o.register(pei1)
	o.provision(sbi.SubscriptionChange{Lock: &sbi.PEILock{PEI: "imei-490154203237518"}})
	if len(o.amf.got) != 0 {
		t.Errorf("the AMF was told %q about the device of the lock", o.amf.got)
	}
	check("the device", pei1, sbi.EquipmentWhitelisted)
	o.provision(sbi.SubscriptionChange{Lock: &sbi.PEILock{PEI: pei2}})
	if want := []string{"imsi-001010000000001 REREGISTRATION_REQUIRED"}; !slices.Equal(o.amf.got, want) {
		t.Errorf("the AMF was told %q, want %q", o.amf.got, want)
	}
	check("another device", pei1, sbi.EquipmentBlacklisted)
	check("silence", "", sbi.EquipmentBlacklisted)
	var got []string
	for _, e := range o.events {
		if e.ID == "" || e.At.IsZero() {
			t.Errorf("event %+v without ID or time", e)
		}
		got = append(got, fmt.Sprint(e.Type, " ", e.SUPI, " ", e.PEI, " ", e.Old))
	}
	if want := []string{
		"SIMREACH_PEI_REFUSED imsi-001010000000001 " + string(pei1) + " " + string(pei2),
		"SIMREACH_PEI_REFUSED imsi-001010000000001  " + string(pei2),
	}; !slices.Equal(got, want) {
		t.Errorf("events\n got %q\nwant %q", got, want)
	}
	o.provision(sbi.SubscriptionChange{Lock: &sbi.PEILock{PEI: pei2, Anonymous: true}})
	check("silence is tolerated", "", sbi.EquipmentWhitelisted)
	o.provision(sbi.SubscriptionChange{Lock: &sbi.PEILock{}})
	check("unlocked", pei1, sbi.EquipmentWhitelisted)
	_, err := o.Provision(ctx, supi, sbi.SubscriptionChange{Lock: &sbi.PEILock{PEI: "imei-1"}})
	wantProblem(t, "a lock that nothing opens", err, 400, sbi.CauseMandatoryIEIncorrect)
	_, err = o.CheckEquipment(ctx, "imsi-001019", pei1)
	wantProblem(t, "unknown subscriber", err, 404, sbi.CauseUserNotFound)
	if n := o.Status().Counters.EquipmentRefused; n != 2 {
		t.Errorf("%d refusals counted, want 2", n)
	}
}

// A subscription seen in another device is news.
func TestPEIChange(t *testing.T) {
	o := newOperated(t)
	for _, pei := range []ident.PEI{pei1, pei1, "", pei1} {
		o.register(pei)
	}
	if len(o.events) != 0 {
		t.Errorf("events %+v, want none for the same device", o.events)
	}
	o.register(pei2)
	if len(o.events) != 1 || o.events[0].Type != sbi.EquipmentChanged || o.events[0].Old != pei1 || o.events[0].PEI != pei2 {
		t.Errorf("events %+v, want the change from one to the other", o.events)
	}
}

// What is provisioned applies to the sessions that come after.
func TestProvisionedSessionData(t *testing.T) {
	o, ctx := newOperated(t), t.Context()
	before, err := o.SessionManagement(ctx, supi, slice1, "internet")
	if err != nil {
		t.Fatal(err)
	}
	o.provision(sbi.SubscriptionChange{SessionAMBR: &ident.AMBR{Uplink: 64_000}, UEGroup: new("west")})
	want := before
	want.AMBR, want.UEGroup = ident.AMBR{Uplink: 64_000, Downlink: Unlimited}, "west"
	if got, err := o.SessionManagement(ctx, supi, slice1, "internet"); err != nil || !cmp.Equal(got, want, cmpAddr) {
		t.Errorf("sm-data %+v, %v, want %+v", got, err, want)
	}
	o.provision(sbi.SubscriptionChange{SessionAMBR: new(ident.AMBR), UEGroup: new("east")})
	if got, err := o.SessionManagement(ctx, supi, slice1, "internet"); err != nil || !cmp.Equal(got, before, cmpAddr) {
		t.Errorf("taken back: %+v, %v, want %+v", got, err, before)
	}
}

func TestSubscriptions(t *testing.T) {
	o, ctx := newOperated(t), t.Context()
	if err := o.AddSubscriber(testSubscriber("imsi-001010000000003")); err != nil {
		t.Fatal(err)
	}
	if err := o.AddSubscriber(testSubscriber("imsi-001010000000002")); err != nil {
		t.Fatal(err)
	}
	list, err := o.Subscriptions(ctx)
	want := []sbi.Subscription{
		{SUPI: supi, UEGroup: "east"}, {SUPI: "imsi-001010000000002", UEGroup: "east"}, {SUPI: "imsi-001010000000003", UEGroup: "east"},
	}
	if err != nil || !slices.Equal(list, want) {
		t.Errorf("Subscriptions = %+v, %v, want %+v", list, err, want)
	}
	_, err = o.Subscription(ctx, "imsi-001019")
	wantProblem(t, "unknown subscriber", err, 404, sbi.CauseUserNotFound)
	_, err = o.Provision(ctx, "imsi-001019", sbi.SubscriptionChange{})
	wantProblem(t, "unknown subscriber", err, 404, sbi.CauseUserNotFound)
}
