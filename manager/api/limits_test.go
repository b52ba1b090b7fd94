package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
)

// Numbers are JSON numbers: what is not a whole number of seconds, or not a port, is
// refused however it is written, and what is whole is taken however it is written.
func TestNumbers(t *testing.T) {
	s := start(t, true)
	for _, c := range []struct {
		port, duration string
		status         int
		code           manager.Code
		seconds        int64
	}{
		{port: "22", duration: "60", status: 201, seconds: 60},
		{port: "22.0", duration: "6e1", status: 201, seconds: 60},
		{port: "6.5535e4", duration: "28800", status: 201, seconds: 28800},
		{port: "22", duration: "null", status: 201, seconds: 1800},
		{port: "22", duration: "1", status: 201, seconds: 1},
		{port: "22", duration: "0.5", status: 400, code: manager.CodeBadDuration},
		{port: "22", duration: "1e9", status: 400, code: manager.CodeBadDuration},
		{port: "22", duration: "1e308", status: 400, code: manager.CodeBadDuration},
		{port: "22", duration: "-60", status: 400, code: manager.CodeBadDuration},
		{port: "22", duration: "-0", status: 400, code: manager.CodeBadDuration},
		{port: "22", duration: "1e999", status: 400, code: manager.CodeBadBody},
		{port: "22", duration: `"60"`, status: 400, code: manager.CodeBadBody},
		{port: "22", duration: "NaN", status: 400, code: manager.CodeBadBody},
		{port: "0", duration: "60", status: 400, code: manager.CodeBadPort},
		{port: "65536", duration: "60", status: 400, code: manager.CodeBadPort},
		{port: "-22", duration: "60", status: 400, code: manager.CodeBadPort},
		{port: "4294967318", duration: "60", status: 400, code: manager.CodeBadPort}, // 22 in 32 bits
		{port: "18446744073709551638", duration: "60", status: 400, code: manager.CodeBadPort},
		{port: "null", duration: "60", status: 400, code: manager.CodeBadPort},
		{port: "[22]", duration: "60", status: 400, code: manager.CodeBadBody},
	} {
		resp, body := s.do(t, "POST", "/v1/port_mappings", fmt.Sprintf(`{"destination":{"imsi":%q,"port":%s},"duration":%s}`, imsi1, c.port, c.duration))
		var got struct {
			Code     manager.Code
			Message  string
			Duration int64
		}
		json.Unmarshal([]byte(body), &got)
		if resp.StatusCode != c.status || got.Code != c.code || got.Duration != c.seconds {
			t.Errorf("port %s, duration %s: %s %s; want %d %s", c.port, c.duration, resp.Status, body, c.status, c.code)
		}
		if strings.Contains(got.Message, "Go ") || strings.Contains(got.Message, "float64") {
			t.Errorf("port %s, duration %s: message %q speaks of our types", c.port, c.duration, got.Message)
		}
	}
}

// Bodies are judged by what they say in the end.
func TestBodies(t *testing.T) {
	s := start(t, true)
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"the last of two equal keys counts": {`{"destination":{"imsi":"` + imsi2 + `","imsi":"` + imsi1 + `","port":1,"port":22}}`, 201},
		"the last, though it is another's":  {`{"destination":{"imsi":"` + imsi1 + `","imsi":"` + imsi2 + `","port":22}}`, 404},
		"unknown keys":                      {`{"destination":{"imsi":"` + imsi1 + `","port":22,"x":{"y":[1]}},"z":null}`, 201},
		"null source":                       {`{"destination":{"imsi":"` + imsi1 + `","port":22},"source":null}`, 201},
		"null ranges":                       {`{"destination":{"imsi":"` + imsi1 + `","port":22},"source":{"ipRanges":null}}`, 201},
		"null body":                         {`null`, 400},
		"a list":                            {`[]`, 400},
		"a prefix on the IMSI":              {`{"destination":{"imsi":"imsi-` + imsi1 + `","port":22}}`, 201},
		"a deep body":                       {strings.Repeat(`[`, 30000), 400},
		"not UTF-8":                         {"{\"destination\":{\"imsi\":\"\xff\",\"port\":22}}", 400},
		"a header in the SIM ID":            {`{"destination":{"simId":"1\r\nX-Evil: 1","port":22}}`, 404},
	} {
		resp, body := s.do(t, "POST", "/v1/port_mappings", c.body)
		if resp.StatusCode != c.status || !json.Valid([]byte(body)) {
			t.Errorf("%s: %s %s; want %d", name, resp.Status, body, c.status)
		}
		if resp.Header.Get("X-Evil") != "" {
			t.Errorf("%s: a header was injected", name)
		}
	}
}

