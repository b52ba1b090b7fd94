package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/simreach/simreach/manager"
)

var accountTests = []struct {
	name string
	test func(*testing.T, manager.Store)
}{
	{"an account comes back as it was stored", testAccounts},
	{"what is seeded stays as it was changed", testSeedAccounts},
	{"changes of one account do not lose each other", testChangeAccount},
	{"tokens are revoked", testTokens},
	{"authentication keys", testKeys},
	{"roles", testRoles},
	{"messages are taken once", testMessages},
	{"API calls", testCalls},
	{"changes of accounts are told", testAccountChanges},
}

func sam(name string) manager.Account {
	return manager.Account{OperatorID: op, UserName: name, Created: t0, Updated: t0, Generation: 7}
}

func fullAccount() manager.Account {
	return manager.Account{
		OperatorID: op, Email: "a@example.com", Description: "説明 'x' ?", Password: "$argon2id$x", Permission: `{"a":"b"}`, TrustPolicy: "{}",
		MFA:        manager.MFA{Status: manager.MFAActive, Secret: "ABC", Backups: []string{"aa", "bb"}, Step: 1 << 40},
		Generation: t0.UnixMilli(), Created: t0, Updated: t0.Add(time.Hour),
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, err, want error, why string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v; want %v", why, err, want)
	}
}

func same[T any](t *testing.T, got T, err error, want T) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func testAccounts(t *testing.T, s manager.Store) {
	ctx := t.Context()
	root, other := fullAccount(), manager.Account{OperatorID: "OP0000000002", Created: t0, Updated: t0}
	ok(t, s.SeedAccount(ctx, root, nil))
	ok(t, s.SeedAccount(ctx, other, nil))
	got, err := s.Account(ctx, root.Principal())
	same(t, got, err, root)
	got, err = s.AccountByEmail(ctx, root.Email)
	same(t, got, err, root)
	_, err = s.AccountByEmail(ctx, "")
	is(t, err, manager.ErrNotFound, "the email of accounts that have none")
	if err := s.SeedAccount(ctx, manager.Account{OperatorID: "OP0000000003", Email: root.Email}, nil); err == nil {
		t.Error("two operators have one email")
	}
	_, err = s.Account(ctx, sam("ann").Principal())
	is(t, err, manager.ErrNotFound, "nobody")
	for _, n := range []string{"bob", "ann", "cy"} {
		ok(t, s.AddAccount(ctx, sam(n), 9))
	}
	is(t, s.AddAccount(ctx, sam("ann"), 9), manager.ErrExists, "twice")
	ok(t, s.AddAccount(ctx, manager.Account{OperatorID: other.OperatorID, UserName: "ann", Created: t0, Updated: t0}, 1))
	list, err := s.Accounts(ctx, op, "", 2)
	same(t, list, err, []manager.Account{sam("ann"), sam("bob")})
	list, err = s.Accounts(ctx, op, "bob", 2)
	same(t, list, err, []manager.Account{sam("cy")})
	ok(t, s.DeleteAccount(ctx, sam("ann").Principal()))
	is(t, s.DeleteAccount(ctx, sam("ann").Principal()), manager.ErrNotFound, "deleted twice")
	list, err = s.Accounts(ctx, other.OperatorID, "", 9)
	if err != nil || len(list) != 1 {
		t.Errorf("another operator's user of the name: %v, %v", list, err)
	}
	ops, err := s.Operators(ctx)
	same(t, ops, err, []manager.OperatorID{op, "OP0000000002"})
}

func testSeedAccounts(t *testing.T, s manager.Store) {
	ctx := t.Context()
	a := fullAccount()
	key := manager.AuthKey{ID: "k1", Owner: a.Principal(), Hash: "h", Created: t0}
	ok(t, s.SeedAccount(ctx, a, []manager.AuthKey{key}))
	_, err := s.ChangeAccount(ctx, a.Principal(), func(a *manager.Account) error { a.Password = "changed"; return nil })
	ok(t, err)
	ok(t, s.DeleteAuthKey(ctx, a.Principal(), "k1"))
	key2 := key
	key2.ID = "k2"
	ok(t, s.SeedAccount(ctx, a, []manager.AuthKey{key, key2}))
	got, err := s.Account(ctx, a.Principal())
	a.Password = "changed"
	same(t, got, err, a)
	_, err = s.AuthKey(ctx, "k1")
	is(t, err, manager.ErrNotFound, "a key that was deleted")
	keys, err := s.AuthKeys(ctx, a.Principal())
	same(t, keys, err, []manager.AuthKey{key2})
}

