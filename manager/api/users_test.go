package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
)

const operator1 = "/v1/operators/OP0000000001"

// step is a call as operator 1's root user, or as who, and what it must answer.
type step struct {
	method, path, body string
	status             int
	want               string // a part of the answer; with a leading = the whole
}

func (s *server) steps(t *testing.T, who api.AuthResponse, steps ...step) {
	t.Helper()
	for _, c := range steps {
		status, body := s.as(t, who, c.method, c.path, c.body)
		body = strings.TrimSpace(body)
		whole, is := strings.CutPrefix(c.want, "=")
		if status != c.status || !is && !strings.Contains(body, c.want) || is && body != whole {
			t.Errorf("%s %s %.60s: %d %s; want %d %s", c.method, c.path, c.body, status, body, c.status, c.want)
		}
	}
}

// quoted puts JSON into a string of JSON, as permissions are.
func quoted(member, text string) string {
	return string(must(json.Marshal(map[string]string{member: text})))
}

func TestUsers(t *testing.T) {
	s := start(t, true)
	root := s.one.Credentials
	ann, role := operator1+"/users/ann", operator1+"/roles/readers"
	s.steps(t, root,
		step{"GET", operator1, "", 200, `"email":"a@example.com"`},
		step{"GET", operator1 + "/users", "", 200, "=[]"},
		step{"GET", ann, "", 404, string(manager.CodeUnknownUser)},
		step{"POST", ann, `{"description":"Ann"}`, 201, "="},
		step{"POST", ann, `{}`, 400, string(manager.CodeUserExists)},
		step{"POST", operator1 + "/users/bob", "", 201, "="},
		step{"POST", operator1 + "/users/a%2Fb", `{}`, 400, string(manager.CodeBadUserName)},
		step{"POST", operator1 + "/users/default_permissions", `{}`, 405, string(manager.CodeMethodNotAllowed)},
		step{"POST", ann + "x", `{"description":"` + strings.Repeat("説", 257) + `"}`, 400, string(manager.CodeBadDescription)},
		step{"PUT", ann, `{"description":"Ann B"}`, 200, "="},
		step{"GET", operator1 + "/users", "", 200, `"description":"Ann B"`},
		step{"GET", ann + "/password", "", 200, `={"hasPassword":false}`},
		step{"POST", ann + "/password", `{"password":"short"}`, 400, string(manager.CodeBadPassword)},
		step{"POST", ann + "/password", `{"password":"password-1"}`, 201, "="},
		step{"POST", ann + "/password", `{"password":"password-1"}`, 409, string(manager.CodePasswordExists)},
		step{"PUT", ann + "/password", `{"currentPassword":"wrong-one","newPassword":"password-2"}`, 400, string(manager.CodeWrongPassword)},
		step{"PUT", ann + "/password", `{"currentPassword":"password-1","newPassword":"password-2"}`, 200, "="},
		step{"GET", ann + "/permission", "", 200, `={"permission":""}`},
		step{"PUT", ann + "/permission", `{"permission":"{}"}`, 400, string(manager.CodeBadPermission)},
		step{"PUT", ann + "/permission", quoted("permission", `{"statements":[{"effect":"allow","api":"PortMapping:list*"}]}`), 200, "="},
		step{"GET", operator1 + "/users/default_permissions", "", 404, `={"code":"SAM0021","message":"The operator has no default permissions."}`},
		step{"PUT", operator1 + "/users/default_permissions", quoted("permissions", `{"statements":[{"effect":"allow","api":"User:getUser","condition":"pathVariable('user_name') == samUserName"}]}`), 202, "="},
		step{"GET", operator1 + "/users/default_permissions", "", 200, `samUserName`},
		step{"GET", operator1 + "/roles", "", 200, "=[]"},
		step{"GET", operator1 + "/roles?owner=x", "", 400, string(manager.CodeBadQuery)},
		step{"POST", role, quoted("permission", `{"statements":[{"effect":"allow","api":["Operator:getOperator"]}]}`), 200, `={"roleId":"readers"}`},
		step{"POST", role, quoted("permission", `{"statements":[]}`), 400, string(manager.CodeRoleExists)},
		step{"PUT", role, `{"description":"d"}`, 400, "permission is required"},
		step{"GET", ann, "", 200, `"authKeyList":[],"roleList":[]`},
		step{"POST", ann + "/roles", `{}`, 400, string(manager.CodeBadRoleID)},
		step{"POST", ann + "/roles", `{"roleId":"readers"}`, 200, "="},
		step{"GET", ann + "/roles", "", 200, `"roleId":"readers"`},
		step{"GET", role + "/users", "", 200, `"userName":"ann"`},
		step{"DELETE", role, "", 400, string(manager.CodeRoleInUse)},
		step{"GET", ann + "/trust_policy", "", 400, string(manager.CodeNoTrustPolicy)},
		step{"GET", ann, "", 200, `"roleList":[{"roleId":"readers"`},
	)
	c, err := api.Client{URL: s.url, HTTP: s.client}.Login(t.Context(), api.AuthRequest{OperatorID: "OP0000000001", UserName: "ann", Password: "password-2"})
	if err != nil || c.Credentials.UserName != "ann" || c.Credentials.OperatorID != "OP0000000001" {
		t.Fatalf("login as a SAM user: %+v, %v", c, err)
	}
	s.steps(t, c.Credentials,
		step{"GET", "/v1/port_mappings", "", 200, "=[]"},
		step{"POST", "/v1/port_mappings", `{"destination":{"imsi":"` + imsi1 + `","port":22}}`, 403, string(manager.CodeNotPermitted)},
		step{"GET", operator1, "", 200, "operatorId"},
		step{"GET", ann, "", 200, "ann"},
		step{"GET", operator1 + "/users/bob", "", 403, string(manager.CodeNotPermitted)},
		step{"GET", "/v1/audit_logs/napter", "", 403, string(manager.CodeRootOnly)},
		step{"GET", "/v1/simreach/outbox", "", 403, string(manager.CodeRootOnly)},
		step{"POST", "/v1/auth/logout", "", 204, "="},
		step{"GET", ann, "", 401, string(manager.CodeBadToken)},
	)
	s.steps(t, root,
		step{"DELETE", ann + "/roles/readers", "", 200, "="},
		step{"DELETE", role, "", 204, "="},
		step{"DELETE", ann + "/permission", "", 204, "="},
		step{"DELETE", ann + "/password", "", 204, "="},
		step{"DELETE", ann + "/password", "", 404, string(manager.CodeNoPassword)},
		step{"DELETE", operator1 + "/users/default_permissions", "", 204, "="},
		step{"DELETE", ann, "", 204, "="},
		step{"DELETE", ann, "", 404, string(manager.CodeUnknownUser)},
		step{"GET", "/v1/operators/OP0000000002/users", "", 404, string(manager.CodeUnknownOperator)},
	)
}

