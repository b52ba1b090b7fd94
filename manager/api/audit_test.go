package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
)

func get[T any](t *testing.T, s *server, path string, header ...string) (out T, resp *http.Response) {
	t.Helper()
	resp, body := s.do(t, "GET", path, "", header...)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s %s", path, resp.Status, body)
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		t.Fatalf("GET %s: %v\n%s", path, err, body)
	}
	return out, resp
}

func code(body string) string {
	var e struct{ Code string }
	_ = json.Unmarshal([]byte(body), &e) // no body has no code
	return e.Code
}

func TestAuditLogs(t *testing.T) {
	s := start(t, true)
	if _, body := s.do(t, "GET", "/v1/audit_logs/napter", ""); strings.TrimSpace(body) != "[]" {
		t.Errorf("an empty log is %s, want []", body)
	}
	for range 3 {
		resp, body := s.do(t, "POST", "/v1/port_mappings", fmt.Sprintf(`{"destination":{"imsi":%q,"port":22}}`, imsi1))
		if resp.StatusCode != http.StatusCreated {
			t.Fatalf("create: %s %s", resp.Status, body)
		}
	}
	first, resp := get[[]api.AuditRecord](t, s, "/v1/audit_logs/napter?limit=2&resource_type=Subscriber&resource_id="+imsi1)
	key := resp.Header.Get(api.HeaderNextKey)
	if len(first) != 2 || key == "" || first[0].Type != "CREATED" || first[0].Direction != nil || first[0].IMSI != imsi1 || first[0].OperatorID != "OP0000000001" {
		t.Errorf("first page %+v, next %q", first, key)
	}
	rest, resp := get[[]api.AuditRecord](t, s, "/v1/audit_logs/napter?limit=2&last_evaluated_key="+key)
	if len(rest) != 1 || resp.Header.Get(api.HeaderNextKey) != "" || rest[0].CreatedAt > first[1].CreatedAt {
		t.Errorf("last page %+v, next %q", rest, resp.Header.Get(api.HeaderNextKey))
	}
	if none, _ := get[[]api.AuditRecord](t, s, fmt.Sprintf("/v1/audit_logs/napter?to=%d", time.Now().Add(-time.Minute).UnixMilli())); len(none) != 0 {
		t.Errorf("records of the future: %+v", none)
	}
	stats, _ := get[api.AuditExports](t, s, "/v1/stats/napter/audit_logs?year_month="+time.Now().UTC().Format("200601"))
	if stats.ExportedBytes < 100 {
		t.Errorf("stats %+v", stats)
	}
	if entries, _ := get[[]api.LogEntry](t, s, "/v1/logs?service=Napter&resource_type=Subscriber&resource_id="+imsi1); len(entries) != 0 {
		t.Errorf("the error log shows what did not fail: %+v", entries)
	}
	if entries, _ := get[[]api.LogEntry](t, s, "/v1/logs?service=Beam"); len(entries) != 0 {
		t.Errorf("the error log of another service: %+v", entries)
	}
	for path, want := range map[string]manager.Code{
		"/v1/audit_logs/napter?resource_type=Device&resource_id=x":   manager.CodeBadResource,
		"/v1/audit_logs/napter?resource_type=Subscriber":             manager.CodeBadResource,
		"/v1/audit_logs/napter?from=x":                               manager.CodeBadQuery,
		"/v1/audit_logs/napter?last_evaluated_key=x":                 manager.CodeBadPageKey,
		"/v1/audit_logs/napter?limit=0":                              manager.CodeBadLimit,
		"/v1/stats/napter/audit_logs?year_month=x":                   manager.CodeBadQuery,
		"/v1/logs?resource_type=Subscriber&resource_id=not-an-imsi1": manager.CodeBadResource,
	} {
		if resp, body := s.do(t, "GET", path, ""); resp.StatusCode != http.StatusBadRequest || code(body) != string(want) {
			t.Errorf("GET %s: %s %s; want 400 %s", path, resp.Status, body, want)
		}
	}
}

