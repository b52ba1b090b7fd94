package sbi

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

func TestPeerRestarts(t *testing.T) {
	f := &fake{}
	url, stop := start(t, "127.0.0.1:0", f.services())
	client := dial(t, url, ClientOptions{RetryFor: 10 * time.Second})
	if err := client.Deregister(t.Context(), supi, SubscriptionWithdrawn); err != nil {
		t.Fatal(err)
	}
	stop()
	// The request goes out while nobody listens, and is answered by the next peer.
	done := make(chan error, 1)
	go func() { done <- client.Deregister(t.Context(), supi, ReregistrationRequired) }()
	_, stop2 := start(t, strings.TrimPrefix(url, "http://"), f.services())
	defer stop2()
	if err := <-done; err != nil {
		t.Errorf("a request during the restart = %v, want it answered after", err)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	_ = l.Close()
	for _, retry := range []time.Duration{-1, 120 * time.Millisecond} {
		err := dial(t, url, ClientOptions{RetryFor: retry}).Release(t.Context(), supi, 1)
		var u *UnreachableError
		if !errors.As(err, &u) || u.Peer != url || (retry < 0) != (u.Attempts == 1) {
			t.Errorf("with retry for %s: %v, want an *UnreachableError", retry, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = dial(t, url, ClientOptions{RetryFor: time.Hour}).Release(ctx, supi, 1)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("past the context's deadline: %v, want context.DeadlineExceeded", err)
	}
}

// A request that may have been processed is sent once, unless it may be repeated.
func TestTimeoutsAreRepeatedOnlyWhenHarmless(t *testing.T) {
	requests := make(chan string, 100)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		requests <- r.Method
		<-r.Context().Done()
	}))
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	defer srv.Close()
	client := dial(t, srv.URL, ClientOptions{Timeout: 50 * time.Millisecond, RetryFor: 400 * time.Millisecond})
	var u *UnreachableError
	if err := client.ReleaseSMContext(t.Context(), "1", ""); !errors.As(err, &u) || len(requests) != 1 {
		t.Errorf("release: %v after %d requests, want one and an *UnreachableError", err, len(requests))
	}
	if _, err := client.AccessMobility(t.Context(), supi); !errors.As(err, &u) || len(requests) < 3 {
		t.Errorf("am-data: %v after %d requests, want several and an *UnreachableError", err, len(requests)-1)
	}
}

// Answers that are not as specified are the peer's fault, never a panic.
func TestUnreadableAnswers(t *testing.T) {
	for _, body := range []string{"", "{", "[]", "null", `{"authType":"EAP_AKA_PRIME"}`, `{"authType":"5G_AKA","5gAuthData":{"rand":"00"}}`, strings.Repeat(" ", maxBody+1)} {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", typeJSON)
			w.Header().Set("Location", "/x/1")
			_, _ = w.Write([]byte(body))
		}))
		srv.Config.Protocols = new(http.Protocols)
		srv.Config.Protocols.SetUnencryptedHTTP2(true)
		srv.Start()
		_, err := dial(t, srv.URL, ClientOptions{RetryFor: -1}).Authenticate(t.Context(), authRequest)
		var u *UnreachableError
		if !errors.As(err, &u) {
			t.Errorf("answer %.30q: %v, want an *UnreachableError", body, err)
		}
		srv.Close()
	}
}

func TestClientConfig(t *testing.T) {
	for _, bad := range []string{"", "127.0.0.1:80", "https://x", "http://", "http://x?y", "http://x\n"} {
		if _, err := NewClient(bad, ClientOptions{}); !errors.Is(err, ErrConfig) {
			t.Errorf("base URL %q: %v, want ErrConfig", bad, err)
		}
	}
	if _, err := NewClient("http://x", ClientOptions{CallbackURL: "x"}); !errors.Is(err, ErrConfig) {
		t.Errorf("callback_url: %v, want ErrConfig", err)
	}
	if _, err := NewClient("http://x", ClientOptions{Timeout: -1}); !errors.Is(err, ErrConfig) {
		t.Errorf("timeout: %v, want ErrConfig", err)
	}
	if _, err := NewServer(ServerConfig{Drain: -1}, ServerDeps{}); !errors.Is(err, ErrConfig) {
		t.Errorf("drain: %v, want ErrConfig", err)
	}
	if _, err := NewServer(ServerConfig{}, ServerDeps{}); !errors.Is(err, ErrConfig) {
		t.Errorf("no listener: %v, want ErrConfig", err)
	}
}

