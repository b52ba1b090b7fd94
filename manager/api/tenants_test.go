package api_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/simreach/simreach/manager/api"
)

// as makes a raw request with credentials.
func (s *server) as(t *testing.T, c api.AuthResponse, method, path, body string) (int, string) {
	t.Helper()
	resp, answer := s.do(t, method, path, body, api.HeaderAPIKey, c.APIKey, api.HeaderToken, c.Token)
	return resp.StatusCode, answer
}

// made makes something as operator 1 and returns a member of the answer.
func (s *server) made(t *testing.T, method, path, body, member string) string {
	t.Helper()
	resp, answer := s.do(t, method, path, body)
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s %s", method, path, resp.Status, answer)
	}
	if member == "" {
		return ""
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(answer), &m); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(m[member])
}

// caPEM is a certificate authority as clients register it.
func caPEM(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca of one"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

const anyPermission = `{"statements":[{"effect":"allow","api":"*"}]}`

// identifiers returns, for every path parameter that the API has, one of operator 1's.
// A new parameter needs a line here. Those in shared name nothing that is anybody's.
func identifiers(t *testing.T, s *server) (ids, shared map[string]string) {
	const op = "/v1/operators/OP0000000001"
	s.made(t, "POST", op+"/users/ann", `{}`, "")
	s.made(t, "POST", op+"/users/ann/password", `{"password":"password-1"}`, "")
	s.made(t, "POST", op+"/roles/role-of-one", string(must(json.Marshal(map[string]string{"permission": anyPermission}))), "")
	s.made(t, "POST", op+"/users/ann/roles", `{"roleId":"role-of-one"}`, "")
	m, err := s.one.Create(t.Context(), api.CreateRequest{Destination: &api.Destination{IMSI: imsi1, Port: 22}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.one.CreateForSIM(t.Context(), sim1, api.CreateRequest{Destination: &api.Destination{Port: 22}}); err != nil {
		t.Fatal(err)
	}
	handler := `{"name":"h","status":"active","targetImsi":"` + imsi1 + `","ruleConfig":{"type":"SubscriberDailyTrafficRule","properties":{"inactiveTimeoutDateConst":"BEGINNING_OF_NEXT_DAY","limitTotalTrafficMegaByte":"1"}},"actionConfigList":[{"type":"DeactivationAction","properties":{"executionDateTimeConst":"IMMEDIATELY"}}]}`
	return map[string]string{
			"operator_id":   "OP0000000001",
			"user_name":     "ann",
			"role_id":       "role-of-one",
			"auth_key_id":   s.made(t, "POST", op+"/users/ann/auth_keys", ``, "authKeyId"),
			"imsi":          imsi1,
			"sim_id":        sim1,
			"ip_address":    m.IPAddress,
			"port":          strconv.Itoa(int(m.Port)),
			"group_id":      s.made(t, "POST", "/v1/groups", `{"tags":{"name":"group of one"}}`, "groupId"),
			"handler_id":    s.made(t, "POST", "/v1/event_handlers", handler, "handlerId"),
			"credential_id": s.made(t, "POST", "/v1/simreach/credentials", string(must(json.Marshal(map[string]string{"name": "credential of one", "caCertificate": caPEM(t)}))), "credentialId"),
		}, map[string]string{
			"tag_name": "name", "namespace": "SoracomAir", "name": "k", "contract_name": "napter", "relay_id": "outer1", "resource_summary_type": "simsPerStatus",
		}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Whatever operator 2 calls with whatever is operator 1's, it sees nothing of it and
// changes nothing.
func TestTenants(t *testing.T) {
	s := start(t, true)
	ids, shared := identifiers(t, s)
	fill := func(r api.RouteForTest, operator string) (path string, named bool) {
		var parts []string
		for part := range strings.SplitSeq(r.Path, "/") {
			name, is := strings.CutPrefix(part, "{")
			name = strings.TrimSuffix(name, "}")
			if v, ok := ids[name]; is && ok {
				if name == "operator_id" {
					v = operator
				}
				named = named || v != "OP0000000002"
				part = url.PathEscape(v)
			} else if v, ok := shared[name]; is && ok {
				part = v
			} else if is {
				t.Fatalf("%s %s: no identifier for {%s}; give it one in identifiers", r.Method, r.Path, name)
			}
			parts = append(parts, part)
		}
		return strings.Join(parts, "/"), named
	}
	// What calls and logins count is not what they see.
	volatile := map[string]bool{"AuditLog:getApiAuditLogs": true, "Operator:listOperatorAuthKeys": true, "Simreach:getStatus": true, "Simreach:getOpenAPI": true, "Stats:getNapterAuditLogsExportedDataStats": true}
	snapshot := func() map[string]string {
		seen := map[string]string{}
		for _, r := range api.RoutesForTest() {
			if r.Method == "GET" && !volatile[r.Permission] {
				path, _ := fill(r, "OP0000000001")
				_, body := s.do(t, "GET", path+"?from=1&to=2&period=day", "")
				seen[r.Permission] = body
			}
		}
		return seen
	}
	before := snapshot()
	sink := map[string]any{
		"destination": map[string]any{"imsi": imsi1, "port": 22}, "requests": []any{map[string]any{"destination": map[string]any{"simId": sim1, "port": 22}}},
		"registrationSecret": "x", "groupId": ids["group_id"], "speedClass": "s1.fast", "expiryTime": time.Now().Add(time.Hour).UnixMilli(), "imei": "354600001234567",
		"permission": anyPermission, "permissions": anyPermission, "trustPolicy": `{"statements":[]}`, "roleId": "role-of-one", "userName": "ann", "operatorId": "OP0000000001",
		"currentPassword": "password-1", "newPassword": "password-2", "password": "password-1", "mfaOTPCode": "123456", "description": "taken over",
		"name": "h2", "status": "active", "targetImsi": imsi1, "ruleConfig": map[string]any{"type": "SubscriberDailyTrafficRule", "properties": map[string]any{"inactiveTimeoutDateConst": "BEGINNING_OF_NEXT_DAY", "limitTotalTrafficMegaByte": "1"}},
		"actionConfigList": []any{map[string]any{"type": "DeactivationAction", "properties": map[string]any{"executionDateTimeConst": "IMMEDIATELY"}}},
		"serials":          []string{"01"}, "contractName": "napter", "tags": map[string]string{"name": "x"},
	}
	bodies := []string{"", "{}", string(must(json.Marshal(sink))), `[{"tagName":"name","tagValue":"taken","key":"k","value":"v"}]`}
	markers := []string{imsi1, sim1, "OP0000000001", "role-of-one", ids["auth_key_id"], ids["group_id"], ids["handler_id"], ids["credential_id"], "credential of one", `"ann"`}
	for _, r := range api.RoutesForTest() {
		if r.Open {
			continue
		}
		operators := []string{"OP0000000001"}
		if strings.Contains(r.Path, "{operator_id}") {
			operators = append(operators, "OP0000000002") // its own, and what is in it the other's
		}
		for _, operator := range operators {
			path, named := fill(r, operator)
			for _, body := range bodies {
				two, err := api.Client{URL: s.url, HTTP: s.client}.Login(t.Context(), api.AuthRequest{AuthKeyID: "keyId-2", AuthKey: "secret-1"})
				if err != nil {
					t.Fatal(err)
				}
				status, answer := s.as(t, two.Credentials, r.Method, path+"?resource_type=Subscriber&resource_id="+imsi1+"&imsi="+imsi1+"&sim_id="+sim1+"&target=imsi&from=1&to=2&period=day", body)
				switch {
				case status >= 500:
					t.Errorf("%s %s with %.40s: %d %s", r.Method, path, body, status, answer)
				case status < 400 && named && r.Permission != "User:createUser" && r.Permission != "Role:createRole":
					t.Errorf("%s %s with %.40s: %d %s; it is operator 1's", r.Method, path, body, status, answer)
				case status < 400:
					for _, m := range markers {
						if strings.Contains(answer, m) && !strings.Contains(path, strings.Trim(m, `"`)) {
							t.Errorf("%s %s with %.40s: %d %s; it shows %s of operator 1", r.Method, path, body, status, answer, m)
						}
					}
				}
				if operator == "OP0000000002" { // what it made of the same name is its own: away with it
					for _, own := range []string{"/users/ann", "/roles/role-of-one"} {
						s.as(t, login(t, s, "keyId-2"), "DELETE", "/v1/operators/OP0000000002"+own, "")
					}
				}
			}
		}
	}
	after := snapshot()
	for permission, was := range before {
		if is := after[permission]; is != was {
			t.Errorf("%s has changed by what operator 2 did:\n%s\n%s", permission, was, is)
		}
	}
}

func login(t *testing.T, s *server, key string) api.AuthResponse {
	t.Helper()
	c, err := api.Client{URL: s.url, HTTP: s.client}.Login(t.Context(), api.AuthRequest{AuthKeyID: key, AuthKey: "secret-1"})
	if err != nil {
		t.Fatal(err)
	}
	return c.Credentials
}
