package steps

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/scenarios/lab"
)

// manyRelay plays an outer relay with an entry for several devices: it speaks HTTP/2
// over TLS, and a stream goes by the port of its target. 7 echoes, 8 echoes once and is
// cut, 6 echoes once and ends, 5 echoes what it gets and one byte more; anything else is
// refused with NAP0120.
func manyRelay(t *testing.T, l *fakeLab) *relay {
	t.Helper()
	var err error
	if l.ca, err = pki.NewAuthority(pki.AuthorityConfig{Name: "relays"}); err != nil {
		t.Fatal(err)
	}
	pair, err := l.ca.Issue(pki.Server("relay.test"))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pair.Cert, []byte(pair.Key))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	srv := &http.Server{
		Handler: http.HandlerFunc(manyStream), Protocols: &protocols,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.ServeTLS(ln, "", "") }) // until it is closed
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
	return &relay{l: ln, done: make(chan struct{})}
}

func manyStream(w http.ResponseWriter, q *http.Request) {
	_, port, _ := net.SplitHostPort(q.Host)
	if !strings.Contains("5 6 7 8", port) {
		w.Header().Set("X-Simreach-Error", "NAP0120")
		w.WriteHeader(http.StatusForbidden)
		return
	}
	c := http.NewResponseController(w)
	if err := c.Flush(); err != nil {
		return
	}
	buf := make([]byte, 64)
	for {
		n, err := q.Body.Read(buf)
		if n > 0 {
			_, _ = w.Write(buf[:n])
			if port == "5" {
				_, _ = w.Write([]byte("!"))
			}
			_ = c.Flush()
			switch port {
			case "6":
				return
			case "8":
				panic(http.ErrAbortHandler) // the stream is reset
			}
		}
		if err != nil {
			return
		}
	}
}

// TestStreams: several devices over one connection, each as the step wants it, and an
// error that says which was not.
func TestStreams(t *testing.T) {
	l := newFakeLab(t)
	r := manyRelay(t, l)
	at := r.l.Addr().String()
	const access = "  - access: {ue: other, endpoint: AT, host: relay.test, as: many}\n"
	const good = "{ue: dev-1, port: 7, send: first, expect: first}"
	for open, want := range map[string]string{
		good + ", {ue: dev-2, port: 8, send: x, expect: x, cut: true}, {ue: other, port: 22, refused: NAP0120}": "",
		good + ", {ue: dev-2, port: 7, send: a, expect: b}":                                                     `stream to dev-2: want "b", got "a"`,
		good + ", {ue: dev-2, port: 6, send: a, expect: ab}":                                                    `stream to dev-2: want "ab", got "a"`,
		"{ue: dev-2, port: 7, refused: NAP0120}":                                                                "stream to dev-2: want a refusal with NAP0120, it opened",
		"{ue: dev-2, port: 22, refused: NAP0001}":                                                               "stream to dev-2: want a refusal with NAP0001",
		"{ue: dev-2, port: 22}":                                                                                 "NAP0120",
		"{ue: dev-2, port: 6, send: a, expect: a, cut: true}":                                                   "stream to dev-2: it was not cut: the device ended it",
		"{ue: dev-2, port: 5, send: a, expect: a, cut: true}":                                                   "stream to dev-2: it was not cut: more bytes came",
		"{ue: dev-2, port: 7, send: a, expect: a, cut: true}":                                                   "stream to dev-2: it was not cut",
	} {
		timeout := ""
		if strings.HasSuffix(want, "not cut") {
			timeout = "    timeout: 100ms\n"
		}
		_, err := play(t, l, strings.Replace(access, "AT", at, 1)+"  - streams: {access: many, open: ["+open+"]}\n"+timeout)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v; want %q", open, err, want)
		}
	}
}

// TestStreamsAreChecked before anything runs.
func TestStreamsAreChecked(t *testing.T) {
	for open, want := range map[string]string{
		"":                       "no stream to open",
		"{ue: 'dev-*', port: 7}": "a stream needs one UE and a port",
		"{ue: dev-1}":            "a stream needs one UE and a port",
		"{ue: nobody, port: 7}":  `no UE is called "nobody"`,
		"{ue: dev-1, port: 7, refused: NAP0120, send: hello}": "leave send, expect and cut out",
	} {
		_, _, err := compile(t, "  - streams: {access: many, open: ["+open+"]}\n")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v; want %s", open, err, want)
		}
	}
}

// TestWithinEndsAnAPICall that is not answered, with until and without.
func TestWithinEndsAnAPICall(t *testing.T) {
	for _, until := range []string{"true", "false"} {
		l := hangingLab{newFakeLab(t)}
		acts, _, err := compile(t, "  - api: {call: GET /x, within: 30ms, until: "+until+"}\n")
		if err != nil {
			t.Fatal(err)
		}
		err = acts[0](t.Context(), NewEnv(parsed(t), l, t.TempDir()))
		if err == nil || !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
			t.Errorf("until %s: %v; want the deadline", until, err)
		}
	}
}

// hangingLab is one whose manager does not answer.
type hangingLab struct{ *fakeLab }

func (l hangingLab) Manager() lab.Manager { return l }

func (l hangingLab) Call(ctx context.Context, _ lab.Client, _ lab.APIRequest) (lab.APIAnswer, error) {
	<-ctx.Done()
	return lab.APIAnswer{}, ctx.Err()
}
