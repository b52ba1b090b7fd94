package relay_test

import (
	"crypto/tls"
	"io"
	"maps"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/relay/inner"
	"github.com/simreach/simreach/relay/outer"
	"github.com/simreach/simreach/relay/outer/manyclient"
)

// The outer relay's event loops take turns, and each has connections of its own to an inner
// relay: so many serve all clients that come one after the other.
func shared() int64 { return int64(runtime.GOMAXPROCS(0)) }

// records keeps what a relay records.
type records struct {
	mu  sync.Mutex
	all []manager.AuditRecord
}

// Record implements outer.Auditor.
func (r *records) Record(a manager.AuditRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, a)
}

// Accepting implements outer.Auditor.
func (*records) Accepting() bool { return true }

// take waits for the three records of a connection, takes them and checks what they say;
// became is what the second one is.
func (r *records) take(t *testing.T, became manager.AuditType, cause manager.Cause, up, down int) {
	t.Helper()
	var got []manager.AuditRecord
	testenv.EventuallyWithin(t, patience, "the connection has its records", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.all) < 3 {
			return false
		}
		got, r.all = r.all, nil
		return true
	})
	types := [...]manager.AuditType{manager.AuditAccess, became, manager.AuditClosed}
	for i, a := range got {
		if len(got) != len(types) || a.Type != types[i] || a.ConnectionID != got[0].ConnectionID {
			t.Fatalf("records %+v; want %v of one connection", got, types)
		}
	}
	if last := got[2]; last.Cause != cause || last.Up != uint64(up) || last.Down != uint64(down) {
		t.Errorf("record %+v; want %s, %d bytes up and %d down", last, cause, up, down)
	}
}

// newKeptChain is newChain with the records of the connections.
func newKeptChain(t *testing.T, change ...func(*chain)) (*chain, *records) {
	r := &records{}
	return newChain(t, append(change, func(c *chain) {
		setup := c.outerSetup
		c.outerSetup = func(cfg *outer.Config, d *outer.Deps) {
			if d.Auditor = r; setup != nil {
				setup(cfg, d)
			}
		}
	})...), r
}

// client is one that says a text, is answered and ends before its device does. When it has
// its records, the connection between the relays waits for another one.
func (c *chain) client(m api.PortMapping, r *records, text string) {
	c.t.Helper()
	client := c.dial(m)
	c.talk(client, r, text)
}

func (c *chain) talk(client interface {
	io.ReadWriteCloser
	CloseWrite() error
}, r *records, text string) {
	c.t.Helper()
	defer client.Close()
	device := c.accept()
	defer device.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		io.WriteString(client, text)
		client.CloseWrite()
	})
	got, err := io.ReadAll(device)
	wg.Wait()
	if err != nil || string(got) != text {
		c.t.Fatalf("the device read %d bytes, %v; want the client's %d", len(got), err, len(text))
	}
	wg.Go(func() {
		io.WriteString(device, text+" back")
		device.Close()
	})
	got, err = io.ReadAll(client)
	wg.Wait()
	if err != nil || string(got) != text+" back" {
		c.t.Fatalf("the client read %d bytes, %v; want the device's %d", len(got), err, len(text)+5)
	}
	r.take(c.t, manager.AuditConnected, manager.CauseClosed, len(text), len(text)+5)
}

// closes is a client that is gone when its device ends, as most are over TLS.
func (c *chain) closes(client *tls.Conn, r *records) {
	c.t.Helper()
	device := c.accept()
	defer device.Close()
	io.WriteString(client, "ping")
	b := make([]byte, 4)
	if _, err := io.ReadFull(device, b); err != nil {
		c.t.Fatal(err)
	}
	device.Write(b)
	if _, err := io.ReadFull(client, b); err != nil {
		c.t.Fatal(err)
	}
	client.Close()
	c.ended(device)
	device.Close()
	r.take(c.t, manager.AuditConnected, manager.CauseClosed, 4, 4)
}

