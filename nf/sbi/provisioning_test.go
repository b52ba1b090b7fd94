package sbi

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// A lock compares what names a device: type allocation code and serial number.
func TestPEILockAllows(t *testing.T) {
	for _, c := range []struct {
		why  string
		lock PEILock
		pei  ident.PEI
		want bool
	}{
		{"no lock", PEILock{}, "imei-490154203237518", true},
		{"no lock, no PEI", PEILock{}, "", true},
		{"the same", PEILock{PEI: "imei-490154203237518"}, "imei-490154203237518", true},
		{"IMEISV of the device", PEILock{PEI: "imei-490154203237518"}, "imeisv-4901542032375101", true},
		{"another software version", PEILock{PEI: "imeisv-4901542032375101"}, "imeisv-4901542032375199", true},
		{"another serial number", PEILock{PEI: "imei-490154203237518"}, "imei-490154203237528", false},
		{"silent", PEILock{PEI: "imei-490154203237518"}, "", false},
		{"silent and tolerated", PEILock{PEI: "imei-490154203237518", Anonymous: true}, "", true},
		{"another, and silence is tolerated", PEILock{PEI: "imei-490154203237518", Anonymous: true}, "imei-490154203237528", false},
	} {
		if got := c.lock.Allows(c.pei); got != c.want {
			t.Errorf("%s: Allows(%q) of %+v = %v, want %v", c.why, c.pei, c.lock, got, c.want)
		}
	}
}

func TestSubscriptionChangeValidate(t *testing.T) {
	for _, pei := range []ident.PEI{"imei-", "imei-49015420323751", "imeisv-490154203237518", "490154203237518", "imei-49015420323751x"} {
		var p *Problem
		if err := (SubscriptionChange{Lock: &PEILock{PEI: pei}}).Validate(); !errors.As(err, &p) || p.Status != 400 {
			t.Errorf("lock to %q: %v, want a Problem 400", pei, err)
		}
	}
}

// The base URL that is cut out of an AMF's callback is the one its client was given.
func TestCallbackBase(t *testing.T) {
	for uri, want := range map[string]string{
		"http://10.0.0.1:8000/namf-callback/v1/imsi-001010000000001/dereg-notify": "http://10.0.0.1:8000",
		"http://amf:1/prefix/namf-callback/v1/imsi-1/dereg-notify":                "http://amf:1/prefix",
	} {
		if got, err := CallbackBase(uri); err != nil || got != want {
			t.Errorf("CallbackBase(%q) = %q, %v, want %q", uri, got, err, want)
		}
	}
	for _, uri := range []string{"", "http://10.0.0.1:8000/other", "ftp://h/namf-callback/v1/x"} {
		if got, err := CallbackBase(uri); !errors.Is(err, ErrConfig) {
			t.Errorf("CallbackBase(%q) = %q, %v, want ErrConfig", uri, got, err)
		}
	}
}

// What was read as a charging request is written and read as the same.
func FuzzChargingData(f *testing.F) {
	for _, d := range []ChargingData{charging(1), used(charging(2)), stopped(used(charging(3)))} {
		b, err := json.Marshal(toCharging(d))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		read := func(b []byte) (ChargingData, error) {
			var doc chargingDataRequest
			in := incoming{message: message{json: b}}
			if err := in.into(&doc); err != nil {
				return ChargingData{}, err
			}
			return doc.data()
		}
		d, err := read(body)
		if err != nil {
			return
		}
		b, err := json.Marshal(toCharging(d))
		if err != nil {
			return // a year that RFC 3339 cannot say
		}
		again, err := read(b)
		if err != nil || again.Sequence != d.Sequence || again.SUPI != d.SUPI || (again.Used == nil) != (d.Used == nil) {
			t.Fatalf("%+v came back as %+v, %v", d, again, err)
		}
	})
}

// receiver answers events with what answer says.
type receiver struct {
	mu     sync.Mutex
	got    []string
	answer func(id string) error
}

func (r *receiver) EquipmentEvent(_ context.Context, e EquipmentEvent) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.answer(e.ID); err != nil {
		return err
	}
	r.got = append(r.got, e.ID)
	return nil
}

// Events arrive in order, whether the receiver is there or not; one that it refuses does
// not hold up the rest.
func TestForwarder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := true
		r := &receiver{answer: func(id string) error {
			switch {
			case away:
				return &UnreachableError{Err: errors.New("away")}
			case id == "b":
				return &Problem{Status: 400}
			}
			return nil
		}}
		f, err := NewForwarder(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		f.Forward(EquipmentEvent{ID: "a"})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		<-f.Ready()
		for _, id := range []string{"b", "c"} {
			f.Forward(EquipmentEvent{ID: id})
		}
		<-time.After(time.Minute)
		if s := f.Status(); s.Waiting != 3 || s.Delivered != 0 || s.Failures < 10 {
			t.Errorf("with the receiver away for a minute: %+v, want 3 events waiting and some attempts", s)
		}
		r.mu.Lock()
		away = false
		r.mu.Unlock()
		<-time.After(forwardRetryMost)
		synctest.Wait()
		r.mu.Lock()
		if want := []string{"a", "c"}; !slices.Equal(r.got, want) {
			t.Errorf("received %q, want %q", r.got, want)
		}
		r.mu.Unlock()
		if s := f.Status(); s.Waiting != 0 || s.Delivered != 2 || s.Dropped != 1 {
			t.Errorf("afterwards: %+v, want 2 delivered and 1 dropped", s)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v, want nil after cancel", err)
		}
	})
	if _, err := NewForwarder(nil, nil); !errors.Is(err, ErrConfig) {
		t.Errorf("without a receiver: %v, want ErrConfig", err)
	}
}
