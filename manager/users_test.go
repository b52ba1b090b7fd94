package manager_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
)

// meddler is a store to whose accounts something happens between two calls of one request.
type meddler struct {
	*store.Store
	afterAccount, beforeAttach func() // once; nil: nothing
}

func once(f *func()) {
	if do := *f; do != nil {
		*f = nil
		do()
	}
}

func (m *meddler) Account(ctx context.Context, p manager.Principal) (manager.Account, error) {
	a, err := m.Store.Account(ctx, p)
	once(&m.afterAccount)
	return a, err
}

func (m *meddler) AttachRole(ctx context.Context, p manager.Principal, id string) error {
	once(&m.beforeAttach)
	return m.Store.AttachRole(ctx, p, id)
}

func meddled(t *testing.T) (*rig, *meddler) {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	m := &meddler{Store: st}
	return startWith(t, config(), st, manager.Deps{Store: m}), m
}

// A password that is taken or replaced after it was compared is not what it was: nobody
// gets another one for it, and the second factor stays.
func TestPasswordChangedMeanwhile(t *testing.T) {
	r, m := meddled(t)
	ctx := t.Context()
	newUser(t, r, ann)
	m.afterAccount = func() { must(t, r.DeletePassword(ctx, ann)) }
	wantCode(t, r.UpdatePassword(ctx, ann, "password-1", "password-2"), manager.CodeNoPassword, "the password was taken")
	if a, err := r.Account(ctx, ann); err != nil || a.Password != "" {
		t.Errorf("the user has a password again, %v", err)
	}
	must(t, r.CreatePassword(ctx, ann, "password-1"))
	m.afterAccount = func() { must(t, r.UpdatePassword(ctx, ann, "password-1", "password-3")) }
	wantCode(t, r.UpdatePassword(ctx, ann, "password-1", "password-2"), manager.CodeWrongPassword, "the password was replaced")
	must(t, r.UpdatePassword(ctx, ann, "password-3", "password-1"))

	enrol(t, r, ann)
	m.afterAccount = func() { must(t, r.UpdatePassword(ctx, ann, "password-1", "password-3")) }
	password := "password-1"
	wantCode(t, r.RevokeMFA(ctx, ann, &password), manager.CodeWrongPassword, "the password was replaced")
	if a, err := r.Account(ctx, ann); err != nil || a.MFA.Status != manager.MFAActive {
		t.Errorf("second factor %s, %v; want it active", a.MFA.Status, err)
	}
}

// Of a user and a role, what is missing is named.
func TestAttachRoleNamesWhatIsMissing(t *testing.T) {
	r, m := meddled(t)
	ctx := t.Context()
	newUser(t, r, ann)
	role := manager.Role{OperatorID: op1, ID: "groups", Permission: `{"statements":[]}`}
	must(t, r.CreateRole(ctx, role))
	m.beforeAttach = func() { must(t, r.DeleteRole(ctx, op1, "groups")) }
	wantCode(t, r.AttachRole(ctx, ann, "groups"), manager.CodeUnknownRole, "the role was deleted at the same time")
	must(t, r.CreateRole(ctx, role))
	nobody := manager.Principal{OperatorID: op1, UserName: "nobody"}
	wantCode(t, r.AttachRole(ctx, nobody, "groups"), manager.CodeUnknownUser, "no such user")
	wantCode(t, r.DetachRole(ctx, nobody, "groups"), manager.CodeUnknownUser, "no such user")
	wantCode(t, r.DetachRole(ctx, ann, "groups"), manager.CodeRoleNotAttached, "the user has not got it")
	wantCode(t, r.AttachRole(ctx, ann, ""), manager.CodeBadRoleID, "no role is named")
}

// Who is logged in and guesses is not told that the login is void.
func TestTooManyTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, config())
		_, err := r.EnrolMFA(t.Context(), root1)
		must(t, err)
		var wg sync.WaitGroup
		var mu sync.Mutex
		codes := map[manager.Code]int{}
		for range 60 {
			wg.Go(func() {
				_, err := r.VerifyMFA(t.Context(), root1, "000000x", true)
				mu.Lock()
				defer mu.Unlock()
				codes[manager.AsError(err).Code]++
			})
		}
		wg.Wait()
		if codes[manager.CodeTooManyTries] == 0 || codes[manager.CodeTooManyTries]+codes[manager.CodeWrongOTP] != 60 {
			t.Errorf("codes %v; want %s and %s", codes, manager.CodeWrongOTP, manager.CodeTooManyTries)
		}
		for code := range codes {
			if manager.NewError(code).Kind() == manager.KindUnauthenticated {
				t.Errorf("%s has the kind of a token that is void", code)
			}
		}
	})
}
