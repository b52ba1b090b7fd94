package manager_test

import (
	"errors"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/simreach/simreach/manager"
)

var (
	root1 = manager.Principal{OperatorID: op1}
	ann   = manager.Principal{OperatorID: op1, UserName: "ann"}
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newUser makes a SAM user with the password "password-1".
func newUser(t *testing.T, r *rig, p manager.Principal) {
	t.Helper()
	_, err := r.CreateUser(t.Context(), p, "")
	must(t, err)
	must(t, r.CreatePassword(t.Context(), p, "password-1"))
}

func (r *rig) login(t *testing.T, p manager.Principal) (manager.Credentials, error) {
	t.Helper()
	return r.Authenticate(t.Context(), manager.Login{OperatorID: p.OperatorID, UserName: p.UserName, Password: "password-1"})
}

func (r *rig) loggedIn(t *testing.T, p manager.Principal) manager.Credentials {
	t.Helper()
	c, err := r.login(t, p)
	must(t, err)
	return c
}

func (r *rig) valid(t *testing.T, c manager.Credentials) bool {
	t.Helper()
	p, err := r.VerifyToken(t.Context(), c.APIKey, c.Token)
	if err != nil && !errors.Is(err, manager.CodeBadToken) || err == nil && p != c.Principal {
		t.Fatalf("VerifyToken: %v, %v", p, err)
	}
	return err == nil
}

// Tokens are void at once after a logout, after all were revoked and after the user was
// deleted, and stay so.
func TestRevoke(t *testing.T) {
	r := start(t, config())
	ctx := t.Context()
	newUser(t, r, ann)
	a, b := r.loggedIn(t, ann), r.loggedIn(t, ann)
	root, err := r.Authenticate(ctx, manager.Login{AuthKeyID: "keyId-1", AuthKey: "secret-1"})
	must(t, err)
	must(t, r.Logout(ctx, a.APIKey, a.Token))
	if r.valid(t, a) || !r.valid(t, b) {
		t.Error("a logout is about its own token")
	}
	wantCode(t, r.Logout(ctx, a.APIKey, a.Token), manager.CodeBadToken, "a second logout")
	must(t, r.RevokeTokens(ctx, ann, false))
	if r.valid(t, b) || !r.valid(t, root) {
		t.Error("revoking a user's tokens is about that user")
	}
	c := r.loggedIn(t, ann)
	must(t, r.RevokeTokens(ctx, root1, true))
	if r.valid(t, c) || r.valid(t, root) {
		t.Error("revoking the operator's tokens is about all of them")
	}
	d := r.loggedIn(t, ann)
	must(t, r.DeleteUser(ctx, ann))
	if r.valid(t, d) {
		t.Error("the token of a user that was deleted is valid")
	}
	newUser(t, r, ann)
	if r.valid(t, d) {
		t.Error("the token of a user that was deleted is valid again when there is one of that name")
	}
	wantCode(t, r.RevokeTokens(ctx, manager.Principal{OperatorID: op1, UserName: "nobody"}, false), manager.CodeUnknownUser, "nobody's tokens")
}

// What one manager revokes is void at another on the same store, and after a restart.
func TestRevokeElsewhere(t *testing.T) {
	one := start(t, config())
	other := startOn(t, config(), one.store)
	ctx := t.Context()
	newUser(t, one, ann)
	eventually := func(why string, c manager.Credentials) {
		t.Helper()
		deadline := time.After(2 * time.Second)
		for tick := time.Tick(time.Millisecond); other.valid(t, c); {
			select {
			case <-tick:
			case <-deadline:
				t.Fatalf("%s: the token is still valid at the other manager", why)
			}
		}
	}
	a, b := one.loggedIn(t, ann), other.loggedIn(t, ann)
	if !other.valid(t, a) || !one.valid(t, b) {
		t.Fatal("a token is good at every manager")
	}
	must(t, one.Logout(ctx, a.APIKey, a.Token))
	eventually("logout", a)
	must(t, one.RevokeTokens(ctx, ann, false))
	eventually("revoke", b)
	if again := startOn(t, config(), one.store); again.valid(t, a) || again.valid(t, b) {
		t.Error("a revoked token is valid after a restart")
	}
	// A permission, too.
	want := func(code manager.Code) {
		t.Helper()
		deadline := time.After(2 * time.Second)
		for tick := time.Tick(time.Millisecond); ; {
			err := other.Authorize(ctx, manager.Access{Principal: ann, API: "Sim:getSim"})
			if code == "" && err == nil || code != "" && errors.Is(err, code) {
				return
			}
			select {
			case <-tick:
			case <-deadline:
				t.Fatalf("at the other manager: %v; want %q", err, code)
			}
		}
	}
	want(manager.CodeNotPermitted)
	must(t, one.SetPermission(ctx, ann, `{"statements":[{"effect":"allow","api":"Sim:*"}]}`))
	want("")
	must(t, one.SetPermission(ctx, ann, ""))
	want(manager.CodeNotPermitted)
}

// The configuration makes accounts once: what was changed since stays changed.
func TestSeed(t *testing.T) {
	cfg := config()
	cfg.Operators[1].AuthKeys = []manager.AuthKeyConfig{{ID: "keyId-2", Key: "in clear"}}
	r := start(t, cfg)
	ctx := t.Context()
	byKey := func(r *rig, id, key string) error {
		_, err := r.Authenticate(ctx, manager.Login{AuthKeyID: id, AuthKey: key})
		return err
	}
	must(t, byKey(r, "keyId-2", "in clear"))
	must(t, r.DeleteAuthKey(ctx, root1, "keyId-1"))
	wantCode(t, byKey(r, "keyId-1", "secret-1"), manager.CodeAuthFailed, "a key that was deleted")
	must(t, r.UpdatePassword(ctx, root1, "secret-1", "another one"))
	cfg.Operators[0].AuthKeys = append(cfg.Operators[0].AuthKeys, manager.AuthKeyConfig{ID: "keyId-3", Hash: onceHash()})
	again := startOn(t, cfg, r.store)
	wantCode(t, byKey(again, "keyId-1", "secret-1"), manager.CodeAuthFailed, "a key that was deleted, after a restart")
	must(t, byKey(again, "keyId-3", "secret-1"))
	_, err := again.Authenticate(ctx, manager.Login{Email: "a@example.com", Password: "secret-1"})
	wantCode(t, err, manager.CodeAuthFailed, "the password of the configuration, after it was changed")
	_, err = again.Authenticate(ctx, manager.Login{Email: "a@example.com", Password: "another one"})
	must(t, err)
}

func TestAuthKeys(t *testing.T) {
	r := start(t, config())
	ctx := t.Context()
	newUser(t, r, ann)
	k, secret, err := r.CreateAuthKey(ctx, ann)
	must(t, err)
	keys, err := r.AuthKeys(ctx, ann)
	if err != nil || len(keys) != 1 || keys[0].ID != k.ID || !keys[0].LastUsed.IsZero() {
		t.Errorf("keys %v, %v; want one that was not used", keys, err)
	}
	c, err := r.Authenticate(ctx, manager.Login{AuthKeyID: k.ID, AuthKey: secret})
	if err != nil || c.Principal != ann {
		t.Errorf("login by a user's key: %v, %v", c.Principal, err)
	}
	if keys, err = r.AuthKeys(ctx, ann); err != nil || keys[0].LastUsed.IsZero() {
		t.Errorf("keys %v, %v; want one that was used", keys, err)
	}
	wantCode(t, r.DeleteAuthKey(ctx, root1, k.ID), manager.CodeUnknownAuthKey, "another account's key")
	must(t, r.DeleteAuthKey(ctx, ann, k.ID))
	_, err = r.Authenticate(ctx, manager.Login{AuthKeyID: k.ID, AuthKey: secret})
	wantCode(t, err, manager.CodeAuthFailed, "a key that was deleted, though it was proven just before")
	for range manager.MaxAuthKeys {
		_, _, err = r.CreateAuthKey(ctx, ann)
		must(t, err)
	}
	_, _, err = r.CreateAuthKey(ctx, ann)
	wantCode(t, err, manager.CodeTooManyAuthKeys, "one key too many")
	_, _, err = r.CreateAuthKey(ctx, manager.Principal{OperatorID: op1, UserName: "nobody"})
	wantCode(t, err, manager.CodeUnknownUser, "nobody's key")
}

// enrol gives an account a second factor and returns what makes its codes.
func enrol(t *testing.T, r *rig, p manager.Principal) (code func() string, backups []string) {
	t.Helper()
	uri, err := r.EnrolMFA(t.Context(), p)
	must(t, err)
	u, err := url.Parse(uri)
	must(t, err)
	code = func() string {
		c, err := totp.GenerateCode(u.Query().Get("secret"), time.Now())
		must(t, err)
		return c
	}
	backups, err = r.VerifyMFA(t.Context(), p, code(), p.Root())
	must(t, err)
	return code, backups
}

func TestMFA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, config())
		ctx := t.Context()
		login := func(otp string) error {
			_, err := r.Authenticate(ctx, manager.Login{Email: "a@example.com", Password: "secret-1", OTP: otp})
			return err
		}
		_, err := r.VerifyMFA(ctx, root1, "123456", true)
		wantCode(t, err, manager.CodeMFANotRequested, "a code before a secret")
		_, err = r.EnrolMFA(ctx, root1)
		must(t, err)
		must(t, login("")) // not active before a code was seen
		_, err = r.VerifyMFA(ctx, root1, "000000x", true)
		wantCode(t, err, manager.CodeWrongOTP, "a wrong code")
		code, backups := enrol(t, r, root1)
		if len(backups) != 10 {
			t.Errorf("%d backup codes; want 10", len(backups))
		}
		_, err = r.EnrolMFA(ctx, root1)
		wantCode(t, err, manager.CodeMFAActive, "another secret while it is active")
		wantCode(t, login(""), manager.CodeOTPRequired, "no code")
		wantCode(t, login(code()), manager.CodeOTPWrong, "the code that was taken already")
		<-time.After(30 * time.Second)
		old := code()
		must(t, login(old))
		wantCode(t, login(old), manager.CodeOTPWrong, "a code twice")
		<-time.After(30 * time.Second)
		late := code()
		<-time.After(30 * time.Second)
		must(t, login(late)) // a clock that is slow
		<-time.After(90 * time.Second)
		wantCode(t, login(late), manager.CodeOTPWrong, "a code of long ago")
		must(t, login(backups[3]))
		wantCode(t, login(backups[3]), manager.CodeOTPWrong, "a backup code twice")
		must(t, login(backups[9]))
		if _, err = r.Authenticate(ctx, manager.Login{AuthKeyID: "keyId-1", AuthKey: "secret-1"}); err != nil {
			t.Errorf("a key needs no code: %v", err)
		}
		wrong := "wrong-password"
		wantCode(t, r.RevokeMFA(ctx, root1, &wrong), manager.CodeWrongPassword, "without the password")
		right := "secret-1"
		must(t, r.RevokeMFA(ctx, root1, &right))
		must(t, login(""))

		newUser(t, r, ann)
		code, _ = enrol(t, r, ann)
		_, err = r.login(t, ann)
		wantCode(t, err, manager.CodeOTPRequired, "a SAM user without a code")
		<-time.After(30 * time.Second)
		_, err = r.Authenticate(ctx, manager.Login{OperatorID: op1, UserName: "ann", Password: "password-1", OTP: code()})
		must(t, err)
		must(t, r.RevokeMFA(ctx, ann, nil))
		enrol(t, r, ann) // with another secret, of which no code was taken yet
		must(t, r.RevokeMFA(ctx, ann, nil))
		r.loggedIn(t, ann)
	})
}

