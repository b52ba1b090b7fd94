package api_test

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
)

// Relays are shown to operators of the platform, and to nobody else who is logged in.
func TestRelays(t *testing.T) {
	s := start(t, true, func(c *manager.Config) { c.PlatformOperators = []manager.OperatorID{"OP0000000001"} })
	relays, err := s.one.Relays(t.Context())
	if err != nil || len(relays) != 1 {
		t.Fatalf("relays %+v, %v", relays, err)
	}
	if r := relays[0]; r.ID != "outer1" || r.Kind != "outer" || r.Address != "192.0.2.1" || r.Manager == "" || r.AttachedTime == 0 || r.Draining || r.Denied == nil {
		t.Errorf("relay %+v", r)
	}
	var e *api.Error
	if _, err := s.two.Relays(t.Context()); !errors.As(err, &e) || e.Code != string(manager.CodeNotPlatform) || e.Status != http.StatusForbidden {
		t.Errorf("another operator gets %v", err)
	}
	if err := s.two.DrainRelay(t.Context(), "outer1"); !errors.As(err, &e) || e.Code != string(manager.CodeNotPlatform) {
		t.Errorf("another operator drains: %v", err)
	}
	if err := s.one.DrainRelay(t.Context(), "outer1"); err != nil {
		t.Errorf("drain: %v", err)
	}
	if err := s.one.DrainRelay(t.Context(), "outer 2/x"); !errors.As(err, &e) || e.Code != string(manager.CodeUnknownRelay) || e.Status != http.StatusNotFound {
		t.Errorf("drain an unknown relay: %v", err)
	}
}

// A relay that is told and says nothing is no 5xx, which clients would repeat.
func TestDrainOfASilentRelay(t *testing.T) {
	s := start(t, false, func(c *manager.Config) {
		c.PlatformOperators, c.RelayTimeout = []manager.OperatorID{"OP0000000001"}, 50*time.Millisecond
	})
	session, err := s.service.AttachRelay(manager.Relay{ID: "outer1", Kind: manager.OuterRelay, Instance: "i", Address: netip.MustParseAddrPort("192.0.2.1:0"), Ports: manager.DefaultPorts()})
	if err != nil {
		t.Fatal(err)
	}
	defer session.End()
	resp, body := s.do(t, "POST", "/v1/simreach/relays/outer1/drain", "")
	if resp.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(body, `"code":"NAP0027"`) {
		t.Errorf("%s %s; want 422 NAP0027", resp.Status, body)
	}
}

// Among several operators nobody has the platform unless the configuration says so.
func TestRelaysOfNobody(t *testing.T) {
	s := start(t, true)
	for _, c := range []*api.Client{s.one, s.two} {
		var e *api.Error
		if _, err := c.Relays(t.Context()); !errors.As(err, &e) || e.Code != string(manager.CodeNotPlatform) {
			t.Errorf("%v", err)
		}
	}
}

// An operator of the platform decides which of its users may.
func TestRelaysTakePermission(t *testing.T) {
	s := start(t, true, func(c *manager.Config) { c.PlatformOperators = []manager.OperatorID{"OP0000000001"} })
	const op = "/v1/operators/OP0000000001"
	s.made(t, "POST", op+"/users/watcher", `{}`, "")
	s.made(t, "POST", op+"/users/watcher/password", `{"password":"password-1"}`, "")
	s.made(t, "PUT", op+"/users/watcher/permission", `{"permission":"{\"statements\":[{\"effect\":\"allow\",\"api\":\"Simreach:listRelays\"}]}"}`, "")
	anonymous := *s.one
	watcher, err := anonymous.Login(t.Context(), api.AuthRequest{OperatorID: "OP0000000001", UserName: "watcher", Password: "password-1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watcher.Relays(t.Context()); err != nil {
		t.Errorf("list: %v", err)
	}
	var e *api.Error
	if err := watcher.DrainRelay(t.Context(), "outer1"); !errors.As(err, &e) || e.Code != string(manager.CodeNotPermitted) {
		t.Errorf("drain: %v; want that it is not permitted", err)
	}
}