func testChangeAccount(t *testing.T, s manager.Store) {
	ctx := t.Context()
	ok(t, s.AddAccount(ctx, sam("ann"), 9))
	p := sam("ann").Principal()
	mine := errors.New("mine")
	_, err := s.ChangeAccount(ctx, p, func(a *manager.Account) error { a.Description = "lost"; return mine })
	is(t, err, mine, "the error of the function")
	_, err = s.ChangeAccount(ctx, sam("bob").Principal(), func(*manager.Account) error { return nil })
	is(t, err, manager.ErrNotFound, "nobody")
	const n = 20
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			_, err := s.ChangeAccount(context.WithoutCancel(ctx), p, func(a *manager.Account) error { a.MFA.Step++; return nil })
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	a, err := s.Account(ctx, p)
	if err != nil || a.MFA.Step != n || a.Description != "" {
		t.Errorf("after %d changes: step %d, description %q, %v", n, a.MFA.Step, a.Description, err)
	}
}

func testTokens(t *testing.T, s manager.Store) {
	ctx := t.Context()
	root := fullAccount()
	ok(t, s.SeedAccount(ctx, root, nil))
	ok(t, s.AddAccount(ctx, sam("ann"), 9))
	ok(t, s.AddAccount(ctx, sam("bob"), 9))
	generation := func(p manager.Principal) int64 {
		id, err := s.Identity(ctx, p, t0)
		ok(t, err)
		return id.Account.Generation
	}
	ann, bob := sam("ann").Principal(), sam("bob").Principal()
	ok(t, s.RevokeTokens(ctx, ann, false))
	if generation(ann) != 8 || generation(bob) != 7 {
		t.Error("revoking one user's tokens is about that user")
	}
	ok(t, s.RevokeTokens(ctx, root.Principal(), true))
	if generation(ann) != 9 || generation(bob) != 8 || generation(root.Principal()) != root.Generation+1 {
		t.Error("revoking all tokens is about all")
	}
	is(t, s.RevokeTokens(ctx, sam("x").Principal(), false), manager.ErrNotFound, "nobody's")
	at := time.Now().UTC().Truncate(time.Millisecond)
	for range 2 {
		ok(t, s.RevokeToken(ctx, ann, "t1", at.Add(time.Hour)))
	}
	ok(t, s.RevokeToken(ctx, bob, "t2", at.Add(time.Hour)))
	id, err := s.Identity(ctx, ann, at)
	same(t, id.Revoked, err, []string{"t1"})
	id, err = s.Identity(ctx, ann, at.Add(2*time.Hour))
	same(t, id.Revoked, err, nil)
	_, err = s.Identity(ctx, sam("x").Principal(), at)
	is(t, err, manager.ErrNotFound, "nobody's identity")
}