func TestContracts(t *testing.T) {
	s := start(t, false)
	const path = "/v1/operators/OP0000000001/contracts"
	for _, c := range []struct {
		method, path, body string
		status             int
		code               manager.Code
	}{
		{"POST", path, `{"contractName":"napter"}`, http.StatusOK, ""},
		{"POST", path, `{"contractName":"napter"}`, http.StatusOK, ""},
		{"POST", path, `{"contractName":"beer"}`, http.StatusBadRequest, manager.CodeBadContract},
		{"DELETE", path + "/napter", "", http.StatusNoContent, ""},
		{"DELETE", path + "/napter", "", http.StatusNotFound, manager.CodeNoContract},
		{"DELETE", path + "/beer", "", http.StatusBadRequest, manager.CodeBadContract},
	} {
		if resp, body := s.do(t, c.method, c.path, c.body); resp.StatusCode != c.status || code(body) != string(c.code) {
			t.Errorf("%s %s %s: %s %s; want %d %s", c.method, c.path, c.body, resp.Status, body, c.status, c.code)
		}
	}
	if resp, _ := s.do(t, "POST", "/v1/operators/OP0000000002/contracts", `{"contractName":"napter"}`); resp.StatusCode < 400 {
		t.Errorf("another operator's contract: %s", resp.Status)
	}
}

func TestClientCredentials(t *testing.T) {
	s := start(t, false)
	ca, err := pki.NewAuthority(pki.AuthorityConfig{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(api.CreateCredential{Name: "shop", CACertificate: string(ca.PEM())})
	if err != nil {
		t.Fatal(err)
	}
	resp, body := s.do(t, "POST", "/v1/simreach/credentials", string(text))
	var c api.Credential
	if err := json.Unmarshal([]byte(body), &c); err != nil || resp.StatusCode != http.StatusCreated || c.CACertificate != string(ca.PEM()) ||
		!strings.Contains(body, `"revokedAt":null`) || !strings.Contains(body, `"revokedSerials":[]`) {
		t.Fatalf("create: %s %s", resp.Status, body)
	}
	at := "/v1/simreach/credentials/" + c.CredentialID
	if got, _ := get[api.Credential](t, s, at); got.Name != "shop" {
		t.Errorf("get: %+v", got)
	}
	if got, _ := get[[]api.Credential](t, s, "/v1/simreach/credentials?limit=1"); len(got) != 1 {
		t.Errorf("list: %+v", got)
	}
	for _, x := range []struct {
		method, path, body string
		status             int
		code               manager.Code
	}{
		{"PUT", at + "/revoked_serials", `{"serials":["0A:01"]}`, http.StatusOK, ""},
		{"PUT", at + "/revoked_serials", `{"serials":["z"]}`, http.StatusBadRequest, manager.CodeBadSerial},
		{"POST", "/v1/simreach/credentials", `{"caCertificate":"!"}`, http.StatusBadRequest, manager.CodeBadCredential},
		{"GET", "/v1/simreach/credentials/none", "", http.StatusNotFound, manager.CodeUnknownCredential},
		{"DELETE", at, "", http.StatusNoContent, ""},
		{"DELETE", at, "", http.StatusNoContent, ""},
		{"PUT", at + "/revoked_serials", `{"serials":[]}`, http.StatusBadRequest, manager.CodeCredentialRevoked},
	} {
		if resp, body := s.do(t, x.method, x.path, x.body); resp.StatusCode != x.status || code(body) != string(x.code) {
			t.Errorf("%s %s: %s %s; want %d %s", x.method, x.path, resp.Status, body, x.status, x.code)
		}
	}
	if got, _ := get[api.Credential](t, s, at); got.RevokedAt == nil || len(got.RevokedSerials) != 1 || got.RevokedSerials[0] != "a01" {
		t.Errorf("after revocation: %+v", got)
	}
}