// What a peer may get wrong, and what it is answered.
func TestBadRequests(t *testing.T) {
	h := NewHandler((&fake{}).services())
	defer h.Close()
	long := strings.Repeat("x", maxBody+1)
	for _, c := range []struct {
		method, path, contentType, body string
		status                          int
		cause                           string
	}{
		{"GET", "/", "", "", 404, CauseResourceNotFound},
		{"GET", "/nausf-auth/v1/ue-authentications", "", "", 405, CauseMethodNotAllowed},
		{"POST", "/nausf-auth/v1/ue-authentications", typeJSON, "{", 400, CauseInvalidFormat},
		{"POST", "/nausf-auth/v1/ue-authentications", "", "", 400, CauseInvalidFormat},
		{"POST", "/nausf-auth/v1/ue-authentications", "text/plain", "{}", 415, CauseUnsupportedMediaType},
		{"POST", "/nausf-auth/v1/ue-authentications", ";", "{}", 415, CauseUnsupportedMediaType},
		{"POST", "/nausf-auth/v1/ue-authentications", typeJSON, long, 413, CauseInvalidFormat},
		{"POST", "/nausf-auth/v1/ue-authentications", typeJSON, `{}`, 400, CauseMandatoryIEIncorrect},
		{"POST", "/nausf-auth/v1/ue-authentications", typeJSON, `{"supiOrSuci":7}`, 400, CauseMandatoryIEIncorrect},
		{"POST", "/nausf-auth/v1/ue-authentications", typeJSON, `{"supiOrSuci":"a","servingNetworkName":"b","resynchronizationInfo":{"rand":"00"}}`, 400, CauseMandatoryIEIncorrect},
		{"PUT", "/nausf-auth/v1/ue-authentications/1/5g-aka-confirmation", typeJSON, `{"resStar":"x"}`, 400, CauseMandatoryIEIncorrect},
		{"GET", "/nudm-sdm/v2/joe/am-data", "", "", 400, CauseMandatoryIEIncorrect},
		{"GET", "/nudm-sdm/v2/imsi-001010000000001/sm-data", "", "", 400, CauseMandatoryIEIncorrect},
		{"GET", "/nudm-sdm/v2/imsi-001010000000001/sm-data?single-nssai=%7B%22sst%22:1%7D", "", "", 400, CauseMandatoryIEIncorrect},
		{"PUT", "/nudm-uecm/v1/imsi-001010000000001/registrations/amf-3gpp-access", typeJSON, `{"amfInstanceId":"a"}`, 400, CauseMandatoryIEIncorrect},
		{"PATCH", "/nudm-uecm/v1/imsi-001010000000001/registrations/amf-3gpp-access", typeJSON, `{}`, 400, CauseMandatoryIEIncorrect},
		{"PUT", "/nudm-uecm/v1/imsi-001010000000001/registrations/smf-registrations/16", typeJSON, `{}`, 400, CauseMandatoryIEIncorrect},
		{"PUT", "/nudm-uecm/v1/imsi-001010000000001/registrations/smf-registrations/5", typeJSON, `{"smfInstanceId":"s","pduSessionId":6}`, 400, CauseMandatoryIEIncorrect},
		{"POST", "/nsmf-pdusession/v1/sm-contexts", typeRelated, "--", 400, CauseInvalidFormat},
		{"POST", "/nsmf-pdusession/v1/sm-contexts", typeRelated + "; boundary=b", "--b\r\n", 400, CauseInvalidFormat},
		{"POST", "/nsmf-pdusession/v1/sm-contexts", typeRelated + "; boundary=b", "--b\r\nContent-Type: application/json\r\n\r\n" + long + "\r\n--b--", 413, CauseInvalidFormat},
		{"POST", "/nsmf-pdusession/v1/sm-contexts", typeJSON, `{"supi":"imsi-001010000000001","pduSessionId":5,"sNssai":{"sst":1},"servingNfId":"a","n1SmMsg":{"contentId":"x"}}`, 400, CauseMandatoryIEIncorrect},
		{"POST", "/nsmf-pdusession/v1/sm-contexts", typeJSON, `{"supi":"imsi-001010000000001","pduSessionId":5,"sNssai":{"sst":256},"servingNfId":"a"}`, 400, CauseMandatoryIEIncorrect},
		{"POST", "/nsmf-pdusession/v1/sm-contexts/1/modify", typeJSON, `{"n2SmInfoType":"PDU_RES_SETUP_RSP"}`, 400, CauseMandatoryIEIncorrect},
		{"POST", "/namf-comm/v1/ue-contexts/imsi-001010000000001/n1-n2-messages", typeJSON, `{"pduSessionId":5}`, 400, CauseMandatoryIEIncorrect},
		{"POST", "/namf-callback/v1/imsi-001010000000001/sm-context-status/5", typeJSON, `{"statusInfo":{"resourceStatus":"UPDATED"}}`, 400, CauseMandatoryIEIncorrect},
		{"POST", "/namf-callback/v1/imsi-001010000000001/dereg-notify", typeJSON, `{}`, 400, CauseMandatoryIEIncorrect},
		{"PUT", "/simreach-smf/v1/sessions/imsi-001010000000001/5/ambr", typeJSON, `{"uplink":"fast","downlink":"1 bps"}`, 400, CauseMandatoryIEIncorrect},
		{"POST", "/nsmf-event-exposure/v1/subscriptions", typeJSON, `{"anyUeInd":true}`, 400, CauseMandatoryIEIncorrect},
		{"GET", "/simreach-smf/v1/sessions/joe", "", "", 400, CauseMandatoryIEIncorrect},
		{"POST", "/simreach-smf/v1/sessions/imsi-001010000000001/16/recreate", "", "", 400, CauseMandatoryIEIncorrect},
		{"GET", "/simreach-udr/v1/subscription-data/joe", "", "", 400, CauseMandatoryIEIncorrect},
		{"PATCH", "/simreach-udr/v1/subscription-data/imsi-001010000000001", "", "", 400, CauseInvalidFormat},
		{"PATCH", "/simreach-udr/v1/subscription-data/imsi-001010000000001", typeJSON, `{"barred":"yes"}`, 400, CauseMandatoryIEIncorrect},
		{"PATCH", "/simreach-udr/v1/subscription-data/imsi-001010000000001", typeJSON, `{"peiLock":{"pei":"imei-1"}}`, 400, CauseMandatoryIEIncorrect},
		{"PATCH", "/simreach-udr/v1/subscription-data/imsi-001010000000001", typeJSON, `{"sessionAmbr":{"uplink":"1 bps"}}`, 400, CauseMandatoryIEIncorrect},
		{"GET", "/n5g-eir-eic/v1/equipment-status?pei=imei-490154203237518", "", "", 400, CauseMandatoryIEIncorrect},
		{"GET", "/n5g-eir-eic/v1/equipment-status?pei=mac-1&supi=imsi-001010000000001", "", "", 400, CauseMandatoryIEIncorrect},
		{"POST", "/simreach-callback/v1/equipment-events", typeJSON, `{"supi":"imsi-001010000000001"}`, 400, CauseMandatoryIEIncorrect},
		{"POST", "/nchf-convergedcharging/v3/chargingdata", typeJSON, `{}`, 400, CauseMandatoryIEIncorrect},
		{"POST", "/nchf-convergedcharging/v3/chargingdata/1/update", typeJSON, `{"subscriberIdentifier":"imsi-001010000000001","invocationSequenceNumber":1,"pDUSessionChargingInformation":{"sMFchargingId":"a","pduSessionInformation":{"pduSessionID":0}}}`, 400, CauseMandatoryIEIncorrect},
		{"POST", "/nchf-convergedcharging/v3/chargingdata/1/release", typeJSON, `{"multipleUnitUsage":[{"usedUnitContainer":[{"uplinkVolume":-1}]}]}`, 400, CauseMandatoryIEIncorrect},
	} {
		r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.contentType)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), `"cause":"`+c.cause+`"`) || w.Header().Get("Content-Type") != typeProblem {
			t.Errorf("%s %s %.60q: %d %s %s, want %d and the problem %s", c.method, c.path, c.body, w.Code, w.Header().Get("Content-Type"), w.Body, c.status, c.cause)
		}
	}
}