// A condition about what a path names holds in whatever form the path names it.
func TestConditionsHoldInEveryForm(t *testing.T) {
	s := start(t, true)
	var m api.PortMapping
	s.ask(t, "POST", "/v1/port_mappings", `{"destination":{"imsi":"`+imsi1+`","port":22}}`, 201, &m)
	ann := operator1 + "/users/ann"
	condition := fmt.Sprintf("pathVariable('imsi') == 'imsi-%s' or pathVariable('ip_address') == '%s' and pathVariable('port') == '%d'", imsi1, m.IPAddress, m.Port)
	s.steps(t, s.one.Credentials,
		step{"POST", ann, "", 201, "="},
		step{"POST", ann + "/password", `{"password":"password-1"}`, 201, "="},
		step{"PUT", ann + "/permission", quoted("permission", `{"statements":[{"effect":"allow","api":"*"},{"effect":"deny","api":"*","condition":"`+condition+`"}]}`), 200, "="},
	)
	c, err := api.Client{URL: s.url, HTTP: s.client}.Login(t.Context(), api.AuthRequest{OperatorID: "OP0000000001", UserName: "ann", Password: "password-1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{imsi1, "imsi-" + imsi1, "%69msi-" + imsi1} {
		s.steps(t, c.Credentials, step{"GET", "/v1/subscribers/" + path, "", 403, string(manager.CodeNotPermitted)})
	}
	for _, path := range []string{"%s/%d", "%s/0%d", "::ffff:%s/%d"} {
		s.steps(t, c.Credentials, step{"DELETE", "/v1/port_mappings/" + fmt.Sprintf(path, m.IPAddress, m.Port), "", 403, string(manager.CodeNotPermitted)})
	}
	s.steps(t, s.one.Credentials, step{"GET", "/v1/port_mappings/subscribers/imsi-" + imsi1, "", 200, m.Endpoint})
}

// More roles than there may be are refused as the SORACOM API refuses a role: with 400.
func TestTooManyRoles(t *testing.T) {
	s := start(t, false)
	for i := range manager.MaxRoles {
		if err := s.service.CreateRole(t.Context(), manager.Role{OperatorID: "OP0000000001", ID: fmt.Sprint("r", i), Permission: `{"statements":[]}`}); err != nil {
			t.Fatal(err)
		}
	}
	s.steps(t, s.one.Credentials, step{"POST", operator1 + "/roles/more", quoted("permission", `{"statements":[]}`), 400, string(manager.CodeTooManyAccounts)})
}

func TestMFAByAPI(t *testing.T) {
	s := start(t, false)
	root := s.one.Credentials
	s.steps(t, root,
		step{"GET", operator1 + "/mfa", "", 200, `={"status":"INACTIVE"}`},
		step{"POST", operator1 + "/mfa/verify", `{"mfaOTPCode":"123456"}`, 400, string(manager.CodeMFANotRequested)},
		step{"DELETE", operator1 + "/mfa", `{"password":"secret-1"}`, 400, string(manager.CodeMFANotRequested)},
	)
	_, body := s.as(t, root, "POST", operator1+"/mfa", "")
	var enrolled api.TOTP
	must(0, json.Unmarshal([]byte(body), &enrolled))
	secret := must(url.Parse(enrolled.TOTPURI)).Query().Get("secret")
	s.steps(t, root,
		step{"GET", operator1 + "/mfa", "", 200, `={"status":"UNCONFIRMED"}`},
		step{"POST", operator1 + "/mfa/verify", `{"mfaOTPCode":"00000x"}`, 400, string(manager.CodeWrongOTP)}, // 401 is for the token
	)
	_, body = s.as(t, root, "POST", operator1+"/mfa/verify", `{"mfaOTPCode":"`+must(totp.GenerateCode(secret, time.Now()))+`"}`)
	var backups api.BackupCodes
	must(0, json.Unmarshal([]byte(body), &backups))
	if len(backups.BackupCodes) != 10 {
		t.Fatalf("backup codes %s", body)
	}
	s.steps(t, api.AuthResponse{},
		step{"POST", "/v1/auth", `{"email":"a@example.com","password":"secret-1"}`, 401, string(manager.CodeOTPRequired)},
		step{"POST", "/v1/auth", `{"email":"a@example.com","password":"secret-1","mfaOTPCode":"12"}`, 401, string(manager.CodeOTPWrong)},
		step{"POST", "/v1/auth", `{"email":"a@example.com","password":"wrong","mfaOTPCode":"` + backups.BackupCodes[0] + `"}`, 401, string(manager.CodeAuthFailed)},
		step{"POST", "/v1/auth", `{"email":"a@example.com","password":"secret-1","mfaOTPCode":"` + backups.BackupCodes[0] + `"}`, 200, "apiKey"},
	)
	s.steps(t, root,
		step{"POST", operator1 + "/mfa", "", 400, string(manager.CodeMFAActive)},
		step{"DELETE", operator1 + "/mfa", `{"password":"wrong"}`, 400, string(manager.CodeWrongPassword)},
		step{"DELETE", operator1 + "/mfa", `{"password":"secret-1"}`, 204, "="},
		step{"GET", operator1 + "/mfa", "", 200, `={"status":"INACTIVE"}`},
	)
	for _, secret := range append(backups.BackupCodes, secret) {
		if strings.Contains(s.logs.String(), secret) {
			t.Error("a secret of the second factor is in the log")
		}
	}
}

// Tokens, keys and passwords never reach the log, whatever fails.
func TestSecretsAreNotLogged(t *testing.T) {
	s := start(t, true)
	root := s.one.Credentials
	var key api.NewAuthKey
	_, body := s.as(t, root, "POST", operator1+"/auth_keys", "")
	must(0, json.Unmarshal([]byte(body), &key))
	s.steps(t, root,
		step{"POST", "/v1/auth/password_reset_token/issue", `{"email":"a@example.com"}`, 200, "="},
		step{"POST", "/v1/auth", `{"email":"a@example.com","password":"hunter2-wrong"}`, 401, ""},
		step{"POST", "/v1/auth", `{"authKeyId":"keyId-1","authKey":"secret-guess"}`, 401, ""},
		step{"POST", "/v1/auth", `{"authKeyId":"keyId-1","authKey":"secret-1","tokenTimeoutSeconds":-1}`, 400, ""},
		step{"POST", "/v1/auth", `{"authKeyId":5,"authKey":"secret-1"}`, 400, ""},
		step{"POST", operator1 + "/token", `{"tokenTimeoutSeconds":0}`, 400, ""},
		step{"GET", "/v1/port_mappings/sims/unknown", "", 404, ""},
	)
	_, body = s.as(t, root, "GET", "/v1/simreach/outbox", "")
	var messages []api.Message
	must(0, json.Unmarshal([]byte(body), &messages))
	s.steps(t, root, step{"POST", "/v1/auth/password_reset_token/verify", `{"token":"` + messages[0].Token + `","password":"password-2"}`, 200, "="})
	s.as(t, api.AuthResponse{APIKey: root.APIKey, Token: root.Token + "x"}, "GET", "/v1/port_mappings", "")
	logged := s.logs.String()
	if !strings.Contains(logged, "request refused") {
		t.Fatal("nothing was logged")
	}
	for _, secret := range []string{root.Token, root.APIKey, key.AuthKey, messages[0].Token, "hunter2", "secret-guess", "secret-1", "password-2"} {
		if strings.Contains(logged, secret) {
			t.Errorf("%.20s... is in the log", secret)
		}
	}
}

func TestAPIAuditLog(t *testing.T) {
	s := start(t, true)
	root := s.one.Credentials
	s.steps(t, root,
		step{"POST", "/v1/auth", `{"authKeyId":"keyId-1","authKey":"wrong"}`, 401, ""},
		step{"GET", "/v1/port_mappings", "", 200, ""},
		step{"POST", operator1 + "/contracts", `{"contractName":"apiAudit"}`, 200, ""},
		step{"GET", "/v1/port_mappings", "", 200, ""},
		step{"DELETE", "/v1/port_mappings/192.0.2.1/1", "", 404, ""},
	)
	list := func(query string) []api.APICall {
		var calls []api.APICall
		status, body := s.as(t, root, "GET", "/v1/audit_logs/api"+query, "")
		if status != 200 {
			t.Fatalf("%s: %d %s", query, status, body)
		}
		must(0, json.Unmarshal([]byte(body), &calls))
		return calls
	}
	all := list("")
	kinds := map[string]int{}
	for _, c := range all {
		kinds[c.APIKind+" "+string(rune('0'+c.StatusCode/100))]++
		if c.OperatorID != "OP0000000001" || c.UserName != "" || c.RemoteIPAddress != "127.0.0.1" || c.RequestPath == "" {
			t.Errorf("call %+v", c)
		}
	}
	if kinds["Auth:auth 2"] != 1 || kinds["Auth:auth 4"] != 1 || kinds["PortMapping:deletePortMapping 4"] != 1 {
		t.Errorf("calls %v; want both logins, and what followed the contract", kinds)
	}
	for i := 1; i < len(all); i++ {
		if all[i].RequestedTimeEpochMs > all[i-1].RequestedTimeEpochMs {
			t.Error("they are not newest first")
		}
	}
	if got := list("?api_kind=Auth:auth"); len(got) != 2 {
		t.Errorf("%d logins; want 2", len(got))
	}
	resp, _ := s.do(t, "GET", "/v1/audit_logs/api?limit=1", "")
	if resp.Header.Get(api.HeaderNextKey) == "" {
		t.Error("no next page")
	}
	oldest := all[len(all)-1]
	at := fmt.Sprintf("?from_epoch_ms=%[1]d&to_epoch_ms=%[1]d", oldest.RequestedTimeEpochMs)
	if got := list(at); len(got) == 0 || got[len(got)-1] != oldest {
		t.Errorf("%s: %+v; want what was then: both ends count, as in the other logs", at, got)
	}
	byTime := fmt.Sprint("?last_evaluated_key=", all[0].RequestedTimeEpochMs)
	for _, c := range list(byTime) {
		if c.RequestedTimeEpochMs >= all[0].RequestedTimeEpochMs {
			t.Errorf("%s: %+v; want what was before", byTime, c)
		}
	}
	if got := list(fmt.Sprint("?last_evaluated_key=", oldest.RequestedTimeEpochMs+1)); len(got) == 0 || got[len(got)-1] != oldest {
		t.Errorf("before the millisecond after the oldest: %+v; want it", got)
	}
	if got := list(fmt.Sprint("?last_evaluated_key=", oldest.RequestedTimeEpochMs)); len(got) != 0 {
		t.Errorf("before the oldest: %+v", got)
	}
	s.steps(t, root,
		step{"GET", "/v1/audit_logs/api?last_evaluated_key=x", "", 400, string(manager.CodeBadPageKey)},
		step{"GET", "/v1/audit_logs/api?from_epoch_ms=x", "", 400, string(manager.CodeBadQuery)},
		step{"GET", "/v1/audit_logs/api?limit=0", "", 400, string(manager.CodeBadLimit)},
	)
}

// The extensions: several entries in one request, and one entry for several devices.
func TestExtended(t *testing.T) {
	s := start(t, true)
	root := s.one.Credentials
	one := `{"destination":{"imsi":"` + imsi1 + `","port":22},"source":{"ipRanges":["192.0.2.0/24"]}}`
	many := `{"targets":[{"imsi":"` + imsi1 + `","port":22},{"simId":"` + sim1 + `","port":80,"duration":60,"source":{"ipRanges":["192.0.2.1"]}}],"tlsRequired":true,"proxyProtocol":true}`
	const path = "/v1/simreach/port_mappings"
	s.steps(t, root,
		step{"POST", path, `{"requests":[]}`, 400, string(manager.CodeTooManyRequests)},
		step{"POST", path, `{"requests":[` + one + `,{"destination":{"imsi":"` + imsi2 + `","port":22}}]}`, 404, string(manager.CodeUnknownSubscriber)},
		step{"GET", path, "", 200, "=[]"}, // all or none
		step{"POST", path, `{"requests":[` + strings.Replace(many, `"tlsRequired":true`, `"tlsRequired":false`, 1) + `]}`, 400, string(manager.CodeTargetsNeedTLS)},
		step{"POST", path, `{"requests":[{"destination":{"imsi":"` + imsi1 + `","port":22},"credentialId":"x"}]}`, 400, string(manager.CodeCredentialNeedsTLS)},
		step{"POST", path, `{"requests":[{"destination":{"imsi":"` + imsi1 + `","port":22},"credentialId":"x","tlsRequired":true}]}`, 404, string(manager.CodeUnknownCredential)},
		step{"POST", path, `{"requests":[` + one + `,` + many + `]}`, 201, `"proxyProtocol":true`},
		step{"GET", path, "", 200, `"targets":[{"imsi":"` + imsi1 + `"`},
		step{"GET", "/v1/port_mappings", "", 200, `"tlsRequired":true`},
		step{"POST", "/v1/port_mappings", `{"destination":{"imsi":"` + imsi1 + `","port":22},"tlsRequired":true}`, 201, `"tlsRequired":true`},
	)
}

// FuzzBody sends whatever to operations that read bodies: the answer is never a fault
// of ours.
func FuzzBody(f *testing.F) {
	for _, b := range []string{`{}`, `[]`, `null`, `{"permission":"{}"}`, `{"destination":{"imsi":"` + imsi1 + `","port":22}}`, `{"requests":[{}]}`, `{"email":"a","password":"b"}`, "\xff"} {
		f.Add(b)
	}
	s := fuzzed(f)
	f.Fuzz(func(t *testing.T, body string) {
		for _, c := range [][2]string{
			{"POST", "/v1/port_mappings"}, {"POST", "/v1/simreach/port_mappings"}, {"PUT", operator1 + "/users/ann/permission"}, {"POST", operator1 + "/roles/r"},
			{"PUT", operator1 + "/users/ann/trust_policy"}, {"POST", "/v1/auth/switch_user"}, {"POST", operator1 + "/token"},
		} {
			if status := s(c[0], c[1], body); status >= 500 {
				t.Errorf("%s %s with %q: %d", c[0], c[1], body, status)
			}
		}
	})
}
