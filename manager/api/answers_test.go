package api_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
)

// What a request leaves out that it needs is refused, and null is no list.
func TestRequiredMembers(t *testing.T) {
	s := start(t, true)
	g := s.made(t, "POST", "/v1/groups", "", "groupId")
	s.made(t, "PUT", "/v1/subscribers/"+imsi1+"/bundles", `["a"]`, "")
	s.steps(t, s.one.Credentials,
		step{"PUT", "/v1/sims/" + sim1 + "/tags", `[{"tagName":"a"}]`, 400, string(manager.CodeBadTag)},
		step{"PUT", "/v1/sims/" + sim1 + "/tags", `[{"tagName":"a","tagValue":null}]`, 400, string(manager.CodeBadTag)},
		step{"PUT", "/v1/sims/" + sim1 + "/tags", `[{"tagValue":"a"}]`, 400, string(manager.CodeBadTag)},
		step{"PUT", "/v1/sims/" + sim1 + "/tags", `[{"tagName":"a","tagValue":""}]`, 200, `"a":""`},
		step{"PUT", "/v1/sims/" + sim1 + "/tags", `null`, 400, string(manager.CodeBadBody)},
		step{"PUT", "/v1/sims/" + sim1 + "/tags", `[]`, 200, sim1},
		step{"PUT", "/v1/subscribers/" + imsi1 + "/bundles", `null`, 400, string(manager.CodeBadBody)},
		step{"GET", "/v1/subscribers/" + imsi1, "", 200, `"bundles":["a"]`},
		step{"PUT", "/v1/subscribers/" + imsi1 + "/bundles", `[]`, 200, `"bundles":[]`},
		step{"POST", "/v1/sims/" + sim1 + "/set_group", `{}`, 400, string(manager.CodeBadBody)},
		step{"POST", "/v1/sims/" + sim1 + "/set_group", `{"groupId":null}`, 400, string(manager.CodeBadBody)},
		step{"PUT", "/v1/groups/" + g + "/configuration/SoracomAir", `[{"value":1}]`, 400, string(manager.CodeBadNamespace)},
		step{"PUT", "/v1/groups/" + g + "/configuration/SoracomAir", `[{"key":"a"}]`, 400, string(manager.CodeBadNamespace)},
		step{"PUT", "/v1/groups/" + g + "/configuration/SoracomAir", `null`, 400, string(manager.CodeBadBody)},
		step{"POST", "/v1/groups", `{"configuration":{"SoracomAir":{"":1}}}`, 400, string(manager.CodeBadNamespace)},
		// A namespace that is null is none: an answer has objects only.
		step{"POST", "/v1/groups", `{"configuration":{"SoracomAir":null,"SoracomBeam":{}},"tags":null}`, 201, `"configuration":{"SoracomBeam":{}}`},
	)
}

// The status of a subscription within a SIM knows fewer words than that of the SIM.
func TestSubscriptionStatus(t *testing.T) {
	s := start(t, false)
	for _, step := range []struct{ action, sim, subscription string }{
		{"", "ready", "ready"}, {"activate", "active", "active"}, {"suspend", "suspended", "active"}, {"deactivate", "inactive", "active"},
		{"set_to_standby", "standby", "active"}, {"enable_termination", "standby", "active"}, {"terminate", "terminated", "terminated"},
	} {
		method, path := "GET", "/v1/sims/"+sim1
		if step.action != "" {
			method, path = "POST", path+"/"+step.action
		}
		var sim api.Sim
		s.ask(t, method, path, "", 200, &sim)
		if got := sim.Profiles[sim.ActiveProfileID].Subscribers[imsi1].Status; sim.Status != step.sim || got != step.subscription {
			t.Errorf("%s: the SIM is %s and its subscription %s; want %s and %s", step.action, sim.Status, got, step.sim, step.subscription)
		}
	}
}