func TestNilServicesAreNotMounted(t *testing.T) {
	h := NewHandler(Services{Sessions: &fake{}})
	defer h.Close()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/nudm-sdm/v2/imsi-001010000000001/am-data", nil))
	if w.Code != 404 {
		t.Errorf("a service that is not there answers %d, want 404", w.Code)
	}
}

func TestBitRates(t *testing.T) {
	for text, want := range map[string]uint64{
		"0 bps": 0, "1 bps": 1, "1500 Kbps": 1_500_000, "1.5 Mbps": 1_500_000, "0.001 Gbps": 1_000_000,
		"4 Tbps": 4_000_000_000_000, "1.0009 Kbps": 1000, "007 bps": 7, "18446744073709551615 bps": 1<<64 - 1,
	} {
		got, err := parseBitRate(text)
		if err != nil || got != want {
			t.Errorf("parseBitRate(%q) = %d, %v, want %d", text, got, err, want)
		}
		if back, err := parseBitRate(bitRate(want)); err != nil || back != want {
			t.Errorf("%d is written %q and read %d, %v", want, bitRate(want), back, err)
		}
	}
	for _, bad := range []string{"", "1", "1bps", "-1 bps", "+1 bps", "1. bps", ".5 bps", "1.x Kbps", "1 kbps", "1e3 bps", "18446744073709551616 bps", "18446744073709552 Kbps", "1.2.3 Mbps", " bps"} {
		if got, err := parseBitRate(bad); err == nil {
			t.Errorf("parseBitRate(%q) = %d, want an error", bad, got)
		}
	}
}

