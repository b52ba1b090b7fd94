package rpc

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/simreach/simreach/manager"
)

// A question that comes when the manager has welcomed the relay, and the line to it is not
// there yet, waits for the line, also where there is no other manager.
func TestQuestionsWaitForTheirLine(t *testing.T) {
	for _, c := range []struct {
		name  string
		comes bool
	}{{"the line comes", true}, {"it does not", false}} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(false, time.Minute)
			defer d.close()
			q := manager.ResolveRequest{Hit: netip.MustParseAddrPort("192.0.2.1:40000")}
			answers := make(chan error, 2)
			ask := func() {
				d.ask(&q, "", time.Now().Add(time.Minute), func(_ manager.Route, err error) { answers <- err })
			}

			ask()
			if err := <-answers; !errors.Is(err, manager.CodeManagerAway) {
				t.Fatalf("without a manager: %v", err)
			}
			d.expect()
			ask()
			select {
			case err := <-answers:
				t.Fatalf("while the line is on its way: %v", err)
			default:
			}
			if !c.comes {
				d.despair()
				if err := <-answers; !errors.Is(err, manager.CodeManagerAway) {
					t.Errorf("without a line after all: %v", err)
				}
				return
			}
			l := newLine(nil, d)
			d.attach([]*line{l})
			d.despair() // too late for that
			if len(l.out) == 0 || len(d.open) != 1 {
				t.Errorf("%d bytes to send for %d questions; want one asked", len(l.out), len(d.open))
			}
		})
	}
}