// What is refused is explained in Japanese to who asks for it, details included.
func TestJapaneseAnswers(t *testing.T) {
	s := start(t, true)
	s.made(t, "POST", operator1+"/users/ann", `{}`, "")
	permission := func(text string) string { return quoted("permission", text) }
	handler := func(rule, action string) string {
		return `{"name":"h","status":"active","targetImsi":"` + imsi1 + `","ruleConfig":` + rule + `,"actionConfigList":[` + action + `]}`
	}
	const rule = `{"type":"SubscriberExpiredRule","properties":{"inactiveTimeoutDateConst":"NEVER"}}`
	const action = `{"type":"DeactivationAction","properties":{"executionDateTimeConst":"IMMEDIATELY"}}`
	const web = `{"type":"ExecuteWebRequestAction","properties":{"executionDateTimeConst":"IMMEDIATELY",`
	mapping := func(ranges string) string {
		return `{"destination":{"imsi":"` + imsi1 + `","port":22},"source":{"ipRanges":[` + ranges + `]}}`
	}
	prose := regexp.MustCompile(`[a-z]{2,} [a-z]{2,}`)
	quotes := regexp.MustCompile(`"(\\.|[^"\\])*"`)
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/v1/port_mappings", ""}, {"POST", "/v1/port_mappings", "x"}, {"POST", "/v1/port_mappings", "{"}, {"POST", "/v1/port_mappings", "{} {}"},
		{"POST", "/v1/port_mappings", `[]`}, {"POST", "/v1/port_mappings", `{"duration":"x"}`}, {"POST", "/v1/port_mappings", `{"tlsRequired":1}`},
		{"POST", "/v1/port_mappings", `{"destination":{"imsi":1}}`}, {"POST", "/v1/port_mappings", `{"source":{"ipRanges":1}}`}, {"POST", "/v1/port_mappings", `{"source":1}`},
		{"POST", "/v1/groups", `{"tags":1}`}, {"PUT", "/v1/sims/" + sim1 + "/tags", `null`},
		{"POST", "/v1/port_mappings", mapping(`"x y"`)}, {"POST", "/v1/port_mappings", mapping(strings.Repeat(`"192.0.2.1",`, 64) + `"192.0.2.1"`)},
		{"PUT", operator1 + "/users/ann/permission", `{}`}, {"PUT", operator1 + "/users/ann/permission", permission(`{"statements":[{"effect":"maybe so","api":"*"}]}`)},
		{"PUT", operator1 + "/users/ann/permission", permission(`{"statements":[{"effect":"allow","api":"*","condition":"samUserName"}]}`)},
		{"PUT", operator1 + "/users/ann/permission", permission(`{"statements":[{"effect":"allow","api":"*","condition":"not 1"}]}`)},
		{"PUT", operator1 + "/users/ann/permission", permission(`{"statements":[{"effect":"allow","api":"*","condition":"(true"}]}`)},
		{"PUT", operator1 + "/users/ann/permission", permission(`{"statements":[],"more":1}`)}, {"PUT", operator1 + "/users/ann/permission", permission(`{"statements":[}`)},
		{"PUT", operator1 + "/users/ann/trust_policy", quoted("trustPolicy", `{"statements":[{"effect":"allow","principal":{"soracom":"me too"}}]}`)},
		{"PUT", "/v1/sims/" + sim1 + "/tags", `[{"tagName":"","tagValue":"x"}]`}, {"PUT", "/v1/sims/" + sim1 + "/tags", `[{"tagName":"x"}]`},
		{"PUT", "/v1/subscribers/" + imsi1 + "/bundles", `[""]`}, {"POST", "/v1/groups", `{"configuration":{"SoracomNapter":{}}}`},
		{"GET", "/v1/query/sims?name=a", ""}, {"GET", "/v1/query/sims?search_type=x", ""}, {"GET", "/v1/query/sims?session_status=x", ""},
		{"GET", "/v1/query/sims?name=" + strings.Repeat("xx,", 200) + "xx", ""},
		{"POST", "/v1/simreach/credentials", `{"caCertificate":"!"}`}, {"POST", "/v1/simreach/credentials", `{"caCertificate":"AAAA"}`}, {"POST", "/v1/simreach/credentials", `{}`},
		{"POST", "/v1/event_handlers", handler(rule, "")}, {"POST", "/v1/event_handlers", handler(`{"type":"SubscriberExpiredRule"}`, action)},
		{"POST", "/v1/event_handlers", handler(rule, `{"type":"DeactivationAction"}`)}, {"POST", "/v1/event_handlers", handler(rule, web+`"url":"x"}}`)},
		{"POST", "/v1/event_handlers", handler(rule, web+`"url":"http://a","httpMethod":"HEAD"}}`)}, {"POST", "/v1/event_handlers", handler(rule, web+`"url":"http://a","headers":[]}}`)},
		{"POST", "/v1/event_handlers", handler(rule, web+`"url":"http://a","headers":{"a b":"c"}}}`)},
		{"POST", "/v1/event_handlers", handler(rule, `{"type":"ChangeSpeedClassAction","properties":{}}`)}, {"POST", "/v1/event_handlers", strings.Replace(handler(rule, action), `"active"`, `"x"`, 1)},
	} {
		resp, body := s.do(t, c.method, c.path, c.body, api.HeaderLang, "ja")
		var e api.Error
		if err := json.Unmarshal([]byte(body), &e); err != nil || resp.StatusCode != 400 {
			t.Errorf("%s %s %.80s: %s %s; want 400", c.method, c.path, c.body, resp.Status, body)
		}
		if text := quotes.ReplaceAllString(e.Message, ""); prose.MatchString(text) || strings.Contains(text, "%!") {
			t.Errorf("%s %s %.80s: %q; want Japanese", c.method, c.path, c.body, e.Message)
		}
	}
}

// A client that does not wait for its answer is no fault of ours in the log of calls.
func TestClientGone(t *testing.T) {
	s := start(t, false)
	s.made(t, "POST", operator1+"/contracts", `{"contractName":"apiAudit"}`, "")
	h, err := api.Handler(nil, s.service, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req := httptest.NewRequestWithContext(ctx, "GET", "/v1/groups", nil)
	req.Header.Set(api.HeaderAPIKey, s.one.Credentials.APIKey)
	req.Header.Set(api.HeaderToken, s.one.Credentials.Token)
	h.ServeHTTP(httptest.NewRecorder(), req)
	var calls []api.APICall
	s.ask(t, "GET", "/v1/audit_logs/api?api_kind=Group:listGroups", "", 200, &calls)
	if len(calls) != 1 || calls[0].StatusCode != 499 {
		t.Errorf("calls %+v; want one with 499", calls)
	}
}