// clients are so many, one after the other.
func (c *chain) clients(m api.PortMapping, r *records, n int64) {
	c.t.Helper()
	for i := range n {
		c.client(m, r, strings.Repeat("x", int(i)+1))
	}
}

// crowd is so many clients at one time. All connections between the relays wait afterwards.
func (c *chain) crowd(m api.PortMapping, r *records, n int64) {
	c.t.Helper()
	var clients, devices []*net.TCPConn
	for range n {
		client, device := c.connect(m)
		clients, devices = append(clients, client), append(devices, device)
	}
	for i, client := range clients {
		client.CloseWrite()
		c.ended(devices[i])
		devices[i].Close()
		c.ended(client)
		client.Close()
	}
	c.eventually("all have their records", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.all) == 3*int(n)
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = nil
}

func (c *chain) ended(conn net.Conn) {
	c.t.Helper()
	if b, err := io.ReadAll(conn); err != nil || len(b) > 0 {
		c.t.Fatalf("read %q, %v; want the end", b, err)
	}
}

// hops fails unless the inner relays have accepted so many connections.
func (c *chain) hops(want int64, what string) {
	c.t.Helper()
	if got := c.hop.Load(); got != want {
		c.t.Fatalf("%s: %d connections between the relays so far; want %d", what, got, want)
	}
}

// Clients that come one after the other share connections between the relays; each has its
// own bytes and records. A long one takes the connection with it.
func TestClientsShareTheHop(t *testing.T) {
	reg := prometheus.NewRegistry()
	c, r := newKeptChain(t, func(c *chain) { c.metrics = reg })
	m := c.create()
	c.clients(m, r, 4*shared())
	c.hops(shared(), "one after the other")
	c.client(m, r, strings.Repeat("long", 50_000))
	c.clients(m, r, 2*shared())
	c.hops(shared()+1, "one more after a long one")
	c.clients(c.create(), r, shared())
	c.hops(shared()+1, "another entry")
	want := uint64(7*shared() + 1)
	c.eventually("both relays have counted all", func() bool {
		out, in := c.outer.Status(), c.inner["inner1"].Status()
		return out.Live == 0 && out.Opened == want && out.Ended["closed"] == want && in.Live == 0 && in.Relayed == want && in.Ended["closed"] == want &&
			in.Up == out.Up && in.Down == out.Down
	})
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	waiting := map[string]float64{}
	for _, f := range families {
		if kind, ok := strings.CutSuffix(f.GetName(), "_relay_waiting_connections"); ok {
			waiting[kind] = f.Metric[0].GetGauge().GetValue()
		}
	}
	n := float64(shared())
	if want := map[string]float64{"simreach_outer": n, "simreach_inner": n}; !maps.Equal(waiting, want) {
		t.Errorf("connections wait: %v; want %v", waiting, want)
	}
}

func TestClientsWithoutSharing(t *testing.T) {
	c, r := newKeptChain(t, func(c *chain) {
		c.outerSetup = func(cfg *outer.Config, _ *outer.Deps) { cfg.KeptInner = -1 }
	})
	c.clients(c.create(), r, 3*shared())
	c.hops(3*shared(), "each client has its own")
}

