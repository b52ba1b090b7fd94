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