func testKeys(t *testing.T, s manager.Store) {
	ctx := t.Context()
	ok(t, s.AddAccount(ctx, sam("ann"), 9))
	key := func(id string) manager.AuthKey {
		return manager.AuthKey{ID: id, Owner: sam("ann").Principal(), Hash: "h-" + id, Created: t0}
	}
	ok(t, s.AddAuthKey(ctx, key("k1"), 2))
	ok(t, s.AddAuthKey(ctx, key("k2"), 2))
	is(t, s.AddAuthKey(ctx, key("k3"), 2), manager.ErrTooMany, "one too many")
	foreign := key("k4")
	foreign.Owner.UserName = "nobody"
	is(t, s.AddAuthKey(ctx, foreign, 2), manager.ErrNotFound, "nobody's key")
	ok(t, s.UseAuthKeys(ctx, map[string]time.Time{"k1": t0.Add(time.Hour), "unknown": t0}))
	ok(t, s.UseAuthKeys(ctx, map[string]time.Time{"k1": t0})) // an older use changes nothing
	used := key("k1")
	used.LastUsed = t0.Add(time.Hour)
	got, err := s.AuthKey(ctx, "k1")
	same(t, got, err, used)
	is(t, s.DeleteAuthKey(ctx, manager.Principal{OperatorID: op}, "k1"), manager.ErrNotFound, "another account's key")
	ok(t, s.DeleteAuthKey(ctx, key("").Owner, "k1"))
	keys, err := s.AuthKeys(ctx, key("").Owner)
	same(t, keys, err, []manager.AuthKey{key("k2")})
	ok(t, s.DeleteAccount(ctx, key("").Owner))
	_, err = s.AuthKey(ctx, "k2")
	is(t, err, manager.ErrNotFound, "the key of a user that was deleted")
}

func testRoles(t *testing.T, s manager.Store) {
	ctx := t.Context()
	root := fullAccount()
	root.Permission = "default"
	ok(t, s.SeedAccount(ctx, root, nil))
	a := sam("ann")
	a.Permission = "own"
	ok(t, s.AddAccount(ctx, a, 9))
	role := func(id string) manager.Role {
		return manager.Role{OperatorID: op, ID: id, Description: "d", Permission: "p-" + id, Created: t0, Updated: t0}
	}
	ok(t, s.AddRole(ctx, role("r2"), 2))
	ok(t, s.AddRole(ctx, role("r1"), 2))
	is(t, s.AddRole(ctx, role("r3"), 2), manager.ErrTooMany, "one too many")
	is(t, s.AddRole(ctx, role("r1"), 9), manager.ErrExists, "twice")
	ok(t, s.AttachRole(ctx, a.Principal(), "r1"))
	ok(t, s.AttachRole(ctx, a.Principal(), "r1"))
	is(t, s.AttachRole(ctx, a.Principal(), "r9"), manager.ErrNotFound, "an unknown role")
	is(t, s.AttachRole(ctx, sam("bob").Principal(), "r1"), manager.ErrNotFound, "nobody")
	rs, err := s.UserRoles(ctx, a.Principal())
	same(t, rs, err, []manager.Role{role("r1")})
	_, err = s.UserRoles(ctx, sam("bob").Principal())
	is(t, err, manager.ErrNotFound, "nobody's roles")
	users, err := s.RoleUsers(ctx, op, "r1")
	same(t, users, err, []manager.Account{a})
	users, err = s.RoleUsers(ctx, op, "r2")
	same(t, users, err, nil)
	_, err = s.RoleUsers(ctx, op, "r9")
	is(t, err, manager.ErrNotFound, "the users of no role")
	id, err := s.Identity(ctx, a.Principal(), t0)
	same(t, id.Permissions, err, []string{"p-r1", "default", "own"})
	id, err = s.Identity(ctx, root.Principal(), t0)
	same(t, id.Permissions, err, nil)
	is(t, s.DeleteRole(ctx, op, "r1"), manager.ErrExists, "a role that is in use")
	changed := role("r1")
	changed.Permission, changed.Updated = "p2", t0.Add(time.Hour)
	ok(t, s.UpdateRole(ctx, changed))
	got, err := s.Role(ctx, op, "r1")
	same(t, got, err, changed)
	is(t, s.UpdateRole(ctx, role("r9")), manager.ErrNotFound, "an unknown role")
	ok(t, s.DetachRole(ctx, a.Principal(), "r1"))
	is(t, s.DetachRole(ctx, a.Principal(), "r1"), manager.ErrNotFound, "twice")
	ok(t, s.DeleteRole(ctx, op, "r1"))
	rs, err = s.Roles(ctx, op)
	same(t, rs, err, []manager.Role{role("r2")})
}

