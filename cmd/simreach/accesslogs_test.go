package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/simreach/simreach/manager/api"
)

// serialOf returns the serial number of a certificate as openssl prints it.
func serialOf(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%X", c.SerialNumber)
}

// eventually polls for what the relay's batches bring to the manager.
func (b *testbed) eventually(ok func() bool) {
	b.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			b.t.Fatal("it does not come")
		}
	}
}

// types returns the types of the records that log prints, in order.
func types(out string) string {
	var ts []string
	for l := range strings.Lines(out) {
		ts = append(ts, strings.Fields(l)[2])
	}
	return strings.Join(ts, " ")
}

// apart takes the lives of accesses and those of connections apart.
func apart(ts string) (lives, conns string) {
	var l, c []string
	for _, t := range strings.Fields(ts) {
		if t == "CREATED" || t == "DELETED" || t == "EXPIRED" {
			l = append(l, t)
		} else {
			c = append(c, t)
		}
	}
	return strings.Join(l, " "), strings.Join(c, " ")
}

func TestAccessLogs(t *testing.T) {
	b := newTestbed(t)
	b.accessIn(strings.NewReader("x"), "connect", "--imsi", ueOne, "--port", portLast)
	b.access("connect", "--imsi", ueOne, "--port", "7999")
	const all = 10
	b.eventually(func() bool { return len(strings.Fields(types(b.must("log", ueOne)))) == all })

	out := b.must("log", ueOne)
	// What relay and manager note in one millisecond has no order.
	lives, conns := apart(types(out))
	if lives != "CREATED DELETED CREATED DELETED" || conns != "ACCESS CONNECTED CLOSED ACCESS DENIED CLOSED" {
		t.Errorf("the audit log:\n%s", out)
	}
	line := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} CONNECTED 127\.\d+\.\d+\.\d+:\d+ -> ` + regexp.QuoteMeta(b.net) + `11:7008 [0-9A-Z]{26}$`)
	if !line.MatchString(out) {
		t.Errorf("no line like %s in\n%s", line, out)
	}
	if n := len(strings.Fields(types(b.must("log", ueOne, "--limit", "3")))); n != 3 {
		t.Errorf("--limit 3: %d lines", n)
	}
	if out := b.must("log", ueTwo); out != "" {
		t.Errorf("another device: %s", out)
	}
	if out := b.must("log", ueTwo, "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("another device: %s", out)
	}
	if out := b.must("log", ueOne, "--since", "1ms"); out != "" {
		t.Errorf("--since: %s", out)
	}
	var records []api.AuditRecord
	if b.decode(b.must("log", ueOne, "--json"), &records); len(records) != all || records[0].Type != "CREATED" {
		t.Errorf("as JSON: %+v", records)
	}

	out = b.must("errors", ueOne)
	if strings.Count(out, " DENIED ") != 1 || !strings.Contains(out, " DENIED    NAP0122 ") || !strings.Contains(out, "The device refused the connection. (device-refused)") {
		t.Errorf("the error log: %s", out)
	}
	var failures []api.LogEntry
	if b.decode(b.must("errors", ueOne, "--json"), &failures); len(failures) == 0 || failures[0].Body.Code != "NAP0122" {
		t.Errorf("as JSON: %+v", failures)
	}
}

// What comes while the log is followed is printed, once.
func TestAccessLogFollow(t *testing.T) {
	b := newTestbed(t)
	b.create("--imsi", ueOne, "--port", portLast)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	cmd := rootCommand()
	cmd.SetArgs(b.login("log", "--follow", "--interval", "50ms", ueOne))
	cmd.SetOut(w)
	over := make(chan error, 1)
	go func() {
		err := cmd.ExecuteContext(ctx)
		w.Close()
		over <- err
	}()
	lines := bufio.NewScanner(r)
	next := func() string {
		if !lines.Scan() {
			t.Fatalf("it ended: %v", <-over)
		}
		return strings.Fields(lines.Text())[2]
	}
	if got := next(); got != "CREATED" {
		t.Fatalf("first %s; want what was there", got)
	}
	b.accessIn(strings.NewReader("x"), "connect", "--imsi", ueOne, "--port", portLast)
	seen := map[string]int{}
	for range 5 {
		seen[next()]++
	}
	for _, want := range []string{"CREATED", "ACCESS", "CONNECTED", "CLOSED", "DELETED"} {
		if seen[want] != 1 {
			t.Errorf("%d times %s; want once", seen[want], want)
		}
	}
	cancel()
	if lines.Scan() {
		t.Errorf("one too many: %s", lines.Text())
	}
	if err := <-over; err != nil {
		t.Errorf("Ctrl-C: %v; want that to be no error", err)
	}
}

func TestAccessLogPages(t *testing.T) {
	var asked []int
	r := logReader[int]{page: func(_ context.Context, q api.LogQuery) ([]int, string, error) {
		asked = append(asked, q.Limit)
		n := 9 // the newest
		if q.After != "" {
			fmt.Sscan(q.After, &n)
			n--
		}
		if n == 0 {
			return nil, "", nil
		}
		page := []int{n, n - 1}[:min(2, q.Limit, n)]
		last := page[len(page)-1]
		if last == 1 {
			return page, "", nil
		}
		return page, fmt.Sprint(last), nil
	}}
	for _, c := range []struct {
		limit int
		want  string
	}{{3, "[7 8 9]"}, {4, "[6 7 8 9]"}, {100, "[1 2 3 4 5 6 7 8 9]"}} {
		got, err := r.newest(t.Context(), api.LogQuery{}, c.limit)
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("the newest %d: %v, %v; want %s", c.limit, got, err, c.want)
		}
	}
	if asked[0] != 3 || asked[1] != 1 {
		t.Errorf("pages of %v; want no more asked for than is wanted", asked)
	}
}
