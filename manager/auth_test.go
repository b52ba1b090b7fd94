package manager_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/manager"
)

func TestAuthenticate(t *testing.T) {
	m := start(t, config())
	d := func(d time.Duration) *time.Duration { return &d }
	for _, c := range []struct {
		name  string
		login manager.Login
		want  manager.Code
	}{
		{"email and password", manager.Login{Email: "a@example.com", Password: "secret-1"}, ""},
		{"authentication key", manager.Login{AuthKeyID: "keyId-1", AuthKey: "secret-1"}, ""},
		{"the longest token", manager.Login{AuthKeyID: "keyId-1", AuthKey: "secret-1", Timeout: d(48 * time.Hour)}, ""},
		{"wrong password", manager.Login{Email: "a@example.com", Password: "secret-2"}, manager.CodeAuthFailed},
		{"wrong key", manager.Login{AuthKeyID: "keyId-1", AuthKey: "x"}, manager.CodeAuthFailed},
		{"unknown user", manager.Login{Email: "b@example.com", Password: "secret-1"}, manager.CodeAuthFailed},
		{"the empty user, as the decoy", manager.Login{AuthKeyID: "nobody", AuthKey: ""}, manager.CodeAuthFailed},
		{"nothing", manager.Login{}, manager.CodeAuthFailed},
		{"both ways at once", manager.Login{Email: "a@example.com", Password: "secret-1", AuthKeyID: "keyId-1", AuthKey: "secret-1"}, manager.CodeAuthFailed},
		{"an endless secret", manager.Login{Email: "a@example.com", Password: strings.Repeat("x", 1<<20)}, manager.CodeAuthFailed},
		{"too long a token", manager.Login{AuthKeyID: "keyId-1", AuthKey: "secret-1", Timeout: d(48*time.Hour + 1)}, manager.CodeBadTokenTimeout},
		{"no time at all", manager.Login{AuthKeyID: "keyId-1", AuthKey: "secret-1", Timeout: d(0)}, manager.CodeBadTokenTimeout},
	} {
		cred, err := m.Authenticate(t.Context(), c.login)
		if c.want != "" {
			wantCode(t, err, c.want, c.name)
			continue
		}
		if err != nil || cred.OperatorID != op1 || !strings.HasPrefix(cred.APIKey, "api-") || len(cred.APIKey) != 40 {
			t.Fatalf("%s: %+v, %v; want credentials of %s", c.name, cred, err, op1)
		}
		if op, err := m.VerifyToken(t.Context(), cred.APIKey, cred.Token); err != nil || op != (manager.Principal{OperatorID: op1}) {
			t.Errorf("%s: VerifyToken = %v, %v", c.name, op, err)
		}
	}
}

func TestToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, config())
		login := func() manager.Credentials {
			timeout := time.Hour
			c, err := m.Authenticate(t.Context(), manager.Login{AuthKeyID: "keyId-1", AuthKey: "secret-1", Timeout: &timeout})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		a, b := login(), login()
		// What command-line clients read without checking the signature.
		parts := strings.Split(a.Token, ".")
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		var p struct{ Operator struct{ OperatorID string } }
		if err := errors.Join(err, json.Unmarshal(payload, &p)); err != nil || p.Operator.OperatorID != string(op1) {
			t.Errorf("payload %s: want operator.operatorId %s", payload, op1)
		}
		forged := parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(payload), string(op1), string(op2), -1))) + "." + parts[2]
		for _, c := range []struct {
			name, key, token string
			want             manager.Code
		}{
			{"no token", a.APIKey, "", manager.CodeTokenRequired},
			{"no key", "", a.Token, manager.CodeTokenRequired},
			{"another login's key", b.APIKey, a.Token, manager.CodeBadToken},
			{"forged", a.APIKey, forged, manager.CodeBadToken},
			{"not a token", a.APIKey, "x", manager.CodeBadToken},
			{"unsigned", a.APIKey, "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0." + parts[1] + ".", manager.CodeBadToken},
		} {
			_, err := m.VerifyToken(t.Context(), c.key, c.token)
			wantCode(t, err, c.want, c.name)
		}
		<-time.After(time.Hour - time.Second)
		if _, err := m.VerifyToken(t.Context(), a.APIKey, a.Token); err != nil {
			t.Errorf("a second before it ends: %v", err)
		}
		<-time.After(time.Second)
		_, err = m.VerifyToken(t.Context(), a.APIKey, a.Token)
		wantCode(t, err, manager.CodeBadToken, "when it has ended")
	})
}

func TestNotReady(t *testing.T) {
	m, err := manager.New(config(), manager.Deps{Store: start(t, config()).store, Directory: &places{}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.VerifyToken(t.Context(), "k", "t")
	wantCode(t, err, manager.CodeNotReady, "VerifyToken before Run")
	_, err = m.AttachRelay(outerRelay("outer1", wide))
	wantCode(t, err, manager.CodeNotReady, "AttachRelay before Run")
	_, err = m.Authenticate(t.Context(), manager.Login{AuthKeyID: "keyId-1", AuthKey: "secret-1"})
	wantCode(t, err, manager.CodeNotReady, "Authenticate before Run")
}

func TestConfigRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*manager.Config)
	}{
		{"operator id", func(c *manager.Config) { c.Operators[0].ID = "OP1" }},
		{"operator twice", func(c *manager.Config) { c.Operators[1].ID = op1 }},
		{"password without email", func(c *manager.Config) { c.Operators[1].Password = "x" }},
		{"not a hash", func(c *manager.Config) { c.Operators[0].PasswordHash = "$2b$10$x" }},
		{"a hash that costs gigabytes", func(c *manager.Config) {
			c.Operators[0].PasswordHash = strings.Replace(onceHash(), "m=19456", "m=4194304", 1)
		}},
		{"key and hash", func(c *manager.Config) { c.Operators[0].AuthKeys[0].Key = "x" }},
		{"IMSI", func(c *manager.Config) { c.Subscribers[0].IMSI = "1" }},
		{"IMSI twice", func(c *manager.Config) { c.Subscribers[1].IMSI = imsi1 }},
		{"SIM ID too long", func(c *manager.Config) { c.Subscribers[0].SIMID = strings.Repeat("8", manager.MaxSIMID+1) }},
		{"SIM ID twice", func(c *manager.Config) { c.Subscribers[1].SIMID = sim1 }},
		{"owner", func(c *manager.Config) { c.Subscribers[0].OperatorID = "OP0000000009" }},
		{"UPF with two inner relays", func(c *manager.Config) { c.InnerRelays[1].UPFs = []string{"upf1"} }},
		{"policy", func(c *manager.Config) { c.Policy = "best" }},
		{"ticket life", func(c *manager.Config) { c.TicketLifetime = time.Minute }},
		{"too long a life", func(c *manager.Config) { c.MaxDuration = 9 * time.Hour }},
	} {
		cfg := config()
		c.change(&cfg)
		if cfg.Validate() == nil {
			t.Errorf("%s: accepted", c.name)
		}
		if _, err := manager.New(cfg, manager.Deps{}); err == nil {
			t.Errorf("%s: New accepted it", c.name)
		}
	}
	cfg := config()
	if err := cfg.Validate(); err != nil {
		t.Errorf("the valid configuration: %v", err)
	}
}
