package manager_test

import (
	"errors"
	"testing"
	"time"

	"github.com/simreach/simreach/manager"
)

// A relay that attaches again while an entry is being made has the entry in its
// snapshot, but the client is told that it failed: the new session must be told to
// close it, or the port would be open for hours for nobody.
func TestReplacedWhileCreating(t *testing.T) {
	r := start(t, config())
	old, err := r.AttachRelay(outerRelay("outer1", manager.DefaultPorts()))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := old.Next(t.Context()); err != nil || c.Kind != manager.CommandSnapshot {
		t.Fatalf("first command %+v, %v; want the snapshot", c, err)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := r.CreateEntry(t.Context(), op1, request())
		failed <- err
	}()
	if c, err := old.Next(t.Context()); err != nil || c.Kind != manager.CommandOpen {
		t.Fatalf("second command %+v, %v; want open", c, err)
	}
	f := attach(t, r.Service, outerRelay("outer1", manager.DefaultPorts())) // instead of an answer
	if err := <-failed; !errors.Is(err, manager.CodeRelayRefused) {
		t.Fatalf("create: %v; want %s", err, manager.CodeRelayRefused)
	}
	e := create(t, r.Service) // goes through the same queue, after whatever was sent
	if ports := f.openPorts(); len(ports) != 1 || ports[0] != e.Address.Port() {
		t.Errorf("open ports %v; want %d alone", ports, e.Address.Port())
	}
}

// A relay that attaches again while an entry is being revoked: the answer to the
// client still means that the relay has cut.
func TestReplacedWhileDeleting(t *testing.T) {
	r := start(t, config())
	first := attach(t, r.Service, outerRelay("outer1", manager.DefaultPorts()))
	e := create(t, r.Service)
	first.with(func(f *fakeRelay) { f.mute = true })
	done := make(chan error, 1)
	go func() { done <- r.DeleteEntry(t.Context(), op1, e.Address) }()
	for tick := time.Tick(time.Millisecond); ; <-tick {
		var told bool
		first.with(func(f *fakeRelay) { told = f.log[len(f.log)-1].Kind == manager.CommandClose })
		if told {
			break
		}
	}
	second, err := r.AttachRelay(outerRelay("outer1", manager.DefaultPorts()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(second.End)
	if c, err := second.Next(t.Context()); err != nil || c.Kind != manager.CommandSnapshot || len(c.Openings) != 0 {
		t.Errorf("first command %+v, %v; want a snapshot without the entry", c, err)
	}
	c, err := second.Next(t.Context())
	if err != nil || c.Kind != manager.CommandClose || c.EntryID != e.ID {
		t.Errorf("second command %+v, %v; want the entry closed", c, err)
	}
	select {
	case err := <-done:
		t.Errorf("deleted (%v) before the relay answered", err)
	default:
	}
	second.Acknowledge(manager.Acknowledgement{Session: c.Session, ID: c.ID})
	if err := <-done; err != nil {
		t.Error(err)
	}
}
