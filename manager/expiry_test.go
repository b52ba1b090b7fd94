package manager_test

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/manager"
)

// More entries expire at one time than commands fit into a relay's queue, and the relay
// takes none of them: it closes its ports on its own clock, so it keeps its session.
func TestManyExpireAtOnce(t *testing.T) {
	const n = 4200 // the queue has room for 4096
	synctest.Test(t, func(t *testing.T) {
		r := start(t, config())
		at := time.Now().UTC()
		for i := range n {
			e := manager.Entry{
				ID: manager.EntryID(fmt.Sprintf("%026d", i)), OperatorID: op1, IMSI: imsi1, Strategy: manager.IMSIPrioritized, DevicePort: 22, RelayID: "outer1",
				Address: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(40000+i)), Ranges: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")},
				Created: at, Expires: at.Add(time.Second),
			}
			if err := r.store.CreateEntry(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait() // the manager knows of them before the relay comes, so that it opens none
		relay, err := r.AttachRelay(outerRelay("outer1", manager.DefaultPorts()))
		if err != nil {
			t.Fatal(err)
		}
		defer relay.End()
		time.Sleep(2 * time.Minute) // nobody told the manager of them: it looks every minute
		if s, err := r.Status(t.Context()); err != nil || s.Expired != n || s.Entries != 0 {
			t.Errorf("status %+v, %v; want all %d expired", s, err, n)
		}
		select {
		case <-relay.Done():
			t.Error("the relay lost its session")
		default:
		}
	})
}