// Nothing is answered with a redirect or a page.
func TestPaths(t *testing.T) {
	s := start(t, true)
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "//v1/port_mappings", 404},
		{"POST", "//v1/auth", 404},
		{"GET", "/v1/port_mappings/", 404},
		{"GET", "/v1/../v1/port_mappings", 404},
		{"GET", "/v1/port_mappings/sims/a%2Fb", 404},
		{"GET", "/v1/port_mappings/sims/%2e%2e", 404},
		{"GET", "/v1/port_mappings/subscribers/%0d%0aX-Evil:%201", 400},
		{"GET", "/v1/port_mappings?last_evaluated_key=%0d%0aX-Evil:%201&limit=1", 200},
		{"GET", "/v1/port_mappings?limit=99999999999999999999", 400},
		{"GET", "/v1/port_mappings?last_evaluated_key=" + strings.Repeat("0", 257), 400},
		{"PATCH", "/v1/port_mappings", 405},
		{"OPTIONS", "/v1/port_mappings", 405},
		{"TRACE", "/v1/auth", 405},
		{"DELETE", "/v1/port_mappings/::1/40000", 404},
		{"DELETE", "/v1/port_mappings/::ffff:192.0.2.1/40000", 404},
		{"DELETE", "/v1/port_mappings/192.0.2.1/65536", 400},
		{"DELETE", "/v1/port_mappings/192.0.2.1/+80", 400},
		{"DELETE", "/v1/port_mappings/fe80::1%25eth0/40000", 404},
	} {
		resp, body := s.do(t, c.method, c.path, "")
		if resp.StatusCode != c.status || !json.Valid([]byte(body)) || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %s %q; want %d and JSON", c.method, c.path, resp.Status, body, c.status)
		}
		if resp.Header.Get("X-Evil") != "" {
			t.Errorf("%s %s: a header was injected", c.method, c.path)
		}
	}
}

// Ranges are compared with the client's address as IPv4 whichever way either is written.
func TestRanges(t *testing.T) {
	s := start(t, true)
	for given, want := range map[string]string{
		`"192.0.2.7"`:            "192.0.2.7/32",
		`"192.0.2.7/24"`:         "192.0.2.0/24",
		`"::ffff:192.0.2.7"`:     "192.0.2.7/32",
		`"::ffff:192.0.2.7/120"`: "192.0.2.0/24",
		`"2001:db8::1"`:          "2001:db8::1/128",
		`"2001:db8::1/32"`:       "2001:db8::/32",
		`" 192.0.2.7 "`:          "192.0.2.7/32",
		`"0.0.0.0/0"`:            "0.0.0.0/0",
		`"::/0"`:                 "::/0",
		`"::ffff:0.0.0.0/90"`:    "",
		`"fe80::1%eth0"`:         "",
		`"192.0.2.7/33"`:         "",
		`"192.0.2.7/-1"`:         "",
		`"192.0.2.07"`:           "",
		`""`:                     "",
		`"192.0.2.1,192.0.2.2"`:  "",
	} {
		resp, body := s.do(t, "POST", "/v1/port_mappings", `{"destination":{"imsi":"`+imsi1+`","port":22},"source":{"ipRanges":[`+given+`]}}`)
		var m api.PortMapping
		json.Unmarshal([]byte(body), &m)
		switch {
		case want == "" && (resp.StatusCode != 400 || !strings.Contains(body, string(manager.CodeBadRanges))):
			t.Errorf("range %s: %s %s; want it refused", given, resp.Status, body)
		case want != "" && (len(m.Source.IPRanges) != 1 || m.Source.IPRanges[0] != want):
			t.Errorf("range %s: %s %s; want %s", given, resp.Status, body, want)
		}
	}
	resp, body := s.do(t, "POST", "/v1/port_mappings", `{"destination":{"imsi":"`+imsi1+`","port":22},"source":{"ipRanges":[`+strings.Repeat(`"192.0.2.7",`, 64)+`"192.0.2.7"]}}`)
	if resp.StatusCode != 400 {
		t.Errorf("65 ranges: %s %s; want 400", resp.Status, body)
	}
}

