package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/scenarios/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// commanded is a UE that notes its commands.
type commanded struct {
	mu      sync.Mutex
	log     []string
	err     error
	status  lab.UEStatus
	changed chan lab.UEStatus
}

func (c *commanded) did(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, what)
	return c.err
}
func (c *commanded) Register(_ context.Context, gnb string) error { return c.did("register " + gnb) }
func (c *commanded) Deregister(_ context.Context, off bool) error {
	if off {
		return c.did("switch off")
	}
	return c.did("deregister")
}
func (c *commanded) Status(context.Context) (lab.UEStatus, error) { return c.status, c.err }
func (c *commanded) Await(ctx context.Context, ok func(lab.UEStatus) bool) (lab.UEStatus, error) {
	if c.err != nil {
		return c.status, c.err
	}
	for s := c.status; !ok(s); {
		select {
		case s = <-c.changed:
			c.status = s
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
	return c.status, nil
}

func ask(h http.Handler, method, url, body string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, url, strings.NewReader(body)))
	return w.Code, strings.TrimSpace(w.Body.String())
}

func TestControlRequests(t *testing.T) {
	rejected := &lab.Rejected{Procedure: "registration", Cause: 11, Text: "no"}
	for _, c := range []struct {
		request, body string
		err           error
		code          int
		answer, did   string
	}{
		{request: "POST /ue/a/register?gnb=gnb2", code: 204, did: "register gnb2"},
		{request: "POST /ue/a/register", code: 204, did: "register "},
		{request: "POST /ue/a/register", err: rejected, code: 409, answer: `{"procedure":"registration","cause":11,"text":"no"}`, did: "register "},
		{request: "POST /ue/a/register", err: errors.New("no cell"), code: 502, answer: `{"error":"no cell"}`, did: "register "},
		{request: "POST /ue/a/deregister", code: 204, did: "deregister"},
		{request: "POST /ue/a/deregister?switch_off=1", code: 204, did: "switch off"},
		{request: "POST /ue/b/register", code: 404, answer: `{"error":"no such UE"}`},
		{request: "GET /ue/b/status", code: 404, answer: `{"error":"no such UE"}`},
		{request: "GET /ue/a/status", code: 200, answer: `{"imsi":"","registered":true,"connected":false,"gnb":"gnb1","sessions":null}`},
		{request: "GET /ue/a/status", err: errors.New("gone"), code: 502, answer: `{"error":"gone"}`},
		{request: "POST /ue/a/status", body: `{}`, code: 200, answer: `{"imsi":"","registered":true,"connected":false,"gnb":"gnb1","sessions":null}`},
		{request: "POST /ue/a/status", body: `{}`, err: errors.New("gone"), code: 502, answer: `{"error":"gone"}`},
		{request: "POST /ue/a/status", body: "", code: 400, answer: `{"error":"EOF"}`},
		{request: "POST /ue/a/status", body: "[]", code: 400},
		{request: "POST /ue/a/status", body: `{"gnb":"` + strings.Repeat("x", maxControlBody) + `"}`, code: 400, answer: `{"error":"http: request body too large"}`},
		{request: "DELETE /ue/a/status", code: 405},
		{request: "GET /other", code: 404},
	} {
		u := &commanded{err: c.err, status: lab.UEStatus{Registered: true, GNB: "gnb1"}}
		method, url, _ := strings.Cut(c.request, " ")
		code, answer := ask(controlHandler(map[string]lab.UE{"a": u}), method, url, c.body)
		if code != c.code || c.answer != "" && answer != c.answer {
			t.Errorf("%s: want %d %s, got %d %s", c.request, c.code, c.answer, code, answer)
		}
		if did := strings.Join(u.log, ", "); did != c.did {
			t.Errorf("%s: did %q, want %q", c.request, did, c.did)
		}
	}
}

// TestStatusIsAnsweredWhenItChanges, or after ten seconds unchanged.
func TestStatusIsAnsweredWhenItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &commanded{status: lab.UEStatus{GNB: "gnb1"}, changed: make(chan lab.UEStatus)}
		h := controlHandler(map[string]lab.UE{"a": u})
		known := `{"gnb":"gnb1"}`
		start := time.Now()
		if code, answer := ask(h, "POST", "/ue/a/status", known); code != 200 || !strings.Contains(answer, "gnb1") || time.Since(start) != statusWait {
			t.Errorf("unchanged: %d %s after %v", code, answer, time.Since(start))
		}
		var code int
		var answer string
		done := make(chan struct{})
		go func() {
			defer close(done)
			code, answer = ask(h, "POST", "/ue/a/status", known)
		}()
		u.changed <- lab.UEStatus{GNB: "gnb1"} // the same
		synctest.Wait()
		select {
		case <-done:
			t.Error("answered without a change")
		default:
		}
		u.changed <- lab.UEStatus{GNB: "gnb2"}
		<-done
		if code != 200 || !strings.Contains(answer, "gnb2") {
			t.Errorf("changed: %d %s", code, answer)
		}
	})
}

// TestControlSocketEndsWithItsContext, requests in progress included.
func TestControlSocketEndsWithItsContext(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "ue.sock")
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	u := &commanded{changed: make(chan lab.UEStatus)}
	served := make(chan error, 1)
	go func() {
		served <- serveControl(ctx, l, controlHandler(map[string]lab.UE{"a": u}), slog.New(slog.DiscardHandler))
	}()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr}
	resp, err := c.Get("http://ue/ue/a/status")
	if err != nil {
		t.Fatal(err)
	}
	var s lab.UEStatus
	if err := errors.Join(json.NewDecoder(resp.Body).Decode(&s), resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() {
		resp, err := c.Post("http://ue/ue/a/status", "application/json", strings.NewReader("{}"))
		if err == nil {
			resp.Body.Close()
		}
		waiting <- err
	}()
	u.changed <- lab.UEStatus{} // taken by the request, which goes on waiting
	cancel()
	if err := <-served; err != nil {
		t.Errorf("want nil after cancel, got %v", err)
	}
	if err := <-waiting; err == nil {
		t.Error("the waiting request was answered")
	}
}

func TestControlSocketThatBreaksIsAnError(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "ue.sock"))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := serveControl(t.Context(), l, http.NotFoundHandler(), slog.New(slog.DiscardHandler)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("want net.ErrClosed, got %v", err)
	}
}

func TestUntilEOF(t *testing.T) {
	r, w := io.Pipe()
	ctx, cancel := UntilEOF(t.Context(), r)
	defer cancel()
	if _, err := w.Write([]byte("still here")); err != nil || ctx.Err() != nil {
		t.Fatalf("ended early: %v, %v", err, ctx.Err())
	}
	w.Close()
	<-ctx.Done()
}

type notice struct {
	bytes.Buffer
	closed bool
	err    error
}

func (n *notice) Close() error { n.closed = true; return n.err }

func TestReadyOn(t *testing.T) {
	n := &notice{}
	var log bytes.Buffer
	ready := ReadyOn(n, slog.New(slog.NewTextHandler(&log, nil)))
	if n.Len() != 0 {
		t.Error("told before it was ready")
	}
	ready()
	if n.String() != "ready\n" || !n.closed || log.Len() != 0 {
		t.Errorf("wrote %q, closed %v, logged %q", n.String(), n.closed, log.String())
	}
	ReadyOn(&notice{err: errors.New("broken pipe")}, slog.New(slog.NewTextHandler(&log, nil)))()
	if !strings.Contains(log.String(), "broken pipe") {
		t.Errorf("logged %q", log.String())
	}
}
