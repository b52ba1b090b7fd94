package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T) *webhook.Client {
	c := webhook.New()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	<-c.Ready()
	return c
}

// Operators must not reach through the manager what only its host can.
func TestForbiddenAddresses(t *testing.T) {
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") })}}
	srv.Start()
	defer srv.Close()
	c := start(t)
	for _, host := range []string{"0.0.0.0", "[::]", "[::ffff:0.0.0.0]", "169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "224.0.0.1", "0"} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := c.Do(ctx, manager.WebRequest{Method: http.MethodGet, URL: fmt.Sprintf("http://%s:%d/", host, l.Addr().(*net.TCPAddr).Port)})
		cancel()
		if err == nil || host != "0" && !errors.Is(err, webhook.ErrForbidden) { // "0" is a name that may not exist
			t.Errorf("%s: %v; want %v", host, err, webhook.ErrForbidden)
		}
	}
}

// What an event handler says is what the server gets.
func TestRequest(t *testing.T) {
	got := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type") + " " + r.Header.Get("X-Who") + " " + string(body)
		w.WriteHeader(http.StatusAccepted)
	}))
	defer srv.Close()
	c := start(t)
	status, err := c.Do(t.Context(), manager.WebRequest{
		Method: "PUT", URL: srv.URL + "/hook", ContentType: "application/json", Headers: map[string]string{"X-Who": "me"}, Body: `{"a":1}`,
	})
	if err != nil || status != http.StatusAccepted {
		t.Fatalf("Do = %d, %v; want 202", status, err)
	}
	if g, want := <-got, `PUT /hook application/json me {"a":1}`; g != want {
		t.Errorf("the server got %q; want %q", g, want)
	}
}

// A redirection is an answer, not an order.
func TestRedirectionsAreNotFollowed(t *testing.T) {
	hits := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits++
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}))
	defer srv.Close()
	c := start(t)
	status, err := c.Do(t.Context(), manager.WebRequest{Method: "GET", URL: srv.URL})
	if err != nil || status != http.StatusFound || hits != 1 {
		t.Errorf("Do = %d, %v after %d requests; want 302 after one", status, err, hits)
	}
}

// A server that does not answer costs no more than the context's time.
func TestTimeout(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release }))
	defer srv.Close()
	defer close(release)
	c := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if status, err := c.Do(ctx, manager.WebRequest{Method: "GET", URL: srv.URL}); err == nil {
		t.Errorf("Do = %d; want an error", status)
	}
}
