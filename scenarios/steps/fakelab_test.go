package steps

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// topology is what every test's steps are compiled against.
const topology = `name: x
upfs: [{name: upf1, pools: [{cidr: 10.45.0.0/16}]}]
gnbs: [{name: gnb1}, {name: gnb2}]
clients: [{name: client1}, {name: client2}]
ues:
  - {name: ue, count: 3, imsi: "001010000000001"}
  - {name: other, imsi: "001010000000009"}
steps:
`

// compile reads steps, written as in a file.
func compile(t *testing.T, text string) ([]Action, []spec.Step, error) {
	t.Helper()
	s, err := spec.Parse("f.yaml", []byte(strings.Replace(topology, "name: ue,", "name: dev,", 1)+text))
	if err != nil {
		t.Fatal(err)
	}
	var out []Action
	for _, st := range s.Steps {
		a, err := Compile(s, st)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, a)
	}
	return out, s.Steps, nil
}

// parsed is the topology alone.
func parsed(t *testing.T) *spec.Spec {
	t.Helper()
	s, err := spec.Parse("f.yaml", []byte(strings.Replace(topology, "name: ue,", "name: dev,", 1)+"  - register: {ue: other}\n"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fakeLab is a topology in memory. Its relays are real TCP servers on loopback, one
// for each access, which do what the access's port says.
type fakeLab struct {
	mu    sync.Mutex
	log   []string
	fail  map[string]error // by "verb name"
	ues   map[string]lab.UEStatus
	at    lab.Attachment
	procs []*fakeProcess
	relay map[netip.AddrPort]*relay
	wg    sync.WaitGroup

	ca      *pki.Authority    // of relays with TLS; nil: there is none
	answers []lab.APIAnswer   // of Call, in turn; the last one again and again
	asked   []lab.APIRequest  // by Call
	crossed map[string]string // network -> what has crossed it
	logins  map[string][]byte
}

func newFakeLab(t *testing.T) *fakeLab {
	l := &fakeLab{fail: map[string]error{}, ues: map[string]lab.UEStatus{}, relay: map[netip.AddrPort]*relay{}, crossed: map[string]string{}, logins: map[string][]byte{}}
	l.at = lab.Attachment{UPF: "upf1", Address: netip.MustParseAddr("10.45.0.1")}
	for _, n := range []string{"dev-1", "dev-2", "dev-3", "other"} {
		l.ues[n] = lab.UEStatus{}
	}
	t.Cleanup(func() {
		for _, r := range l.relay {
			r.close()
		}
		l.wg.Wait()
	})
	return l
}

// does notes what was asked and says whether it has to fail.
func (l *fakeLab) does(format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, what)
	return l.fail[what]
}

func (l *fakeLab) did(what string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.log {
		if x == what {
			n++
		}
	}
	return n
}

func (l *fakeLab) UE(name string) (lab.UE, bool) {
	_, ok := l.ues[name]
	return fakeUE{l, name}, ok
}
func (l *fakeLab) Client(name string) (lab.Client, bool) { return fakeClient{l, name}, true }
func (l *fakeLab) Node(name string) (lab.Node, bool)     { return fakeNode{l, name}, name != "amf" }
func (l *fakeLab) Manager() lab.Manager                  { return l }
func (l *fakeLab) Describe() []lab.Place                 { return nil }
func (l *fakeLab) Close(context.Context) error           { return nil }
func (l *fakeLab) Operator() string                      { return "OP0000000001" }

func (l *fakeLab) Trust() []byte {
	if l.ca == nil {
		return nil
	}
	return l.ca.PEM()
}

func (l *fakeLab) Captured(_ context.Context, network string, needles [][]byte) ([]bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text, ok := l.crossed[network]
	if !ok {
		return nil, errors.New("not captured")
	}
	var out []bool
	for _, n := range needles {
		out = append(out, strings.Contains(text, string(n)))
	}
	return out, nil
}

func (l *fakeLab) Call(_ context.Context, _ lab.Client, r lab.APIRequest) (lab.APIAnswer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, r)
	a := l.answers[0]
	if len(l.answers) > 1 {
		l.answers = l.answers[1:]
	}
	return a, nil
}

func (l *fakeLab) KeepLogin(name string, answer []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.logins[name] = answer
	return nil
}

func (l *fakeLab) Create(_ context.Context, from lab.Client, r lab.AccessRequest) (lab.Access, error) {
	if err := l.does("create %s port %d for %s, %v %v", r.IMSI, r.Port, from.(fakeClient).name, r.Duration, r.Ranges); err != nil {
		return lab.Access{}, err
	}
	if err := l.fail["create"]; err != nil {
		return lab.Access{}, err
	}
	x, err := l.listen(r)
	if err != nil {
		return lab.Access{}, err
	}
	return lab.Access{Relay: x, IMSI: r.IMSI, Port: r.Port, Host: "relay.test"}, nil
}

func (l *fakeLab) Delete(_ context.Context, a lab.Access) error {
	if err := l.does("delete %s", a.IMSI); err != nil {
		return err
	}
	l.mu.Lock()
	r := l.relay[a.Relay]
	l.mu.Unlock()
	r.close()
	return nil
}

func (l *fakeLab) AwaitDirectory(ctx context.Context, imsi ident.IMSI, attached bool) (lab.Attachment, error) {
	if err := l.does("directory %s %v", imsi, attached); err != nil {
		return lab.Attachment{}, err
	}
	return l.at, nil
}

type fakeUE struct {
	l    *fakeLab
	name string
}

func (u fakeUE) Register(_ context.Context, gnb string) error {
	return u.l.does("register %s %s", u.name, gnb)
}
func (u fakeUE) Deregister(_ context.Context, off bool) error {
	return u.l.does("deregister %s %v", u.name, off)
}
func (u fakeUE) Status(context.Context) (lab.UEStatus, error) { return u.l.ues[u.name], nil }
func (u fakeUE) Await(ctx context.Context, ok func(lab.UEStatus) bool) (lab.UEStatus, error) {
	s := u.l.ues[u.name]
	if ok(s) {
		return s, nil
	}
	<-ctx.Done()
	return s, ctx.Err()
}

type fakeClient struct {
	l    *fakeLab
	name string
}

func (c fakeClient) Address() netip.Addr { return netip.MustParseAddr("198.18.0.10") }
func (c fakeClient) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	_ = c.l.does("dial from %s", c.name)
	if errors.Is(c.l.fail["dial"], errHangs) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", to.String())
}