// Codes have six digits: they cannot be tried one after the other.
func TestGuessingCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, config())
		enrol(t, r, root1)
		begin := time.Now()
		const tries = 30
		for range tries {
			_, err := r.Authenticate(t.Context(), manager.Login{Email: "a@example.com", Password: "secret-1", OTP: "000000x"})
			wantCode(t, err, manager.CodeOTPWrong, "a wrong code")
		}
		if took := time.Since(begin); took < time.Minute {
			t.Errorf("%d guesses took %s; want them slowed down", tries, took)
		}
	})
}

// Guessers from one place crowd out each other, not the owner who comes from another.
func TestOwnerAmongGuessers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, config())
		try := func(password, source string) error {
			_, err := r.Authenticate(t.Context(), manager.Login{Email: "a@example.com", Password: password, Source: netip.MustParseAddr(source)})
			return err
		}
		var guessers sync.WaitGroup
		defer guessers.Wait()
		var mu sync.Mutex
		checked, sent := 0, 0
		for range 200 {
			guessers.Go(func() {
				err := try("wrong", "203.0.113.9")
				mu.Lock()
				defer mu.Unlock()
				switch {
				case errors.Is(err, manager.CodeAuthFailed):
					checked++
				case errors.Is(err, manager.CodeTooManyLogins):
					sent++
				default:
					t.Errorf("a guess: %v", err)
				}
			})
		}
		synctest.Wait()
		begin := time.Now()
		if err := try("secret-1", "198.51.100.1"); err != nil {
			t.Errorf("the owner among guessers: %v", err)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("the owner waited %s", took)
		}
		guessers.Wait()
		if checked > 50 || checked+sent != 200 {
			t.Errorf("of 200 guesses at one time %d were checked, %d sent away", checked, sent)
		}
	})
}

func TestPasswordReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, config())
		ctx := t.Context()
		must(t, r.IssuePasswordReset(ctx, "nobody@example.com")) // not told
		wantCode(t, r.IssuePasswordReset(ctx, ""), manager.CodeBadEmail, "no address")
		before, err := r.Authenticate(ctx, manager.Login{Email: "a@example.com", Password: "secret-1"})
		must(t, err)
		must(t, r.IssuePasswordReset(ctx, "a@example.com"))
		outbox := func() []manager.Message {
			ms, err := r.Outbox(ctx, op1)
			must(t, err)
			return ms
		}
		if ms, err := r.Outbox(ctx, op2); err != nil || len(ms) != 0 {
			t.Errorf("another operator's outbox: %v, %v", ms, err)
		}
		token := outbox()[0].Token
		wantCode(t, r.VerifyPasswordReset(ctx, token, "short"), manager.CodeBadPassword, "a bad password costs no token")
		wantCode(t, r.VerifyPasswordReset(ctx, "x"+token, "a new password"), manager.CodeBadResetToken, "another token")
		must(t, r.VerifyPasswordReset(ctx, token, "a new password"))
		wantCode(t, r.VerifyPasswordReset(ctx, token, "one more password"), manager.CodeBadResetToken, "a token twice")
		if r.valid(t, before) {
			t.Error("a token from before the reset is valid")
		}
		_, err = r.Authenticate(ctx, manager.Login{Email: "a@example.com", Password: "a new password"})
		must(t, err)
		for range 30 {
			must(t, r.IssuePasswordReset(ctx, "a@example.com"))
		}
		if n := len(outbox()); n != 20 {
			t.Errorf("%d messages are kept; want 20", n)
		}
		token = outbox()[0].Token
		<-time.After(time.Hour)
		wantCode(t, r.VerifyPasswordReset(ctx, token, "a new password"), manager.CodeResetExpired, "an hour later")
	})
}