func TestGUAMIAndLocation(t *testing.T) {
	if g, err := toGUAMI(guami).guami(); err != nil || g != guami {
		t.Errorf("GUAMI came back as %+v, %v", g, err)
	}
	if l, err := toLocation(place).location(); err != nil || *l != place {
		t.Errorf("location came back as %+v, %v", l, err)
	}
	if toGUAMI(ident.GUAMI{}) != nil || toLocation(ident.Location{}) != nil {
		t.Error("zero values are not left out")
	}
}

func TestMultipart(t *testing.T) {
	part := func(headers, body string) string { return "--b\r\n" + headers + "\r\n" + body + "\r\n" }
	root := part("Content-Type: application/json\r\n", `{}`)
	n1 := part("Content-Id: <n1msg>\r\nContent-Type: application/vnd.3gpp.5gnas\r\n", "\x2e\r\n\x00")
	for _, c := range []struct {
		name, params, body string
		json, n1           string
		bad                bool
	}{
		{"root first", "", root + n1 + "--b--", "{}", "\x2e\r\n\x00", false},
		{"root by start", `; start="<r>"`, n1 + part("Content-Id: r\r\nContent-Type: application/json\r\n", "[]") + "--b--", "[]", "\x2e\r\n\x00", false},
		{"alone", "", root + "--b--", "{}", "", false},
		{"root not JSON", "", n1 + root + "--b--", "", "", true},
		{"no Content-ID", "", root + part("", "x") + "--b--", "", "", true},
		{"twice", "", root + n1 + n1 + "--b--", "", "", true},
		{"too many", "", root + strings.Repeat(part("Content-Id: x\r\n", ""), 4) + "--b--", "", "", true},
		{"no end", "", root + n1, "", "", true},
		{"nothing", "", "--b--", "", "", true},
		{"start is missing", `; start=x`, root + "--b--", "", "", true},
	} {
		m, err := decode(typeRelated+"; boundary=b"+c.params, strings.NewReader(c.body))
		if (err != nil) != c.bad {
			t.Errorf("%s: error %v", c.name, err)
			continue
		}
		if err == nil && (string(m.json) != c.json || string(m.binary[contentN1]) != c.n1) {
			t.Errorf("%s: %q and %q, want %q and %q", c.name, m.json, m.binary[contentN1], c.json, c.n1)
		}
	}
}