var errHangs = errors.New("hangs")

type fakeNode struct {
	l    *fakeLab
	name string
}

func (n fakeNode) Name() string { return n.name }
func (n fakeNode) Address() netip.Addr {
	if n.name == "other" {
		return netip.Addr{}
	}
	return netip.MustParseAddr("198.18.0.10")
}
func (n fakeNode) Kill(context.Context) error  { return n.l.does("kill %s", n.name) }
func (n fakeNode) Start(context.Context) error { return n.l.does("start %s", n.name) }

// Exec runs one of a few made-up programs.
func (n fakeNode) Exec(ctx context.Context, c lab.Command) (lab.Process, error) {
	if err := n.l.does("exec on %s: %s %s", n.name, strings.Join(c.Args, " "), strings.Join(c.Env, " ")); err != nil {
		return nil, err
	}
	p := &fakeProcess{stopped: make(chan struct{})}
	n.l.mu.Lock()
	n.l.procs = append(n.l.procs, p)
	n.l.mu.Unlock()
	switch c.Args[0] {
	case "missing":
		return nil, errors.New("not installed")
	case "cat":
		_, err := io.Copy(c.Stdout, c.Stdin)
		p.exit(err)
	case "false":
		_, _ = io.WriteString(c.Stderr, "it went wrong\n")
		p.code = 1
		p.exit(nil)
	case "daemon": // says two things and stays
		_, _ = io.WriteString(c.Stdout, "starting\nServer lis")
		_, _ = io.WriteString(c.Stderr, "tening\n")
		p.end = context.AfterFunc(ctx, func() { p.exit(ctx.Err()) })
	}
	return p, nil
}

type fakeProcess struct {
	once    sync.Once
	stopped chan struct{}
	code    int
	err     error
	end     func() bool
	stopErr error
}

func (p *fakeProcess) exit(err error) { p.once.Do(func() { p.err = err; close(p.stopped) }) }

func (p *fakeProcess) Wait() (int, error) {
	<-p.stopped
	if p.end != nil {
		p.end()
	}
	return p.code, p.err
}

