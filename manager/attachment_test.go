package manager_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/nf/sbi"
)

// following is a manager whose directory follows a fake SMF.
func following(t *testing.T) (*manager.Service, *smf) {
	s := &smf{}
	dir := startDirectory(t, manager.DirectoryConfig{}, s)
	return withDirectory(t, dir), s
}

// withDirectory is a running manager that is asked for attachments only.
func withDirectory(t *testing.T, dir manager.Directory) *manager.Service {
	t.Helper()
	st, err := store.Open(context.WithoutCancel(t.Context()), store.Config{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	m, err := manager.New(config(), manager.Deps{Store: st, Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	<-m.Ready()
	return m
}

func TestAwaitAttachment(t *testing.T) {
	m, s := following(t)
	here := manager.Attachment{UPF: "upf1", Address: netip.MustParseAddr("10.0.0.1")}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	want := func(why string, ctx context.Context, until, attached bool) {
		t.Helper()
		at, ok, err := m.AwaitAttachment(ctx, op1, imsi1, until)
		if err != nil || ok != attached || (attached && at != here) || (!attached && at.Address.IsValid()) {
			t.Errorf("%s: %+v, attached %t, %v; want attached %t", why, at, ok, err, attached)
		}
	}
	want("no time to wait, not attached", ended, true, false)
	want("already as wanted: detached", t.Context(), false, false)

	var wg sync.WaitGroup
	await := func(until bool) {
		for range 10 {
			wg.Go(func() { want("as soon as it is so", t.Context(), until, until) })
		}
	}
	await(true)
	s.notify(event(sbi.SessionEstablished, imsi2, 1, "upf1", "10.0.0.9")) // another device
	s.notify(event(sbi.SessionEstablished, imsi1, 1, "upf1", "10.0.0.1"))
	wg.Wait()
	want("no time to wait, attached", ended, false, true)
	want("already as wanted: attached", ended, true, true)
	await(false)
	s.notify(event(sbi.SessionReleased, imsi1, 1, "upf1", "10.0.0.1"))
	wg.Wait()

	if _, _, err := m.AwaitAttachment(t.Context(), op2, imsi1, true); !errors.Is(err, manager.CodeUnknownSubscriber) {
		t.Errorf("another operator's device: %v; want %s", err, manager.CodeUnknownSubscriber)
	}
	if _, _, err := m.AwaitAttachment(t.Context(), op1, "001019999999999", true); !errors.Is(err, manager.CodeUnknownSubscriber) {
		t.Errorf("nobody's device: %v; want %s", err, manager.CodeUnknownSubscriber)
	}
}

// unlucky is a directory that fails.
type unlucky struct{ places }

func (*unlucky) Lookup(context.Context, ident.IMSI) (manager.Attachment, error) {
	return manager.Attachment{}, errors.New("disk on fire")
}

func TestAwaitAttachmentFails(t *testing.T) {
	_, _, err := withDirectory(t, &unlucky{}).AwaitAttachment(t.Context(), op1, imsi1, true)
	wantCode(t, err, manager.CodeInternal, "a directory that fails")
}

// A device that stays away is answered when the time is over, not before.
func TestAwaitAttachmentGivesUp(t *testing.T) {
	m := withDirectory(t, &places{})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		begin := time.Now()
		_, ok, err := m.AwaitAttachment(ctx, op1, imsi1, true)
		if took := time.Since(begin); err != nil || ok || took != 10*time.Second {
			t.Errorf("attached %t, %v after %s; want not attached after 10 s", ok, err, took)
		}
	})
}