// An attacker who sends a byte now and then, or a header without end, is cut off, and
// nobody else notices.
func TestHugeHeader(t *testing.T) {
	s := start(t, true)
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "GET /v1/port_mappings HTTP/1.1\r\nHost: a\r\nX-Soracom-Token: %s\r\n\r\n", strings.Repeat("a", 100<<10))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.Contains(line, "431") {
		t.Errorf("100 KiB of headers: %q; want 431", line)
	}
	if _, err := s.one.List(t.Context()); err != nil {
		t.Error(err)
	}
}

// Paging over entries that come and go shows each that stays exactly once.
func TestPagingWhileEntriesChange(t *testing.T) {
	s := start(t, true)
	ctx := t.Context()
	make1 := func() api.PortMapping {
		m, err := s.one.Create(ctx, api.CreateRequest{Destination: &api.Destination{IMSI: imsi1, Port: 22}})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	stay := map[string]int{}
	var go1 []api.PortMapping
	for i := range 20 {
		m := make1()
		if i%2 == 0 {
			stay[m.Endpoint] = 0
		} else {
			go1 = append(go1, m)
		}
	}
	for after := ""; ; {
		page, next, err := s.one.Page(ctx, 3, after)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page {
			if _, ok := stay[m.Endpoint]; ok {
				stay[m.Endpoint]++
			}
		}
		if next == "" {
			break
		}
		after = next
		// The page key's own entry goes, and a new one comes.
		if len(go1) > 0 {
			if err := s.one.Delete(ctx, netip.MustParseAddrPort(go1[0].Endpoint)); err != nil {
				t.Error(err)
			}
			go1 = go1[1:]
			make1()
		}
	}
	for e, n := range stay {
		if n != 1 {
			t.Errorf("entry %s was listed %d times", e, n)
		}
	}
}

func TestDirectory(t *testing.T) {
	s := start(t, true)
	for _, c := range []struct {
		path   string
		status int
		want   string
	}{
		{imsi1, 200, `{"imsi":"` + imsi1 + `","attached":false}`},
		{imsi1 + "?until_attached=false", 200, `{"imsi":"` + imsi1 + `","attached":false}`},
		{imsi1 + "?until_attached=maybe", 400, string(manager.CodeBadQuery)},
		{imsi2, 404, string(manager.CodeUnknownSubscriber)}, // the other operator's
		{"001019999999999", 404, string(manager.CodeUnknownSubscriber)},
		{"x", 400, string(manager.CodeBadIMSI)},
	} {
		resp, body := s.do(t, "GET", "/v1/simreach/directory/"+c.path, "")
		if resp.StatusCode != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s: %s %s; want %d %s", c.path, resp.Status, body, c.status, c.want)
		}
	}
	resp, err := http.Get(s.url + "/v1/simreach/directory/" + imsi1)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 401 {
		t.Errorf("without credentials: %s; want 401", resp.Status)
	}
	http.DefaultClient.CloseIdleConnections()
}

// The server's stop answers those who wait for the directory, and does not wait for
// clients that keep their connections.
func TestStop(t *testing.T) {
	s := start(t, true)
	idle, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	type answer struct {
		at  api.Attachment
		err error
	}
	got := make(chan answer, 1)
	entered := s.requests()
	go func() {
		a, err := s.one.AwaitAttachment(context.WithoutCancel(t.Context()), imsi1, true)
		got <- answer{a, err}
	}()
	for tick := time.Tick(time.Millisecond); s.requests() == entered; {
		<-tick
	}
	begin := time.Now()
	s.stop()
	if took := time.Since(begin); took > time.Second {
		t.Errorf("stopping took %s; want well under a second", took)
	}
	if a := <-got; a.err != nil || a.at.Attached {
		t.Errorf("the one who waited: %+v, %v; want an answer, not attached", a.at, a.err)
	}
	if _, err := io.ReadAll(idle); err != nil {
		t.Errorf("the silent client: %v; want its connection closed", err)
	}
}
