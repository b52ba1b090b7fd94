package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

// RunTogether tests what must hold however many requests come at one time, on stores that
// share one database. open returns them, with nothing in them.
func RunTogether(t *testing.T, open func(t *testing.T) []manager.Store) {
	t.Run("limits", func(t *testing.T) { testLimits(t, open(t)) })
	t.Run("a group that goes while it is joined", func(t *testing.T) { testGroupGoes(t, open(t)) })
}

// testLimits: of requests at one time as many pass as there is room for, no more and no
// fewer.
func testLimits(t *testing.T, stores []manager.Store) {
	ctx := context.WithoutCancel(t.Context())
	ok(t, stores[0].SeedAccount(ctx, manager.Account{OperatorID: op, Created: t0, Updated: t0}, nil))
	ok(t, stores[0].AddGroup(ctx, manager.Group{ID: "g", OperatorID: "OP0000000002"}, 1)) // of others: counts for nothing
	const most, tries = 5, 24
	for _, c := range []struct {
		name string
		add  func(s manager.Store, id string) error
	}{
		{"users", func(s manager.Store, id string) error { return s.AddAccount(ctx, sam(id), most) }},
		{"authentication keys", func(s manager.Store, id string) error {
			return s.AddAuthKey(ctx, manager.AuthKey{ID: id, Owner: manager.Principal{OperatorID: op}, Created: t0}, most)
		}},
		{"roles", func(s manager.Store, id string) error {
			return s.AddRole(ctx, manager.Role{OperatorID: op, ID: id, Permission: "{}", Created: t0, Updated: t0}, most)
		}},
		{"credentials", func(s manager.Store, id string) error {
			return s.AddCredential(ctx, manager.Credential{ID: manager.CredentialID(id), OperatorID: op, Created: t0}, manager.CredentialLimits{InForce: most})
		}},
		{"groups", func(s manager.Store, id string) error {
			return s.AddGroup(ctx, manager.Group{ID: manager.GroupID(id), OperatorID: op}, most)
		}},
		{"event handlers", func(s manager.Store, id string) error { return s.AddHandler(ctx, handler(id), most) }},
	} {
		var added atomic.Int64
		var wg sync.WaitGroup
		for i := range tries {
			wg.Go(func() {
				err := c.add(stores[i%len(stores)], fmt.Sprintf("x%d", i))
				switch {
				case err == nil:
					added.Add(1)
				case !errors.Is(err, manager.ErrTooMany):
					t.Errorf("%s: %v; want ErrTooMany", c.name, err)
				}
			})
		}
		wg.Wait()
		if n := added.Load(); n != most {
			t.Errorf("%s: %d of %d requests at one time were served; want %d", c.name, n, tries, most)
		}
	}
	// A handler does not get past the limit by changing what it watches.
	imsi := handler("y", func(h *manager.EventHandler) { h.Kind, h.Target = manager.TargetIMSI, string(simA) })
	ok(t, stores[0].AddHandler(ctx, imsi, most))
	imsi.Kind, imsi.Target = manager.TargetOperator, string(op)
	is(t, stores[0].PutHandler(ctx, imsi, most), manager.ErrTooMany, "a handler that is turned to a target that has enough")
	got, err := stores[0].Handler(ctx, imsi.ID)
	if err != nil || got.Kind != manager.TargetIMSI {
		t.Errorf("the handler that was refused: %v, %v; want it as it was", got, err)
	}
}

// testGroupGoes: nothing is left that refers to a group that was deleted, whichever of the
// requests is first.
func testGroupGoes(t *testing.T, stores []manager.Store) {
	ctx := context.WithoutCancel(t.Context())
	const sims, rounds = 8, 6
	all := make([]manager.SIM, sims)
	for i := range all {
		all[i] = simOf(ident.IMSI(fmt.Sprintf("00101000000%04d", i)))
	}
	seed(t, stores[0], all...)
	for round := range rounds {
		id := manager.GroupID(fmt.Sprintf("g%d", round))
		ok(t, stores[0].AddGroup(ctx, manager.Group{ID: id, OperatorID: op}, rounds))
		var wg sync.WaitGroup
		allowed := func(what string, err error) {
			if err != nil && !errors.Is(err, manager.ErrNoGroup) {
				t.Errorf("%s: %v; want nothing or ErrNoGroup", what, err)
			}
		}
		for i, sim := range all {
			wg.Go(func() {
				_, _, err := stores[i%len(stores)].UpdateSIM(ctx, sim.IMSI, func(s *manager.SIM) error { s.GroupID = id; return nil })
				allowed("join", err)
			})
		}
		wg.Go(func() {
			h := handler("h"+string(id), func(h *manager.EventHandler) { h.Kind, h.Target = manager.TargetGroup, string(id) })
			allowed("watch", stores[0].AddHandler(ctx, h, 9))
		})
		wg.Go(func() {
			if err := stores[len(stores)-1].DeleteGroup(ctx, id); err != nil {
				t.Errorf("DeleteGroup: %v", err)
			}
		})
		wg.Wait()
		for _, sim := range all {
			if got, err := stores[0].SIMByIMSI(ctx, sim.IMSI); err != nil || got.GroupID != "" {
				t.Errorf("round %d: SIM %s is in group %q, which is gone (%v)", round, sim.IMSI, got.GroupID, err)
			}
		}
		if hs, err := stores[0].Handlers(ctx, op, manager.TargetGroup); err != nil || len(hs) != 0 {
			t.Errorf("round %d: handlers %v of a group that is gone (%v)", round, hs, err)
		}
	}
	// Nor may a SIM be put into another operator's group.
	ok(t, stores[0].AddGroup(ctx, manager.Group{ID: "theirs", OperatorID: "OP0000000002"}, 1))
	_, _, err := stores[0].UpdateSIM(ctx, all[0].IMSI, func(s *manager.SIM) error { s.GroupID = "theirs"; return nil })
	is(t, err, manager.ErrNoGroup, "another operator's group")
}