func TestSwitchUser(t *testing.T) {
	r := start(t, config())
	ctx := t.Context()
	newUser(t, r, ann)
	two := manager.Principal{OperatorID: op2}
	from := func(p manager.Principal) manager.Access {
		return manager.Access{Principal: p, Source: netip.MustParseAddr("10.0.0.1"), At: time.Now()}
	}
	refused := func(why string, p, to manager.Principal) {
		t.Helper()
		_, err := r.SwitchUser(ctx, from(p), to, nil)
		wantCode(t, err, manager.CodeSwitchRefused, why)
	}
	refused("no trust policy", root1, ann)
	refused("no such user", root1, manager.Principal{OperatorID: op1, UserName: "nobody"})
	must(t, r.SetTrustPolicy(ctx, ann, `{"statements":[{"effect":"allow","principal":{"soracom":["`+two.String()+`"]},"condition":"ipAddress('10.0.0.0/8')"}]}`))
	refused("another one is named", root1, ann)
	c, err := r.SwitchUser(ctx, from(two), ann, nil)
	if err != nil || c.Principal != ann || !r.valid(t, c) {
		t.Fatalf("switch: %v, %v", c.Principal, err)
	}
	elsewhere := from(two)
	elsewhere.Source = netip.MustParseAddr("192.0.2.1")
	_, err = r.SwitchUser(ctx, elsewhere, ann, nil)
	wantCode(t, err, manager.CodeSwitchRefused, "the condition is not met")
	_, err = r.SwitchUser(ctx, from(two), manager.Principal{OperatorID: op1}, nil)
	wantCode(t, err, manager.CodeBadSwitch, "to a root user")
	long := time.Hour + time.Second
	_, err = r.SwitchUser(ctx, from(two), ann, &long)
	wantCode(t, err, manager.CodeBadSwitch, "for too long")
	_, err = r.RenewToken(ctx, c.APIKey, c.Token, &long)
	wantCode(t, err, manager.CodeBadTokenTimeout, "renewed for longer than a switch may last")
	renewed, err := r.RenewToken(ctx, c.APIKey, c.Token, nil)
	if err != nil || renewed.APIKey != c.APIKey || !r.valid(t, renewed) {
		t.Errorf("renewed: %v, %v", renewed.Principal, err)
	}
}

