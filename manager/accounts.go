package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/pquerna/otp/totp"
)

const (
	// identityLife is how long what the store said about a user is believed without
	// word of a change: what holds should word be lost.
	identityLife  = 5 * time.Second
	maxIdentities = 10_000
	// flushInterval is how often what need not be durable at once is stored.
	flushInterval = time.Second
)

// identity is an Identity, made ready for use. It never changes.
type identity struct {
	generation int64
	revoked    []string // IDs of tokens
	policies   []*policy
	until      time.Time
}

// accounts checks who users are and what they may do. Any goroutine may use it.
type accounts struct {
	log    *slog.Logger
	store  Store
	seeds  []OperatorConfig
	proven *prover
	guard  *guard
	logins chan struct{} // bounds the logins that hash at one time
	// decoy is compared against when there is no such user, so that the time
	// taken does not tell which users exist.
	decoy secretHash
	calls callLog

	mu         sync.Mutex // guards the rest
	identities map[Principal]*identity
	epoch      uint64 // grows with every change: an answer from before it is not kept
	used       map[string]time.Time
}

func newAccounts(log *slog.Logger, store Store, seeds []OperatorConfig) (*accounts, error) {
	a := &accounts{
		log: log, store: store, seeds: seeds, proven: newProver(), guard: newGuard(),
		logins:     make(chan struct{}, maxLogins),
		calls:      callLog{wake: make(chan struct{}, 1)},
		identities: map[Principal]*identity{}, used: map[string]time.Time{},
	}
	var err error
	a.decoy, err = parseHash(HashSecret(""))
	return a, err
}

// seed adds the operators of the configuration to the store. What the store knows
// already stays as it is there.
func (a *accounts) seed(ctx context.Context) error {
	for _, o := range a.seeds {
		if err := a.seedOne(ctx, o); err != nil {
			return fmt.Errorf("operator %s: %w", o.ID, err)
		}
	}
	return nil
}

func (a *accounts) seedOne(ctx context.Context, o OperatorConfig) error {
	at := now()
	root := Principal{OperatorID: o.ID}
	_, err := a.store.Account(ctx, root)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	account := Account{OperatorID: o.ID, Created: at, Updated: at, Generation: at.UnixMilli()}
	if err != nil && o.Email != "" { // hashed only when it is needed: it takes a while
		account.Email, account.Password = o.Email, o.PasswordHash
		if o.Password != "" {
			account.Password = HashSecret(o.Password)
		}
	}
	var keys []AuthKey
	for _, k := range o.AuthKeys {
		if _, err := a.store.AuthKey(ctx, k.ID); err == nil {
			continue
		} else if !errors.Is(err, ErrNotFound) {
			return err
		}
		key := AuthKey{ID: k.ID, Owner: root, Hash: k.Hash, Created: at}
		if k.Key != "" {
			key.Hash = HashSecret(k.Key)
		}
		keys = append(keys, key)
	}
	return a.store.SeedAccount(ctx, account, keys)
}

// run stores what gathers until ctx ends, and then what is left.
func (a *accounts) run(ctx context.Context) {
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	purge := time.NewTicker(purgeInterval)
	defer purge.Stop()
	for {
		select {
		case <-tick.C:
		case <-a.calls.wake:
		case <-purge.C:
			if err := a.purgeCalls(ctx); err != nil && ctx.Err() == nil {
				a.log.Error("old API calls not removed; trying again", "error", err)
			}
			continue
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			a.flush(last)
			return
		}
		a.flush(ctx)
	}
}

func (a *accounts) flush(ctx context.Context) {
	a.mu.Lock()
	used := a.used
	a.used = map[string]time.Time{}
	a.mu.Unlock()
	if len(used) > 0 {
		if err := a.store.UseAuthKeys(ctx, used); err != nil {
			a.log.Error("use of authentication keys not noted", "error", err)
			a.mu.Lock()
			maps.Copy(used, a.used)
			a.used = used
			a.mu.Unlock()
		}
	}
	if err := a.flushCalls(ctx); err != nil {
		a.log.Error("API calls not recorded; trying again", "error", err)
	}
}

// changed takes note of a change in the store.
func (a *accounts) changed(c Change) {
	switch c.Kind {
	case ChangeAccount:
		a.forget(OperatorID(c.ID))
	case ChangeResync, ChangeLost:
		a.mu.Lock()
		defer a.mu.Unlock()
		clear(a.identities)
		a.epoch++
	}
}

// forget has what is known of an operator's users read anew.
func (a *accounts) forget(op OperatorID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.identities, func(p Principal, _ *identity) bool { return p.OperatorID == op })
	a.epoch++
}

