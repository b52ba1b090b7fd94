package webhook_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// loopback lets the servers of these tests be reached.
var loopback = webhook.Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}

func start(t *testing.T, cfg webhook.Config) *webhook.Client {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	c := webhook.New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	<-c.Ready()
	return c
}

// refuses checks that a request to a host and port is refused before it is sent.
func refuses(t *testing.T, c *webhook.Client, host string, port int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := c.Do(ctx, manager.WebRequest{Method: http.MethodGet, URL: "http://" + net.JoinHostPort(host, strconv.Itoa(port)) + "/"})
	if err == nil || host != "0" && !errors.Is(err, webhook.ErrForbidden) { // "0" is a name that may not exist
		t.Errorf("%s: %v; want %v", host, err, webhook.ErrForbidden)
	}
}

// silent is a server on an address, which must get no request.
func silent(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") })}}
	srv.Start()
	t.Cleanup(srv.Close)
	return l
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// Operators must not reach through the manager what only its host can, by address or by a
// name that leads there.
func TestForbiddenAddresses(t *testing.T) {
	port := portOf(silent(t, "0.0.0.0:0"))
	closed := start(t, webhook.Config{})
	for _, host := range []string{
		"127.0.0.1", "127.9.9.9", "localhost", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "::ffff:0.0.0.0",
		"169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "224.0.0.1", "ff02::1", "0",
	} {
		refuses(t, closed, host, port)
	}
	// What has no exception has none, and an exception is for what it names.
	for _, host := range []string{"0.0.0.0", "::", "224.0.0.1", "169.254.169.254"} {
		refuses(t, start(t, loopback), host, port)
		if host != "169.254.169.254" { // which may be there
			refuses(t, start(t, webhook.Config{Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}), host, port)
		}
	}
}

// What is denied is refused, whatever is allowed.
func TestDeniedPrefixes(t *testing.T) {
	port := portOf(silent(t, "127.0.0.1:0"))
	cfg := loopback
	cfg.Deny = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("192.0.2.0/24")}
	c := start(t, cfg)
	refuses(t, c, "127.0.0.1", port)
	refuses(t, c, "192.0.2.7", 80)
	for _, p := range []netip.Prefix{{}, netip.MustParsePrefix("::ffff:10.0.0.0/104")} {
		if (webhook.Config{Deny: []netip.Prefix{p}}).Validate() == nil {
			t.Errorf("%s is accepted", p)
		}
	}
}

// The manager's own listeners are never reached: of one on all addresses, on none.
func TestOwnListeners(t *testing.T) {
	one, all := silent(t, "127.0.0.1:0"), silent(t, "0.0.0.0:0")
	c := start(t, loopback)
	c.Refuse(one.Addr())
	c.Refuse(all.Addr())
	refuses(t, c, "127.0.0.1", portOf(one))
	refuses(t, c, "127.0.0.2", portOf(all))
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok {
			refuses(t, c, n.IP.String(), portOf(all))
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
	c := start(t, loopback)
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
	c := start(t, loopback)
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
	c := start(t, loopback)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if status, err := c.Do(ctx, manager.WebRequest{Method: "GET", URL: srv.URL}); err == nil {
		t.Errorf("Do = %d; want an error", status)
	}
}