func (p *fakeProcess) Stop() error { p.exit(errors.New("stopped")); return p.stopErr }

func (p *fakeProcess) running() bool {
	select {
	case <-p.stopped:
		return false
	default:
		return true
	}
}

// relay is one access's TCP server. The device's behaviour goes by the port: 7
// echoes, 80 speaks HTTP, 9 says nothing and stays, 1 resets at once, 2 sends a
// byte unasked, 3 repeats what it gets twice and 4 says one byte and goes.
type relay struct {
	l     net.Listener
	mu    sync.Mutex
	conns []net.Conn
	shut  bool
	done  chan struct{}
}

func (l *fakeLab) listen(r lab.AccessRequest) (netip.AddrPort, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	x := &relay{l: ln, done: make(chan struct{})}
	at := ln.Addr().(*net.TCPAddr).AddrPort()
	l.mu.Lock()
	l.relay[at] = x
	l.mu.Unlock()
	l.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if x.take(c) {
				l.wg.Go(func() { l.serve(c.(*net.TCPConn), r, x.done) })
			}
		}
	})
	return at, nil
}

// serve ends TLS if the access asks for it: echo is all that the device behind it does.
func (l *fakeLab) serve(c *net.TCPConn, r lab.AccessRequest, done <-chan struct{}) {
	if !r.TLS {
		device(c, r, done)
		return
	}
	defer c.Close()
	pair, err := l.ca.Issue(pki.Server("relay.test"))
	if err != nil {
		return
	}
	cert, err := tls.X509KeyPair(pair.Cert, []byte(pair.Key))
	if err != nil {
		return
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}}
	if r.Port == 1 { // wants a certificate of the CA
		cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, l.ca.Pool()
	}
	t := tls.Server(c, cfg)
	_, _ = io.Copy(t, t)
}

func device(c *net.TCPConn, r lab.AccessRequest, done <-chan struct{}) {
	defer c.Close()
	switch r.Port {
	case 7:
		_, _ = io.Copy(c, c)
	case 80:
		_ = http.Serve(&oneConn{c: c, done: make(chan struct{})}, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Connection", "close")
			if q.URL.Path == "/missing" {
				w.WriteHeader(http.StatusNotFound)
			}
			fmt.Fprintf(w, "IMSI %s\n", r.IMSI)
		}))
	case 9:
		<-done
	case 1:
		_ = c.SetLinger(0)
	case 2:
		_, _ = c.Write([]byte("!"))
		_, _ = io.Copy(io.Discard, c)
	case 4:
		_, _ = c.Write([]byte("!"))
	case 3:
		b, _ := io.ReadAll(c)
		_, _ = c.Write(append(b, b...))
	}
}

// oneConn is a listener that has one connection to give, and ends with it.
type oneConn struct {
	c    net.Conn
	once bool
	done chan struct{}
}

type closeTells struct {
	net.Conn
	once sync.Once
	done chan struct{}
}

func (c *closeTells) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Conn.Close()
}

func (o *oneConn) Accept() (net.Conn, error) {
	if o.once {
		<-o.done
		return nil, net.ErrClosed
	}
	o.once = true
	return &closeTells{Conn: o.c, done: o.done}, nil
}
func (o *oneConn) Close() error   { return nil }
func (o *oneConn) Addr() net.Addr { return o.c.LocalAddr() }

func (r *relay) take(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shut {
		c.Close()
		return false
	}
	r.conns = append(r.conns, c)
	return true
}

// close ends the listener and cuts every connection.
func (r *relay) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shut {
		return
	}
	r.shut = true
	close(r.done)
	r.l.Close()
	for _, c := range r.conns {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		c.Close()
	}
}

// play compiles and performs steps, each under its own deadline, and returns the
// first failure.
func play(t *testing.T, l *fakeLab, text string) (*Env, error) {
	t.Helper()
	acts, sts, err := compile(t, text)
	if err != nil {
		t.Fatal(err)
	}
	e := NewEnv(parsed(t), l, t.TempDir())
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	for i, a := range acts {
		ctx, cancel := context.WithTimeout(t.Context(), min(sts[i].Timeout, 10*time.Second))
		err := a(ctx, e)
		cancel()
		if err != nil {
			return e, err
		}
	}
	return e, nil
}