// identity returns what counts for a user now. ErrNotFound.
func (a *accounts) identity(ctx context.Context, p Principal) (*identity, error) {
	at := time.Now()
	a.mu.Lock()
	known, epoch := a.identities[p], a.epoch
	a.mu.Unlock()
	if known != nil && at.Before(known.until) {
		return known, nil
	}
	in, err := a.store.Identity(ctx, p, at)
	if err != nil {
		return nil, err
	}
	out := &identity{generation: in.Account.Generation, revoked: in.Revoked, until: at.Add(identityLife)}
	for _, text := range in.Permissions {
		parsed, err := parsePermission(text)
		if err != nil { // it was checked when it was stored
			return nil, fmt.Errorf("permission of %s: %w", p, err)
		}
		out.policies = append(out.policies, parsed)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.epoch == epoch {
		if len(a.identities) >= maxIdentities {
			clear(a.identities)
		}
		a.identities[p] = out
	}
	return out, nil
}

// authenticate checks a login. With an error it returns whose it would have been, as
// far as that is known.
func (a *accounts) authenticate(ctx context.Context, l Login) (Account, error) {
	failed := NewError(CodeAuthFailed)
	byEmail, byKey, byName := l.Email != "", l.AuthKeyID != "", l.OperatorID != "" || l.UserName != ""
	secret, name := l.Password, ""
	var account Account
	var stored string
	var err error
	switch {
	case byEmail && !byKey && !byName:
		name = "e" + l.Email
		account, err = a.store.AccountByEmail(ctx, l.Email)
		stored = account.Password
	case byKey && !byEmail && !byName:
		name, secret = "k"+l.AuthKeyID, l.AuthKey
		account, stored, err = a.byKey(ctx, l.AuthKeyID)
	case byName && !byEmail && !byKey && l.UserName != "":
		p := Principal{l.OperatorID, l.UserName}
		name = "u" + p.String()
		account, err = a.store.Account(ctx, p)
		stored = account.Password
	default:
		return Account{}, failed
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Account{}, faultIn(ctx, "authenticate", err)
	}
	if secret == "" || len(secret) > maxSecret || len(name) > maxSecret {
		return account, failed
	}
	if byKey && stored != "" && a.proven.is(l.AuthKeyID, stored, secret) {
		a.noteUse(l.AuthKeyID)
		return account, nil
	}
	turn, err := a.guard.enter(ctx, name, l.Source)
	if err != nil {
		return account, err
	}
	ok, err := a.matches(ctx, stored, secret)
	if err == nil && !ok {
		err = failed
	}
	if err == nil && !byKey && account.MFA.Status == MFAActive {
		err = a.useOTP(ctx, account.Principal(), l.OTP)
	}
	switch {
	case errors.Is(err, CodeAuthFailed), errors.Is(err, CodeOTPWrong):
		turn.failed()
	case err != nil:
		turn.leave()
	default:
		turn.succeeded()
	}
	if err != nil {
		return account, err
	}
	if byKey {
		a.proven.keep(l.AuthKeyID, stored, secret)
		a.noteUse(l.AuthKeyID)
	}
	return account, nil
}

func (a *accounts) byKey(ctx context.Context, id string) (Account, string, error) {
	key, err := a.store.AuthKey(ctx, id)
	if err != nil {
		return Account{}, "", err
	}
	account, err := a.store.Account(ctx, key.Owner)
	return account, key.Hash, err
}

// matches compares a secret with a stored hash; with none it takes as long, and fails.
func (a *accounts) matches(ctx context.Context, stored, secret string) (bool, error) {
	select {
	case a.logins <- struct{}{}:
		defer func() { <-a.logins }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	hash := a.decoy
	if stored != "" {
		var err error
		if hash, err = parseHash(stored); err != nil {
			return false, faultIn(ctx, "stored hash", err)
		}
	}
	return hash.matches(secret) && stored != "", nil
}

func (a *accounts) noteUse(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used[key] = now()
}

// useOTP checks a one-time password or backup code of an account and makes it of no more
// use. CodeOTPRequired, CodeOTPWrong.
func (a *accounts) useOTP(ctx context.Context, p Principal, code string) error {
	if code == "" {
		return NewError(CodeOTPRequired)
	}
	_, err := a.store.ChangeAccount(ctx, p, func(account *Account) error {
		if account.MFA.use(code, time.Now()) {
			return nil
		}
		return NewError(CodeOTPWrong)
	})
	if errors.Is(err, CodeOTPWrong) {
		return err
	}
	return faultIn(ctx, "one-time password", err)
}

// otpPeriod is the time step of codes (RFC 6238 clause 4.1).
const otpPeriod = 30

// use reports whether code is right at a time, and takes it: the codes of the step
// before and after count too, for clocks that differ, and none that is not younger than
// the last one taken.
func (m *MFA) use(code string, at time.Time) bool {
	for i, b := range m.Backups {
		if equalText(b, digest(code)) {
			m.Backups = append(m.Backups[:i:i], m.Backups[i+1:]...)
			return true
		}
	}
	step := at.Unix() / otpPeriod
	for s := max(step-1, m.Step+1); s <= step+1; s++ {
		want, err := totp.GenerateCode(m.Secret, time.Unix(s*otpPeriod, 0))
		if err == nil && equalText(want, code) {
			m.Step = s
			return true
		}
	}
	return false
}
