package outer

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/manager"
)

// Nothing of connections that were cut at any step stays open.
func TestStepsLeaveNoDescriptor(t *testing.T) {
	sc := startScene(t, askers[0], false, nil)
	silent := testenv.SilentAddress(t)
	waiting, requests := signalInner(t, nil)
	good := sc.ctl.route.Inner
	a := freePort(t)
	sc.snapshot()
	var base int
	for i := range 60 {
		id := manager.EntryID(fmt.Sprintf("e%d", i))
		sc.ctl.change(func(c *control) {
			c.route.EntryID, c.route.Inner = id, []netip.AddrPort{silent, waiting, good, netip.MustParseAddrPort("127.0.0.1:1")}[i%4]
		})
		sc.command(manager.Command{Kind: manager.CommandOpen, Openings: []manager.Opening{opening(id, a, time.Minute)}})
		sc.entry = a
		told := sc.connect()
		switch i % 4 {
		case 0:
			sc.asked(1)
		case 1:
			<-requests
		case 2:
			eventually(t, "it is relayed", func() bool { return sc.Status().Live == 1 })
		}
		sc.command(manager.Command{Kind: manager.CommandClose, EntryID: id, Reason: manager.ReasonRevoked})
		if err := <-told; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client: %v; want a reset", err)
		}
		sc.ctl.change(func(c *control) { c.asked, c.records = nil, nil })
		if i == 9 {
			base = testenv.Descriptors(t)
		}
	}
	eventually(t, "all descriptors are back", func() bool { return testenv.Descriptors(t) <= base+2 }) // those of the test's inner relay may come later
	if !slices.IsSorted(askAgain[:]) {
		t.Error("the pauses do not grow")
	}
}
