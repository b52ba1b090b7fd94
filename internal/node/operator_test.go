package node

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/nf/sbi"
	"github.com/simreach/simreach/nf/udm"
)

const (
	testSUPI ident.SUPI = "imsi-001010000000001"
	testPEI  ident.PEI  = "imeisv-4901542032375101"
)

// peers are an AMF and a receiver of equipment events.
type peers struct {
	sbi.Communication
	dropped chan sbi.DeregistrationReason
	events  chan sbi.EquipmentEvent
}

func (p *peers) Deregister(_ context.Context, _ ident.SUPI, r sbi.DeregistrationReason) error {
	p.dropped <- r
	return nil
}

func (p *peers) EquipmentEvent(_ context.Context, e sbi.EquipmentEvent) error {
	p.events <- e
	return nil
}

// background runs f until the test ends.
func background(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func client(t *testing.T, at string, o sbi.ClientOptions) *sbi.Client {
	t.Helper()
	c, err := sbi.NewClient("http://"+at, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestOperatorAcrossProcesses: what an operator provisions in a UDM process reaches the
// AMF at the address that it registered with, and refusals of its EIR reach who wants
// to hear of them.
func TestOperatorAcrossProcesses(t *testing.T) {
	p := &peers{dropped: make(chan sbi.DeregistrationReason, 1), events: make(chan sbi.EquipmentEvent, 1)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := sbi.NewServer(sbi.ServerConfig{}, sbi.ServerDeps{Listener: l, Services: sbi.Services{Communication: p, EquipmentEvents: p}})
	if err != nil {
		t.Fatal(err)
	}
	background(t, srv.Run)
	own := "http://" + l.Addr().String()

	role, _ := sample(t, "udm").(*UDM)
	role.UDM = udm.Config{PLMN: role.UDM.PLMN, Subscribers: role.UDM.Subscribers}
	role.SBI, role.EquipmentEvents = testenv.FreePort(t), own
	ready := make(chan struct{})
	background(t, func(ctx context.Context) error {
		return role.Run(ctx, slog.New(slog.DiscardHandler), func() { close(ready) })
	})
	<-ready
	u := client(t, role.SBI.String(), sbi.ClientOptions{CallbackURL: own})

	if err := u.RegisterAMF(t.Context(), testSUPI, sbi.AMFRegistration{AMF: "amf-1", GUAMI: ident.GUAMI{PLMN: role.UDM.PLMN, Region: 1}, PEI: testPEI}); err != nil {
		t.Fatal(err)
	}
	s, err := u.Provision(t.Context(), testSUPI, sbi.SubscriptionChange{Barred: new(true)})
	if err != nil || !s.Barred || s.AMF != "amf-1" || s.PEI != testPEI {
		t.Fatalf("Provision = %+v, %v, want it barred and registered still", s, err)
	}
	within(t, p.dropped, func(r sbi.DeregistrationReason) bool { return r == sbi.SubscriptionWithdrawn })

	lock := sbi.PEILock{PEI: "imei-356938035643809"}
	if _, err := u.Provision(t.Context(), testSUPI, sbi.SubscriptionChange{Barred: new(false), Lock: &lock}); err != nil {
		t.Fatal(err)
	}
	within(t, p.dropped, func(r sbi.DeregistrationReason) bool { return r == sbi.ReregistrationRequired })
	if got, err := u.CheckEquipment(t.Context(), testSUPI, testPEI); err != nil || got != sbi.EquipmentBlacklisted {
		t.Errorf("CheckEquipment = %q, %v, want the device refused", got, err)
	}
	within(t, p.events, func(e sbi.EquipmentEvent) bool {
		return e.Type == sbi.EquipmentRefused && e.SUPI == testSUPI && e.PEI == testPEI && e.Old == lock.PEI
	})
}

func within[T any](t *testing.T, c <-chan T, ok func(T) bool) {
	t.Helper()
	select {
	case v := <-c:
		if !ok(v) {
			t.Errorf("got %+v", v)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("nothing arrived")
	}
}