// Clients with TLS, and the devices of an entry for several, share connections between the
// relays, too: with each other, and with clients without TLS.
func TestTLSClientsShareTheHop(t *testing.T) {
	ca := must[*pki.Authority](t)(pki.NewAuthority(pki.AuthorityConfig{Name: "relays"}))
	issued := must[pki.Pair](t)(ca.Issue(pki.Server("127.0.0.2")))
	cert := must[tls.Certificate](t)(tls.X509KeyPair(issued.Cert, []byte(issued.Key)))
	c, r := newKeptChain(t, func(c *chain) {
		c.outerSetup = func(_ *outer.Config, d *outer.Deps) {
			d.Certificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }
		}
	})
	config := &tls.Config{RootCAs: ca.Pool(), ServerName: "127.0.0.2"}
	plain, secure := c.create(), c.create(func(q *api.CreateRequest) { q.TLSRequired = true })
	port := c.device.Addr().(*net.TCPAddr).Port
	several := must[[]api.ExtendedMapping](t)(c.api.CreateExtended(t.Context(), api.ExtendedRequest{
		CreateRequest: api.CreateRequest{TLSRequired: true}, Targets: []api.TargetRequest{{IMSI: imsi, Port: float64(port)}},
	}))[0]
	streams := must[*manyclient.Client](t)(manyclient.Dial(t.Context(), manyclient.Config{Endpoint: several.Endpoint, TLS: config}))
	defer streams.Close()
	overTLS := func(text string) {
		client := tls.Client(c.dial(secure), config)
		if err := client.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.talk(client, r, text)
	}
	for range shared() {
		overTLS("with TLS")
	}
	c.hops(shared(), "the first ones")
	for range 2 * shared() {
		c.clients(plain, r, 1)
		overTLS("with TLS")
		c.talk(must[*manyclient.Stream](t)(streams.Connect(t.Context(), manyclient.ByIMSI(imsi, uint16(port)))), r, "a stream")
	}
	c.hops(shared(), "one after the other, of all kinds")
	for range 8 * shared() {
		c.closes(must[*tls.Conn](t)(tls.Dial("tcp", secure.Endpoint, config)), r)
	}
	c.hops(shared(), "clients that close without waiting for the device's end")
	overTLS(strings.Repeat("long", 50_000))
	for range shared() {
		overTLS("with TLS")
	}
	c.hops(shared()+1, "one more after a long one")
}

// A successor of an inner relay, at the same address, gets every client, whatever has become
// of the connections that wait: the predecessor has said that it reads no request, or it
// reads them still and knows the tickets not.
func TestSharedHopToASuccessor(t *testing.T) {
	for name, leave := range map[string]func(*chain){
		"ended":      func(c *chain) { c.in["inner1"].stop() },
		"not at all": func(c *chain) { c.doors["inner1"].leave() },
	} {
		t.Run(name, func(t *testing.T) {
			c, r := newKeptChain(t)
			m := c.create()
			each := 4 * shared() // more than a client asks inner relays for a way
			c.crowd(m, r, each)
			c.hops(each, "at one time")
			former := c.inner["inner1"]
			leave(c)
			c.startInner("inner1", c.doors["inner1"].Addr().String())
			c.clients(m, r, 2*each)
			if s, old := c.inner["inner1"].Status(), former.Status(); s.Relayed != uint64(2*each) || old.Relayed != uint64(each) {
				t.Errorf("the successor %+v, its predecessor %+v; want every client at the successor", s, old)
			}
			if s := c.outer.Status(); len(s.Denied) != 0 {
				t.Errorf("denied %v; want nobody", s.Denied)
			}
		})
	}
}

// A client whose request comes on a connection that waited is told what the inner relay says.
func TestSharedHopIsRefused(t *testing.T) {
	c, r := newKeptChain(t, func(c *chain) {
		c.innerConfig = func(cfg *inner.Config) { cfg.MaxHandshakes, cfg.HandshakeTimeout = 1, time.Hour }
	})
	m := c.create()
	c.clients(m, r, shared())
	at := c.doors["inner1"].Addr().String()
	begun := must[net.Conn](t)(net.Dial("tcp", at))
	defer begun.Close()
	second := must[net.Conn](t)(net.Dial("tcp", at)) // accepted after the first, which has the slot then
	defer second.Close()
	if b, err := io.ReadAll(second); err != nil || !strings.Contains(string(b), "overloaded") {
		t.Fatalf("a second handshake: answered %q, %v; want overloaded", b, err)
	}
	c.expectDenied(m, "overloaded")
	c.hops(shared()+2, "the client's request came on a connection that waited")
	begun.Close()
	c.eventually("the slot is free", func() bool { return c.inner["inner1"].Status().Refused["bad-request"] == 1 })
	r.take(t, manager.AuditRefused, manager.CauseOverloaded, 0, 0)
	c.clients(m, r, 2*shared())
	c.hops(shared()+3, "one connection after the one that was refused")
}
