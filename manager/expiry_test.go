package manager_test

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/manager"
)

// The quarantine of entries that are deleted before their time is forgotten when it is
// over: nothing need expire for that.
func TestQuarantineOfDeletedEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Quarantine = 10 * time.Minute
		r := start(t, cfg)
		attach(t, r.Service, outerRelay("outer1", wide))
		for range 3 {
			if err := r.DeleteEntry(t.Context(), op1, create(t, r.Service).Address); err != nil {
				t.Fatal(err)
			}
		}
		taken := func() int {
			// As of long ago, what is still kept counts.
			ps, err := r.store.TakenPorts(t.Context(), netip.MustParseAddr("192.0.2.1"), time.Unix(0, 0))
			if err != nil {
				t.Fatal(err)
			}
			return len(ps)
		}
		time.Sleep(9 * time.Minute)
		synctest.Wait()
		if n := taken(); n != 3 {
			t.Errorf("%d ports rest after 9 minutes; want 3", n)
		}
		time.Sleep(2 * time.Minute) // the manager looks every minute
		synctest.Wait()
		if n := taken(); n != 0 {
			t.Errorf("%d ports are kept after their 10 minutes; want none", n)
		}
	})
}

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
