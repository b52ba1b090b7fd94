package httpserve

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stopSoon is how long a server without requests may take to stop, on a busy machine.
const stopSoon = 500 * time.Millisecond

// server speaks HTTP/1.1 and HTTP/2 without TLS.
func server(h http.Handler) *http.Server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: h, Protocols: p}
}

// serving runs a server on loopback; stop ends it and returns how long that took.
func serving(t *testing.T, h http.Handler, drain time.Duration, log *slog.Logger) (addr string, stop func() time.Duration) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, server(h), l, drain, log) }()
	stop = sync.OnceValue(func() time.Duration {
		start := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		return time.Since(start)
	})
	t.Cleanup(func() { stop() })
	return l.Addr().String(), stop
}

func h2Client(t *testing.T) *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func dialRaw(t *testing.T, addr, send string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, send); err != nil {
		t.Fatal(err)
	}
	return c
}

// A peer that keeps a connection open has no say in how long a server takes to stop.
func TestStopWithPeersConnected(t *testing.T) {
	preface := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for name, peer := range map[string]func(t *testing.T, addr string){
		"nobody":                  func(*testing.T, string) {},
		"connected, said nothing": func(t *testing.T, addr string) { dialRaw(t, addr, "") },
		"half a request":          func(t *testing.T, addr string) { dialRaw(t, addr, "GET / HTTP/1.1\r\nHost: a\r\n") },
		"HTTP/1 keep-alive": func(t *testing.T, addr string) {
			io.ReadFull(dialRaw(t, addr, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"), make([]byte, 12))
		},
		"HTTP/2 that ignores GOAWAY": func(t *testing.T, addr string) { io.ReadFull(dialRaw(t, addr, preface), make([]byte, 9)) },
		"HTTP/2 client, idle": func(t *testing.T, addr string) {
			resp, err := h2Client(t).Get("http://" + addr + "/")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			addr, stop := serving(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), 5*time.Second, slog.New(slog.NewTextHandler(&log, nil)))
			peer(t, addr)
			if took := stop(); took > stopSoon {
				t.Errorf("stopped after %s; want at most %s", took, stopSoon)
			}
			if strings.Contains(log.String(), "cut off") {
				t.Errorf("no request was under way, but the log says:\n%s", log.String())
			}
		})
	}
}

// Requests under way are finished within the drain time; later ones are cut, their
// handlers told by their context, and Run waits for the handlers.
func TestStopWithRequests(t *testing.T) {
	for _, c := range []struct {
		name         string
		drain        time.Duration
		finish       bool // the handler ends by itself
		least, most  time.Duration
		wantLog      string
		wantAnswered bool
	}{
		{name: "finished in time", drain: 10 * time.Second, finish: true, most: 2 * time.Second, wantAnswered: true},
		{name: "cut off", drain: 50 * time.Millisecond, least: 50 * time.Millisecond, most: time.Second, wantLog: "requests cut off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			entered, release, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(entered)
				select {
				case <-release:
				case <-r.Context().Done():
				}
				close(left)
			})
			addr, stop := serving(t, h, c.drain, slog.New(slog.NewTextHandler(&log, nil)))
			answered := make(chan error, 1)
			client := h2Client(t)
			go func() {
				resp, err := client.Get("http://" + addr + "/")
				if err == nil {
					resp.Body.Close()
				}
				answered <- err
			}()
			<-entered
			if c.finish {
				time.AfterFunc(20*time.Millisecond, func() { close(release) })
			}
			took := stop()
			select {
			case <-left:
			default:
				t.Error("Run returned before its handler")
			}
			if err := <-answered; (err == nil) != c.wantAnswered {
				t.Errorf("the request: %v; want answered %t", err, c.wantAnswered)
			}
			if took < c.least || took > c.most {
				t.Errorf("stopped after %s; want %s to %s", took, c.least, c.most)
			}
			if !strings.Contains(log.String(), c.wantLog) || (c.wantLog == "" && log.Len() > 0) {
				t.Errorf("log is %q; want %q", log.String(), c.wantLog)
			}
		})
	}
}

func TestBrokenListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Run(t.Context(), server(http.NotFoundHandler()), l, time.Second, slog.New(slog.DiscardHandler)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run on a closed listener: %v; want net.ErrClosed", err)
	}
}
