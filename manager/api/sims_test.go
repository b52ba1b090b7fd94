package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/nf/sbi"
)

// ask makes a request and reads the answer into `into`, unless that is nil.
func (s *server) ask(t *testing.T, method, path, body string, status int, into any) *http.Response {
	t.Helper()
	resp, text := s.do(t, method, path, body)
	if resp.StatusCode != status {
		t.Fatalf("%s %s: %s %s; want %d", method, path, resp.Status, text, status)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, text)
		}
	}
	return resp
}

// charge gives the first SIM a session with some traffic.
func (s *server) charge(t *testing.T) {
	t.Helper()
	plmn := ident.PLMN{MCC: "001", MNC: "01"}
	d := sbi.ChargingData{
		SMF: "smf1", Sequence: 1, At: time.Now(), ChargingID: "c1", SUPI: ident.IMSI(imsi1).SUPI(), PEI: "imei-353490069873319", Session: 1, DNN: "internet",
		Address: ident.UEAddress{V4: netip.MustParseAddr("10.0.0.1")}, UPF: "upf1", Started: time.Now(),
		Location: ident.Location{NRCGI: ident.NRCGI{PLMN: plmn, Cell: 0x123456789}, TAI: ident.TAI{PLMN: plmn, TAC: 7}},
	}
	ref, err := s.service.CreateCharging(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	d.Sequence, d.Used = 2, &sbi.UsedUnits{UplinkOctets: 100, DownlinkOctets: 2000, UplinkPackets: 1, DownlinkPackets: 2, To: time.Now()}
	if err := s.service.UpdateCharging(t.Context(), ref, d); err != nil {
		t.Fatal(err)
	}
}

// Both views of a SIM go through its life. The answers' schemas are checked on the way.
func TestSIMLife(t *testing.T) {
	for name, base := range map[string]string{"by IMSI": "/v1/subscribers/" + imsi1, "by SIM ID": "/v1/sims/" + sim1} {
		t.Run(name, func(t *testing.T) {
			s := start(t, false)
			var g api.Group
			s.ask(t, "POST", "/v1/groups", `{"tags":{"name":"fleet"}}`, 201, &g)
			var sim struct {
				Status, SpeedClass, CoreSync string
				GroupID                      *string
				IMEILock                     *api.IMEILock
				ExpiryTime                   *int64
				TerminationEnabled           bool
				Tags                         map[string]string
			}
			post := func(action, body string, status int) {
				t.Helper()
				s.ask(t, "POST", base+"/"+action, body, status, &sim)
			}
			s.ask(t, "GET", base, "", 200, &sim)
			if sim.Status != "ready" || sim.SpeedClass != "u1.standard" || sim.CoreSync != "done" || sim.Tags["name"] != "" {
				t.Errorf("at first %+v", sim)
			}
			for _, step := range []struct{ action, want string }{
				{"activate", "active"}, {"deactivate", "inactive"}, {"set_to_standby", "standby"}, {"suspend", "suspended"}, {"activate", "active"},
			} {
				if post(step.action, "", 200); sim.Status != step.want {
					t.Errorf("%s: %s; want %s", step.action, sim.Status, step.want)
				}
			}
			post("update_speed_class", `{"speedClass":"s1.slow"}`, 200)
			post("set_group", `{"groupId":"`+g.GroupID+`"}`, 200)
			post("set_imei_lock", `{"imei":"353490069873319|ANONYMOUS"}`, 200)
			post("set_expiry_time", `{"expiryTime":32503680000000,"expiryAction":"suspend"}`, 200)
			s.ask(t, "PUT", base+"/tags", `[{"tagName":"name","tagValue":"cam 1"},{"tagName":"a/b c","tagValue":"x"}]`, 200, &sim)
			if sim.SpeedClass != "s1.slow" || sim.GroupID == nil || sim.IMEILock == nil || sim.IMEILock.IMEI != "353490069873319|ANONYMOUS" || sim.ExpiryTime == nil || sim.Tags["a/b c"] != "x" {
				t.Errorf("after all was set %+v", sim)
			}
			var members []api.Sim
			s.ask(t, "GET", "/v1/groups/"+g.GroupID+"/subscribers", "", 200, &members)
			if len(members) != 1 || members[0].SIMID != sim1 {
				t.Errorf("members of the group: %+v", members)
			}
			s.ask(t, "DELETE", base+"/tags/a%2Fb%20c", "", 204, nil)
			s.ask(t, "DELETE", base+"/tags/a%2Fb%20c", "", 404, nil)
			for _, a := range []string{"unset_group", "unset_imei_lock", "unset_expiry_time"} {
				post(a, "", 200)
			}
			if sim.GroupID != nil || sim.IMEILock != nil || sim.ExpiryTime != nil {
				t.Errorf("after all was unset %+v", sim)
			}
			// A group that has SIMs can be deleted; they are in none then.
			post("set_group", `{"groupId":"`+g.GroupID+`"}`, 200)
			s.ask(t, "DELETE", "/v1/groups/"+g.GroupID, "", 204, nil)
			if s.ask(t, "GET", base, "", 200, &sim); sim.GroupID != nil {
				t.Errorf("the SIM is in group %s, which is gone", *sim.GroupID)
			}
			for _, call := range [][2]string{{"DELETE", ""}, {"GET", ""}, {"GET", "/subscribers"}} {
				s.ask(t, call[0], "/v1/groups/"+g.GroupID+call[1], "", 404, nil)
			}
			s.ask(t, "POST", base+"/set_group", `{"groupId":"`+g.GroupID+`"}`, 404, nil)
			s.ask(t, "POST", base+"/unset_expiry_time", "", 404, nil)
			s.ask(t, "POST", base+"/set_imei_lock", "", 400, nil)
			s.ask(t, "POST", base+"/set_expiry_time", `{"expiryTime":32503680000000.5}`, 400, nil)
			s.ask(t, "POST", base+"/delete_session", "", 400, nil)
			s.ask(t, "POST", base+"/downlink/ping", `{"numberOfPingRequests":9}`, 400, nil)
			s.ask(t, "POST", base+"/downlink/ping", "", 400, nil)
			s.ask(t, "POST", base+"/terminate", "", 409, nil)
			post("enable_termination", "", 200)
			post("disable_termination", "", 200)
			post("enable_termination", "", 200)
			if post("terminate", "", 200); sim.Status != "terminated" {
				t.Errorf("terminated: %s", sim.Status)
			}
			s.ask(t, "POST", base+"/activate", "", 409, nil)
		})
	}
}

// What charging reported shows in the SIM, its events and its statistics.
func TestSIMSession(t *testing.T) {
	s := start(t, false)
	s.charge(t)
	var sub api.Subscriber
	s.ask(t, "GET", "/v1/subscribers/"+imsi1, "", 200, &sub)
	st := sub.SessionStatus
	if sub.Status != "active" || !st.Online || st.IMEI != "353490069873319" || st.UEIPAddress != "10.0.0.1" || sub.IPAddress != "10.0.0.1" || sub.APN != "internet" {
		t.Errorf("subscriber with a session: %+v", sub)
	}
	if want := (api.Cell{RadioType: "NR", MCC: 1, MNC: 1, TAC: 7, NCI: 0x123456789}); st.Cell == nil || *st.Cell != want {
		t.Errorf("cell %+v; want %+v", st.Cell, want)
	}
	if l := sub.LocationRegistrationStatus; l == nil || l.PS == nil || l.PS.PLMN != "00101" {
		t.Errorf("registration %+v; want 00101", l)
	}
	var events []api.SessionEvent
	s.ask(t, "GET", "/v1/sims/"+sim1+"/events/sessions?limit=5", "", 200, &events)
	if len(events) != 1 || events[0].Event != "Created" || events[0].IMEI != "353490069873319" {
		t.Errorf("events %+v", events)
	}
	var history []api.StatusChange
	s.ask(t, "GET", "/v1/sims/"+sim1+"/statuses/history?sort=asc", "", 200, &history)
	if len(history) != 2 || history[0].Status != "ready" || history[1].Status != "active" {
		t.Errorf("history %+v", history)
	}
	span := fmt.Sprintf("from=%d&to=%d", time.Now().Add(-48*time.Hour).Unix(), time.Now().Unix())
	for _, path := range []string{"/v1/stats/air/subscribers/" + imsi1, "/v1/stats/air/sims/" + sim1} {
		for _, period := range []string{"minutes", "day", "month"} {
			var stats []api.AirStats
			s.ask(t, "GET", path+"?period="+period+"&"+span, "", 200, &stats)
			if want := (api.Traffic{Up: 100, Down: 2000, UpPackets: 1, DownPackets: 2}); len(stats) != 1 || stats[0].Traffic["u1.standard"] != want {
				t.Errorf("%s of %s: %+v", period, path, stats)
			}
		}
	}
	var totals []api.AirTotals
	s.ask(t, "GET", "/v1/stats/air/operators/OP0000000001?period=day&"+span, "", 200, &totals)
	if len(totals) != 1 || totals[0].Down != 2000 {
		t.Errorf("the operator's: %+v", totals)
	}
	s.ask(t, "GET", "/v1/stats/air/operators/OP0000000001?period=minutes&"+span, "", 400, nil)
	s.ask(t, "GET", "/v1/stats/air/subscribers/"+imsi1+"?period=day&from=2&to=1", "", 400, nil)
	var ranked []api.TrafficVolume
	s.ask(t, "GET", fmt.Sprintf("/v1/query/subscribers/traffic_volume/ranking?from=%d&to=%d", time.Now().Add(-time.Hour).UnixMilli(), time.Now().UnixMilli()), "", 200, &ranked)
	if len(ranked) != 1 || ranked[0].Volume != 2100 {
		t.Errorf("ranking %+v", ranked)
	}
	var summary api.Summary
	s.ask(t, "GET", "/v1/resource_summaries/simsPerStatus", "", 200, &summary)
	if text := fmt.Sprint(summary); !strings.Contains(text, "{activeSims 1}") || !strings.Contains(text, "{readySims 0}") {
		t.Errorf("summary %s", text)
	}
	s.ask(t, "GET", "/v1/resource_summaries/simsPerColour", "", 404, nil)
}

// The requests are those that clients were seen to send.
func TestQueries(t *testing.T) {
	s := start(t, false)
	s.charge(t)
	s.ask(t, "PUT", "/v1/sims/"+sim1+"/tags", `[{"tagName":"name","tagValue":"Camera 1"}]`, 200, nil)
	for _, c := range []struct {
		query string
		n     int
	}{
		{"", 1}, {"name=CAM&name=zz", 1}, {"name=zz", 0}, {"name=zz,cam", 1}, {"session_status=ONLINE&search_type=AND&limit=100", 1}, {"session_status=OFFLINE", 0},
		{"name=zz&imsi=0010", 0}, {"name=zz&imsi=0010&search_type=or", 1}, {"tag=camera", 1}, {"sim_id=8942", 1}, {"status=active", 1},
	} {
		var sims []api.Sim
		s.ask(t, "GET", "/v1/query/sims?"+c.query, "", 200, &sims)
		var subs []api.Subscriber
		s.ask(t, "GET", "/v1/query/subscribers?"+c.query, "", 200, &subs)
		if len(sims) != c.n || len(subs) != c.n {
			t.Errorf("%s: %d SIMs and %d subscribers; want %d", c.query, len(sims), len(subs), c.n)
		}
	}
	for _, q := range []string{"name=a", "search_type=xor", "session_status=MAYBE", "name=ab," + strings.Repeat("xx,", 200) + "yy"} {
		s.ask(t, "GET", "/v1/query/sims?"+q, "", 400, nil)
	}
	for q, n := range map[string]int{
		"status_filter=active%7Cready": 1, "status_filter=suspended": 0, "tag_name=name&tag_value=Camera+1": 1, "tag_name=name&tag_value=Cam": 0,
		"tag_name=name&tag_value=Cam&tag_value_match_mode=prefix": 1, "speed_class_filter=s1.slow": 0,
	} {
		var subs []api.Subscriber
		s.ask(t, "GET", "/v1/subscribers?"+q, "", 200, &subs)
		if len(subs) != n {
			t.Errorf("%s: %d; want %d", q, len(subs), n)
		}
	}
	s.ask(t, "GET", "/v1/subscribers?tag_value_match_mode=near", "", 400, nil)
	s.ask(t, "GET", "/v1/subscribers?tag_name=name", "", 400, nil)
	s.ask(t, "GET", "/v1/groups?tag_name=name", "", 400, nil)
	if resp := s.ask(t, "GET", "/v1/sims?limit=1", "", 200, nil); resp.Header.Get(api.HeaderNextKey) != "" {
		t.Error("the only page names another")
	}
}

func TestGroups(t *testing.T) {
	s := start(t, false)
	var a, b api.Group
	s.ask(t, "POST", "/v1/groups", `{"tags":{"name":"one"},"configuration":{"SoracomAir":{"userdata":"x"}}}`, 201, &a)
	s.ask(t, "POST", "/v1/groups", "", 201, &b)
	path := "/v1/groups/" + a.GroupID
	var list []api.Group
	resp := s.ask(t, "GET", "/v1/groups?limit=1", "", 200, &list)
	if len(list) != 1 || resp.Header.Get(api.HeaderNextKey) == "" {
		t.Errorf("the first page: %d groups, next %q", len(list), resp.Header.Get(api.HeaderNextKey))
	}
	s.ask(t, "GET", "/v1/groups?limit=1&last_evaluated_key="+resp.Header.Get(api.HeaderNextKey), "", 200, &list)
	if len(list) != 1 {
		t.Errorf("the second page: %d groups", len(list))
	}
	s.ask(t, "GET", "/v1/groups?tag_name=name&tag_value=one", "", 200, &list)
	if len(list) != 1 || list[0].GroupID != a.GroupID {
		t.Errorf("by tag: %+v", list)
	}
	s.ask(t, "PUT", path+"/configuration/SoracomBeam", `[{"key":"mqtt://beam.soracom.io:1883","value":{"enabled":true}}]`, 200, &a)
	if len(a.Configuration) != 2 {
		t.Errorf("configuration %v", a.Configuration)
	}
	s.ask(t, "DELETE", path+"/configuration/SoracomBeam/mqtt:%2F%2Fbeam.soracom.io:1883", "", 204, nil)
	s.ask(t, "DELETE", path+"/configuration/SoracomBeam/mqtt:%2F%2Fbeam.soracom.io:1883", "", 404, nil)
	s.ask(t, "DELETE", path+"/configuration/SoracomAir", "", 204, nil)
	s.ask(t, "PUT", path+"/configuration/SoracomNapter", `[{"key":"a","value":1}]`, 400, nil)
	s.ask(t, "PUT", path+"/configuration/SoracomAir", `[{"key":"a","value":"`+strings.Repeat("x", 9<<10)+`"}]`, 400, nil)
	s.ask(t, "PUT", path+"/tags", `[{"tagName":"k","tagValue":"v"}]`, 200, &a)
	s.ask(t, "DELETE", path+"/tags/k", "", 204, nil)
	s.ask(t, "GET", "/v1/stats/air/groups/"+a.GroupID+"?period=month&from=1&to=2", "", 200, nil)
	s.ask(t, "DELETE", path, "", 204, nil)
	s.ask(t, "GET", path, "", 404, nil)
}

func TestEventHandlers(t *testing.T) {
	s := start(t, false)
	const body = `{"name":"limit","status":"active","description":"d","targetImsi":"` + imsi1 + `",
		"ruleConfig":{"type":"SubscriberMonthlyTrafficRule","properties":{"limitTotalTrafficMegaByte":"10","inactiveTimeoutDateConst":"BEGINNING_OF_NEXT_MONTH"}},
		"actionConfigList":[{"type":"ChangeSpeedClassAction","properties":{"speedClass":"s1.minimum","executionDateTimeConst":"IMMEDIATELY"}},
		{"type":"ExecuteWebRequestAction","properties":{"url":"https://example.com","httpMethod":"POST","contentType":"application/json","headers":{"a":"b"},"body":"{}","executionDateTimeConst":"IMMEDIATELY"}}]}`
	var h api.EventHandler
	s.ask(t, "POST", "/v1/event_handlers", body, 201, &h)
	path := "/v1/event_handlers/" + h.HandlerID
	if h.TargetIMSI == nil || h.TargetGroupID != nil || len(h.Actions) != 2 {
		t.Errorf("created %+v", h)
	}
	var list []api.EventHandler
	s.ask(t, "GET", "/v1/event_handlers?target=imsi", "", 200, &list)
	if len(list) != 1 {
		t.Errorf("of IMSIs: %+v", list)
	}
	s.ask(t, "GET", "/v1/event_handlers?target=sim", "", 200, &list)
	if len(list) != 0 {
		t.Errorf("of SIMs: %+v", list)
	}
	s.ask(t, "GET", "/v1/event_handlers/subscribers/"+imsi1, "", 200, &list)
	s.ask(t, "PUT", path, strings.Replace(body, `"active"`, `"inactive"`, 1), 200, &h)
	if h.Status != "inactive" {
		t.Errorf("changed %+v", h)
	}
	s.ask(t, "POST", path+"/subscribers/"+imsi1+"/ignore", "", 200, nil)
	s.ask(t, "DELETE", path+"/subscribers/"+imsi1+"/ignore", "", 204, nil)
	s.ask(t, "DELETE", path+"/subscribers/"+imsi1+"/ignore", "", 404, nil)
	s.ask(t, "GET", path, "", 200, nil)
	s.ask(t, "DELETE", path, "", 204, nil)
	s.ask(t, "GET", path, "", 404, nil)
	for why, change := range map[string][2]string{
		"two targets":     {`"description":"d"`, `"targetOperatorId":"OP0000000001"`},
		"unknown status":  {`"active"`, `"maybe"`},
		"unsupported":     {"SubscriberMonthlyTrafficRule", "MonthlyChargeRule"},
		"not an object":   {`{"type":"SubscriberMonthlyTrafficRule"`, `[{"type":"x"`},
		"no URL":          {"https://example.com", ""},
		"unknown target":  {imsi1, "x"},
		"a number of MiB": {`"10"`, `"ten"`},
	} {
		if resp, text := s.do(t, "POST", "/v1/event_handlers", strings.Replace(body, change[0], change[1], 1)); resp.StatusCode != 400 {
			t.Errorf("%s: %s %s; want 400", why, resp.Status, text)
		}
	}
}

// What a path names and nobody knows is repeated up to a length, and no character in part.
func TestUnknownNamesAreCutBetweenCharacters(t *testing.T) {
	s := start(t, false)
	name := strings.Repeat("線", 100)
	kept := name[:64*len("線")]
	for path, code := range map[string]manager.Code{"/v1/sims/": manager.CodeUnknownSIM, "/v1/resource_summaries/": manager.CodeUnknownSummary} {
		_, body := s.as(t, s.one.Credentials, "GET", path+url.PathEscape(name), "")
		if !strings.Contains(body, string(code)) || !strings.Contains(body, kept) || strings.Contains(body, kept+"線") || strings.Contains(body, "\uFFFD") {
			t.Errorf("%s: %s; want %s, and 64 whole characters of the name", path, body, code)
		}
	}
}

// What belongs to another operator is not there.
func TestSIMsOfOthers(t *testing.T) {
	s := start(t, false)
	var g api.Group
	s.ask(t, "POST", "/v1/groups", "", 201, &g)
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/v1/subscribers/" + imsi2, ""}, {"POST", "/v1/subscribers/" + imsi2 + "/suspend", ""}, {"PUT", "/v1/subscribers/" + imsi2 + "/tags", "[]"},
		{"GET", "/v1/subscribers/" + imsi2 + "/events/sessions", ""}, {"GET", "/v1/stats/air/subscribers/" + imsi2 + "?period=day&from=1&to=2", ""},
		{"GET", "/v1/stats/air/operators/OP0000000002?period=day&from=1&to=2", ""}, {"GET", "/v1/sims/nothing", ""},
		{"POST", "/v1/subscribers/" + imsi1 + "/set_group", `{"groupId":"nothing"}`}, {"POST", "/v1/subscribers/" + imsi2 + "/register", `{"registrationSecret":""}`},
	} {
		if resp, text := s.do(t, c.method, c.path, c.body); resp.StatusCode != 404 {
			t.Errorf("%s %s: %s %s; want 404", c.method, c.path, resp.Status, text)
		}
	}
	if _, err := s.service.Group(t.Context(), manager.OperatorID("OP0000000002"), manager.GroupID(g.GroupID)); err == nil {
		t.Error("a group of another operator is there")
	}
}
