package datapath

import (
	"sync"
	"testing"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/gtpu"
)

// TestRulesChangeUnderTraffic lets packets of both directions meet sessions that are
// set up, changed and removed meanwhile: for the race detector, and to see that a
// change never drops a packet that both rule sets forward.
func TestRulesChangeUnderTraffic(t *testing.T) {
	r, n6 := oneNetwork(t)
	r.apply(basic())
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			s := basic()
			s.FARs[1].Outer.TEID = downTEID + ident.TEID(i%2)
			s.QERs[0].MBR.Uplink = uint64(i%2) * 1e12
			if _, err := r.Apply(s); err != nil {
				t.Error(err)
				return
			}
			// Neighbours come and go in the same tables.
			if _, err := r.Apply(numbered(i%64 + 1)); err != nil {
				t.Error(err)
				return
			}
			if _, err := r.Remove(ident.SEID(i%64 + 2)); err != nil {
				t.Error(err)
				return
			}
			r.Status()
		}
	})
	up, down := gpdu(upTEID, 9, ipPacket(ueAddr, dnAddr, 8)), ipPacket(dnAddr, ueAddr, 8)
	for range 2000 {
		r.up(up)
		readOne(t, n6)
		writeOne(t, n6, down)
		if h, _, err := gtpu.Parse(r.down()); err != nil || h.TEID != downTEID && h.TEID != downTEID+1 {
			t.Fatalf("gNB got %+v, %v", h, err)
		}
	}
	close(stop)
	wg.Wait()
}
