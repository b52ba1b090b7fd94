package api_test

import (
	"errors"
	"testing"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
)

func TestClientCalls(t *testing.T) {
	s := start(t, true)
	ctx := t.Context()
	port := func(n float64) *api.Destination { return &api.Destination{IMSI: imsi1, Port: n} }
	ms, err := s.one.CreateExtended(ctx,
		api.ExtendedRequest{CreateRequest: api.CreateRequest{Destination: port(22)}, ProxyProtocol: true},
		api.ExtendedRequest{CreateRequest: api.CreateRequest{TLSRequired: true}, Targets: []api.TargetRequest{{IMSI: imsi1, Port: 80}}},
	)
	if err != nil || len(ms) != 2 || !ms[0].ProxyProtocol || len(ms[1].Targets) != 1 {
		t.Fatalf("%+v, %v", ms, err)
	}
	if list, err := s.one.ListExtended(ctx); err != nil || len(list) != 2 {
		t.Errorf("%+v, %v; want both", list, err)
	}
	if list, err := s.two.ListExtended(ctx); err != nil || len(list) != 0 {
		t.Errorf("the other operator's: %+v, %v; want none", list, err)
	}
	// Records of the lives of both; the page of one has the key of the next.
	page, next, err := s.one.AuditLog(ctx, api.LogQuery{Limit: 1})
	if err != nil || len(page) != 1 || next == "" || page[0].Type != "CREATED" {
		t.Errorf("%+v, %q, %v", page, next, err)
	}
	if page, next, err = s.one.AuditLog(ctx, api.LogQuery{Limit: 1, After: next}); err != nil || len(page) != 1 || next != "" {
		t.Errorf("the last page: %+v, %q, %v", page, next, err)
	}
	if page, _, err := s.one.ErrorLog(ctx, api.LogQuery{IMSI: imsi1}); err != nil || len(page) != 0 {
		t.Errorf("failures: %+v, %v; want none", page, err)
	}
	if _, err := s.one.RegisterCredential(ctx, api.CreateCredential{CACertificate: "none"}); !errors.Is(err, manager.CodeBadCredential) {
		t.Errorf("a credential that is none: %v", err)
	}
	if list, err := s.one.ListCredentials(ctx); err != nil || len(list) != 0 {
		t.Errorf("credentials: %+v, %v", list, err)
	}
	const unknown = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	_, err1 := s.one.Credential(ctx, unknown)
	_, err2 := s.one.SetRevokedSerials(ctx, unknown, []string{"1"})
	for _, err := range []error{err1, err2, s.one.RevokeCredential(ctx, unknown)} {
		if !errors.Is(err, manager.CodeUnknownCredential) {
			t.Errorf("an unknown credential: %v", err)
		}
	}
	if err := s.two.Logout(ctx); err != nil {
		t.Error(err)
	}
	if _, err := s.two.List(ctx); !errors.Is(err, manager.CodeBadToken) {
		t.Errorf("after logout: %v", err)
	}
}