func FuzzMultipart(f *testing.F) {
	contentType, body, err := encode(typeJSON, []byte(`{"n1SmMsg":{"contentId":"n1msg"}}`), binaryPart{contentN1, typeN1, []byte{0x2e, 1}}, binaryPart{contentN2, typeN2, []byte{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(contentType, body)
	f.Add(typeRelated+`; boundary=b; start="<r>"`, []byte("--b\r\nContent-Id: r\r\nContent-Type: application/json\r\n\r\n{}\r\n--b--"))
	f.Add(typeJSON, []byte("{}"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		m, err := decode(contentType, bytes.NewReader(body))
		if err != nil {
			return
		}
		// What was read can be written and read again.
		parts := []binaryPart{}
		for id, data := range m.binary {
			if data == nil || strings.ContainsAny(id, "\r\n<> \t") || id == "" {
				return
			}
			parts = append(parts, binaryPart{id, typeN1, data})
		}
		if m.json == nil {
			return
		}
		contentType, body, err = encode(typeJSON, m.json, parts...)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decode(contentType, bytes.NewReader(body))
		if err != nil || !bytes.Equal(again.json, m.json) || len(again.binary) != len(m.binary) {
			t.Fatalf("%q and %d parts came back as %+v, %v", m.json, len(m.binary), again, err)
		}
	})
}

func FuzzHandlers(f *testing.F) {
	h := NewHandler((&fake{}).services())
	f.Cleanup(h.Close)
	for i := range calls {
		f.Add("POST", "/", typeJSON, []byte{byte(i)})
	}
	f.Add("POST", pathAuthentications, typeJSON, []byte(`{"supiOrSuci":"a","servingNetworkName":"b"}`))
	f.Add("GET", "/nudm-sdm/v2/imsi-001010000000001/sm-data?dnn=a&single-nssai=%7B%22sst%22:1%7D", "", []byte{})
	f.Add("PUT", pathAMF(supi), typeJSON, []byte(`{"amfInstanceId":"a","guami":{"plmnId":{"mcc":"001","mnc":"01"},"amfId":"010203"}}`))
	f.Add("POST", pathSMContexts+"/1/modify", typeRelated+"; boundary=b", []byte("--b\r\nContent-Type: application/json\r\n\r\n{\"n1SmMsg\":{\"contentId\":\"a\"}}\r\n--b\r\nContent-Id: a\r\n\r\nx\r\n--b--"))
	f.Add("POST", pathN1N2(supi), typeJSON, []byte(`{"pduSessionId":5,"n2InfoContainer":{"n2InformationClass":"SM","smInfo":{"pduSessionId":5}}}`))
	f.Add("PATCH", pathSubscription(supi), typeJSON, []byte(`{"barred":true,"peiLock":{"pei":"imei-490154203237518"},"sessionAmbr":{"uplink":"1 bps","downlink":"1 bps"},"ueGroup":"a"}`))
	f.Add("GET", pathEquipment+"?supi=imsi-001010000000001&pei=imeisv-4370816125816151", "", []byte{})
	f.Add("POST", pathEquipmentEvents, typeJSON, []byte(`{"eventId":"1","eventType":"a","supi":"imsi-001010000000001","report":{"newPei":""}}`))
	f.Add("POST", pathCharging+"/1/update", typeJSON, []byte(`{"subscriberIdentifier":"imsi-001010000000001","invocationSequenceNumber":1,"multipleUnitUsage":[{"usedUnitContainer":[{"uplinkVolume":1},{}]}],"pDUSessionChargingInformation":{"sMFchargingId":"a","pduSessionInformation":{"pduSessionID":1,"networkSlicingInfo":{"sNSSAI":{"sst":1}}}}}`))
	f.Add("PUT", pathControlled(supi, 5)+"/ambr", typeJSON, []byte(`{"uplink":"1.5 Mbps","downlink":"1 bps"}`))
	f.Fuzz(func(t *testing.T, method, path, contentType string, body []byte) {
		if strings.HasPrefix(path, pathEvents) {
			return // would start goroutines that notify whatever host the input names
		}
		r, err := http.NewRequestWithContext(t.Context(), method, "http://smf"+path, bytes.NewReader(body))
		if err != nil {
			return
		}
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("%s %q %q %q: %d %s", method, path, contentType, body, w.Code, w.Body)
		}
	})
}

func FuzzEventReport(f *testing.F) {
	f.Add([]byte(`{"notifId":"1","eventNotifs":[{"event":"PDU_SES_EST","timeStamp":"2026-01-02T03:04:05Z","supi":"imsi-001010000000001","pduSeId":1,"ipv4Addr":"10.0.0.1","ipv6Prefixes":["2001:db8::/64"],"snssai":{"sst":1}}]}`))
	f.Add([]byte(`{"eventNotifs":[{"event":"UE_IP_CH","supi":"imsi-001010000000001","pduSeId":1,"adIpv6Prefix":"2001:db8::/64"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		in := incoming{message: message{json: body}}
		var report eventReport
		if in.into(&report) != nil {
			return
		}
		events, err := sessionEvents(report.Notifs)
		if err != nil {
			return
		}
		again, err := sessionEvents(toNotifications(events))
		if err != nil || len(again) != len(events) {
			t.Fatalf("%+v came back as %+v, %v", events, again, err)
		}
	})
}
