package manager_test

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/simreach/simreach/manager"
)

var clientPort = netip.AddrPortFrom(client, 5555)

func TestResolve(t *testing.T) {
	m := start(t, config())
	outer := attach(t, m.Service, outerRelay("outer1", wide))
	e := create(t, m.Service)
	resolve := func() (manager.Route, error) {
		return outer.Resolve(t.Context(), manager.ResolveRequest{Hit: e.Address, Client: clientPort})
	}

	_, err := resolve()
	wantCode(t, err, manager.CodeDeviceOffline, "the device is not attached")
	m.dir.set(imsi1, "upf1", "10.60.0.7")
	_, err = resolve()
	wantCode(t, err, manager.CodeNoInnerRelay, "its inner relay is not attached")
	inner := attach(t, m.Service, innerRelay("inner1", "192.0.2.101:9000"))
	r, err := resolve()
	if err != nil {
		t.Fatal(err)
	}
	if r.EntryID != e.ID || r.Device != netip.MustParseAddrPort("10.60.0.7:22") || r.Inner != netip.MustParseAddrPort("192.0.2.101:9000") ||
		r.InnerID != "inner1" || !r.Expires.Equal(e.Expires) || !slices.Equal(r.Ranges, e.Ranges) || r.ConnectionID == "" {
		t.Errorf("route %+v; want the entry's conditions and the device's place", r)
	}
	if !r.Allows(client) || !r.Allows(netip.MustParseAddr("::ffff:198.51.100.7")) || r.Allows(netip.MustParseAddr("198.51.100.8")) {
		t.Error("the route must allow the caller alone")
	}

	// R22: the device moves; the same entry leads to where it is.
	attach(t, m.Service, innerRelay("inner2", "192.0.2.102:9000"))
	m.dir.set(imsi1, "upf2", "10.60.0.7") // the same address behind another UPF
	if r, err = resolve(); err != nil || r.InnerID != "inner2" {
		t.Errorf("after moving: %+v, %v; want inner2", r, err)
	}
	m.dir.set(imsi1, "upf9", "10.60.0.7")
	_, err = resolve()
	wantCode(t, err, manager.CodeNoInnerRelay, "a UPF without an inner relay")
	m.dir.set(imsi1, "", "")
	_, err = resolve()
	wantCode(t, err, manager.CodeDeviceOffline, "detached")

	m.dir.set(imsi1, "upf1", "10.60.0.7")
	_, err = outer.Resolve(t.Context(), manager.ResolveRequest{Hit: netip.MustParseAddrPort("192.0.2.1:1"), Client: clientPort})
	wantCode(t, err, manager.CodeUnknownEntry, "a port without entry")
	other := outerRelay("outer2", wide)
	_, err = attach(t, m.Service, other).Resolve(t.Context(), manager.ResolveRequest{Hit: e.Address, Client: clientPort})
	wantCode(t, err, manager.CodeUnknownEntry, "another relay's entry")
	_, err = inner.Resolve(t.Context(), manager.ResolveRequest{Hit: e.Address, Client: clientPort})
	wantCode(t, err, manager.CodeRelayNotAttached, "an inner relay has no business here")
	outer.End()
	_, err = resolve()
	wantCode(t, err, manager.CodeRelayNotAttached, "the session is over")
}

func TestTicket(t *testing.T) {
	m := start(t, config())
	outer := attach(t, m.Service, outerRelay("outer1", wide))
	inner := attach(t, m.Service, innerRelay("inner1", "192.0.2.101:9000"))
	m.dir.set(imsi1, "upf1", "10.60.0.7")
	e := create(t, m.Service)
	ids := map[string]bool{}
	for range 3 {
		r, err := outer.Resolve(t.Context(), manager.ResolveRequest{Hit: e.Address, Client: clientPort})
		if err != nil {
			t.Fatal(err)
		}
		key := inner.Keys()[0]
		claims := jwt.MapClaims{}
		tok, err := jwt.ParseWithClaims(r.Ticket, claims, func(*jwt.Token) (any, error) { return key.Key, nil },
			jwt.WithValidMethods([]string{"HS256"}), jwt.WithAudience("inner1"), jwt.WithIssuer("simreach-manager"), jwt.WithExpirationRequired())
		if err != nil {
			t.Fatalf("the ticket does not verify with the key given at attach: %v", err)
		}
		if tok.Header["kid"] != key.ID || tok.Header["typ"] != "simreach-ticket+jwt" {
			t.Errorf("header %v", tok.Header)
		}
		for k, want := range map[string]any{"sub": string(e.ID), "cid": r.ConnectionID, "dev": "10.60.0.7:22", "inst": "instance-of-inner1"} {
			if claims[k] != want {
				t.Errorf("claim %s = %v; want %v", k, claims[k], want)
			}
		}
		if life := claims["exp"].(float64) - claims["iat"].(float64); life < 1 || life > 30 {
			t.Errorf("valid for %v s; want at most 30", life)
		}
		ids[claims["jti"].(string)] = true
		if _, err := m.VerifyToken(t.Context(), "api-x", r.Ticket); err == nil {
			t.Error("a ticket passes for an API token")
		}
	}
	if len(ids) != 3 {
		t.Errorf("ticket IDs %v; want three different ones", ids)
	}
}

func TestResolveAfterExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start(t, config())
		outer := attach(t, m.Service, outerRelay("outer1", wide))
		attach(t, m.Service, innerRelay("inner1", "192.0.2.101:9000"))
		m.dir.set(imsi1, "upf1", "10.60.0.7")
		e := create(t, m.Service, lasting(time.Minute))
		<-time.After(time.Minute)
		_, err := outer.Resolve(t.Context(), manager.ResolveRequest{Hit: e.Address, Client: clientPort})
		if e := manager.AsError(err); e.Code != manager.CodeEntryExpired && e.Code != manager.CodeUnknownEntry {
			t.Errorf("at its expiry: %v; want expired, or gone", err)
		}
	})
}

// TryResolve answers what is in memory, and leaves to Resolve what the store must be
// asked about.
func TestTryResolve(t *testing.T) {
	m := start(t, config())
	outer := attach(t, m.Service, outerRelay("outer1", wide))
	attach(t, m.Service, innerRelay("inner1", "192.0.2.101:9000"))
	m.dir.set(imsi1, "upf1", "10.60.0.7")
	e := create(t, m.Service)
	r, known, err := outer.TryResolve(t.Context(), manager.ResolveRequest{Hit: e.Address, Client: clientPort})
	if err != nil || !known || r.EntryID != e.ID || r.Ticket == "" {
		t.Errorf("an entry in memory: %+v, known %v, %v", r, known, err)
	}
	q := manager.ResolveRequest{Hit: netip.MustParseAddrPort("192.0.2.1:1"), Client: clientPort}
	if r, known, err := outer.TryResolve(t.Context(), q); known || err != nil || r.EntryID != "" {
		t.Errorf("a port without entry: %+v, known %v, %v; want to be told to ask the store", r, known, err)
	}
	cred := register(t, m.Service, newCA(t, ""))
	secured := create(t, m.Service, func(r *manager.CreateRequest) { r.TLS, r.CredentialID = true, cred.ID })
	if _, err := m.SetRevokedSerials(t.Context(), op1, cred.ID, []string{"1f"}); err != nil { // it is forgotten
		t.Fatal(err)
	}
	asking := manager.ResolveRequest{Hit: secured.Address, Client: clientPort}
	if _, known, err := outer.TryResolve(t.Context(), asking); known || err != nil {
		t.Errorf("a credential that is not in memory: known %v, %v; want to be told to ask the store", known, err)
	}
	// The change is heard of twice, and forgotten then is what was read between.
	for range 2 {
		if _, err := outer.Resolve(t.Context(), asking); err != nil {
			t.Fatal(err)
		}
		if r, known, err = outer.TryResolve(t.Context(), asking); known {
			break
		}
	}
	if !known || err != nil || r.CredentialID != cred.ID {
		t.Errorf("a credential in memory: %+v, known %v, %v", r, known, err)
	}
	m.dir.set(imsi1, "", "")
	_, known, err = outer.TryResolve(t.Context(), manager.ResolveRequest{Hit: e.Address, Client: clientPort})
	if wantCode(t, err, manager.CodeDeviceOffline, "detached"); !known {
		t.Error("a refusal needs no store either")
	}
	outer.End()
	_, known, err = outer.TryResolve(t.Context(), q)
	if wantCode(t, err, manager.CodeRelayNotAttached, "the session is over"); !known {
		t.Error("want an answer when the session is over")
	}
}
