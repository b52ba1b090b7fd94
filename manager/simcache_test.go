package manager

import (
	"fmt"
	"testing"

	"github.com/simreach/simreach/internal/ident"
)

// What is in use stays when the cache is full, by IMSI and by SIM ID; the rest goes.
func TestSubscriberCache(t *testing.T) {
	c := newSubscriberCache()
	const byIMSI, byID, idle = ident.IMSI("001010000000001"), ident.IMSI("001010000000002"), ident.IMSI("001010000000003")
	c.add(Subscriber{IMSI: byIMSI, OperatorID: "OP1"}, "")
	c.add(Subscriber{IMSI: byID, OperatorID: "OP2"}, "8942")
	c.add(Subscriber{IMSI: idle, OperatorID: "OP1"}, "8943")
	c.add(Subscriber{IMSI: "001010000000004"}, "8944") // nobody's yet
	for i := range 2*maxGeneration + 1 {
		if i%(maxGeneration/4) == 0 {
			if s, ok := c.byIMSI(byIMSI); !ok || s != (Subscriber{byIMSI, "OP1"}) {
				t.Fatalf("by IMSI: %v, %t", s, ok)
			}
			if s, ok := c.bySIM("8942"); !ok || s != (Subscriber{byID, "OP2"}) {
				t.Fatalf("by SIM ID: %v, %t", s, ok)
			}
		}
		c.add(Subscriber{IMSI: ident.IMSI(fmt.Sprintf("00102%010d", i)), OperatorID: "OP3"}, fmt.Sprintf("id %d", i))
	}
	for _, id := range []string{"8943", "8944"} {
		if s, ok := c.bySIM(id); ok {
			t.Errorf("SIM ID %s: %v; want it forgotten", id, s)
		}
	}
	if s, ok := c.byIMSI("001010000000004"); ok {
		t.Errorf("a SIM that is nobody's: %v", s)
	}
	if n := len(c.young.bySIM) + len(c.old.bySIM); n > 2*maxGeneration {
		t.Errorf("%d SIM IDs are kept; want at most %d", n, 2*maxGeneration)
	}
}