func TestAuthorize(t *testing.T) {
	r := start(t, config())
	ctx := t.Context()
	newUser(t, r, ann)
	can := func(api string) bool {
		t.Helper()
		err := r.Authorize(ctx, manager.Access{Principal: ann, API: api, At: time.Now()})
		if err != nil && !errors.Is(err, manager.CodeNotPermitted) {
			t.Fatal(err)
		}
		return err == nil
	}
	const allow = `{"statements":[{"effect":"allow","api":"Sim:*"}]}`
	if can("Sim:getSim") {
		t.Error("a new user may do something")
	}
	must(t, r.SetPermission(ctx, root1, allow)) // the default
	if !can("Sim:getSim") || can("Group:getGroup") {
		t.Error("the default does not count")
	}
	must(t, r.CreateRole(ctx, manager.Role{OperatorID: op1, ID: "groups", Permission: `{"statements":[{"effect":"allow","api":"Group:*"}]}`}))
	must(t, r.AttachRole(ctx, ann, "groups"))
	must(t, r.AttachRole(ctx, ann, "groups")) // once more changes nothing
	if !can("Group:getGroup") {
		t.Error("the role does not count")
	}
	wantCode(t, r.DeleteRole(ctx, op1, "groups"), manager.CodeRoleInUse, "a role that a user has")
	must(t, r.SetPermission(ctx, ann, `{"statements":[{"effect":"deny","api":"Sim:getSim"}]}`))
	if can("Sim:getSim") || !can("Sim:listSims") {
		t.Error("a denial of the user's own is final")
	}
	must(t, r.UpdateRole(ctx, manager.Role{OperatorID: op1, ID: "groups", Permission: `{"statements":[]}`}))
	if can("Group:getGroup") {
		t.Error("the role was changed")
	}
	must(t, r.DetachRole(ctx, ann, "groups"))
	wantCode(t, r.DetachRole(ctx, ann, "groups"), manager.CodeRoleNotAttached, "twice")
	must(t, r.DeleteRole(ctx, op1, "groups"))
	wantCode(t, r.Authorize(ctx, manager.Access{Principal: manager.Principal{OperatorID: op1, UserName: "nobody"}, API: "Sim:getSim"}), manager.CodeBadToken, "nobody")
	must(t, r.Authorize(ctx, manager.Access{Principal: root1, API: "Anything:atAll"}))
	wantCode(t, r.SetPermission(ctx, ann, "{}"), manager.CodeBadPermission, "not a permission")
	wantCode(t, r.AttachRole(ctx, ann, "nothing"), manager.CodeUnknownRole, "not a role")
	// Another operator's role and user of the same name are others.
	must(t, r.CreateRole(ctx, manager.Role{OperatorID: op2, ID: "groups", Permission: allow}))
	wantCode(t, r.AttachRole(ctx, ann, "groups"), manager.CodeUnknownRole, "another operator's role")
}