func testMessages(t *testing.T, s manager.Store) {
	ctx := t.Context()
	message := func(i int) manager.Message {
		at := t0.Add(time.Duration(i) * time.Second)
		return manager.Message{ID: fmt.Sprintf("m%02d", i), OperatorID: op, To: "a", Kind: "k", Token: fmt.Sprint("t", i), Digest: fmt.Sprint("d", i), Created: at, Expires: at.Add(time.Hour)}
	}
	for i := range 5 {
		ok(t, s.AddMessage(ctx, message(i), 3))
	}
	ms, err := s.Messages(ctx, op)
	same(t, ms, err, []manager.Message{message(4), message(3), message(2)})
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, err := s.TakeMessage(context.WithoutCancel(ctx), "d3")
			switch {
			case err == nil:
				taken.Add(1)
			case !errors.Is(err, manager.ErrNotFound):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if taken.Load() != 1 {
		t.Errorf("a message was taken %d times", taken.Load())
	}
	late := message(9999)
	ok(t, s.AddMessage(ctx, late, 3))
	ms, err = s.Messages(ctx, op)
	same(t, ms, err, []manager.Message{late})
}

func testCalls(t *testing.T, s manager.Store) {
	ctx := t.Context()
	var calls []manager.APICall
	for i := range 250 {
		api := []string{"Sim:getSim", "Sim:listSims", "Auth:auth"}[i%3]
		calls = append(calls, manager.APICall{
			ID: fmt.Sprintf("c%03d", i), Principal: manager.Principal{OperatorID: op, UserName: "ann"}, API: api, Path: "/v1/x?", Status: 200, Source: "::1",
			At: t0.Add(time.Duration(i) * time.Second),
		})
	}
	ok(t, s.AddAPICalls(ctx, calls))
	ok(t, s.AddAPICalls(ctx, calls[:3])) // again
	ok(t, s.AddAPICalls(ctx, nil))
	for _, c := range []struct {
		why   string
		q     manager.APICallQuery
		want  int
		first string
	}{
		{"all", manager.APICallQuery{OperatorID: op, Limit: 999}, 250, "c249"},
		{"a page", manager.APICallQuery{OperatorID: op, Limit: 10}, 10, "c249"},
		{"the next one", manager.APICallQuery{OperatorID: op, Limit: 10, Before: "c240"}, 10, "c239"},
		{"one kind", manager.APICallQuery{OperatorID: op, API: "Auth:auth", Limit: 999}, 83, "c248"},
		{"kinds", manager.APICallQuery{OperatorID: op, API: "Sim:*", Limit: 999}, 167, "c249"},
		{"a time", manager.APICallQuery{OperatorID: op, From: t0.Add(10 * time.Second), To: t0.Add(20 * time.Second), Limit: 999}, 10, "c019"},
		{"another operator", manager.APICallQuery{OperatorID: "OP0000000002", Limit: 999}, 0, ""},
	} {
		got, err := s.APICalls(ctx, c.q)
		if err != nil || len(got) != c.want || c.want > 0 && got[0].ID != c.first {
			t.Errorf("%s: %d calls, %v; want %d from %s", c.why, len(got), err, c.want, c.first)
		}
	}
	got, err := s.APICalls(ctx, manager.APICallQuery{OperatorID: op, Limit: 1})
	same(t, got, err, calls[249:])
	n, err := s.PurgeAPICalls(ctx, op, t0.Add(100*time.Second), 60)
	same(t, n, err, 60)
	n, err = s.PurgeAPICalls(ctx, op, t0.Add(100*time.Second), 60)
	same(t, n, err, 40)
}

func testAccountChanges(t *testing.T, s manager.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan manager.Change, 16)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		if err := s.Watch(ctx, func(c manager.Change) { told <- c }); err != nil {
			t.Error(err)
		}
	})
	if c := <-told; c.Kind != manager.ChangeResync {
		t.Fatalf("first change %v", c)
	}
	ok(t, s.AddAccount(t.Context(), sam("ann"), 9))
	if c := <-told; c.Kind != manager.ChangeAccount || c.ID != string(op) {
		t.Errorf("change %v; want the operator's account", c)
	}
}
