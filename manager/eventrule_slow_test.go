package manager_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
)

// deafStore does not answer who watches.
type deafStore struct{ manager.Store }

func (deafStore) ActiveHandlers(ctx context.Context, _ []string) ([]manager.EventHandler, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A store that answers no more must not hold up for ever those who change a SIM: their
// own context does not end judging, for what is stored has happened.
func TestJudgingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(t.Context(), store.Config{Path: ":memory:"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		r := startWith(t, config(), st, manager.Deps{Store: deafStore{st}})
		begin := time.Now()
		got, err := r.SetSIMStatus(t.Context(), op1, manager.SIMRef{IMSI: imsi1}, manager.SIMSuspended)
		if err != nil || got.Status != manager.SIMSuspended {
			t.Errorf("SetSIMStatus: %v, %v; want the SIM suspended", got.Status, err)
		}
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("it took %s; want the 10 s that judging has", took)
		}
	})
}
