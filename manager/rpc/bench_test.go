package rpc_test

import (
	"context"
	"crypto/rand"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/rpc"
	"github.com/simreach/simreach/manager/store"
)

// resolver is a client that is attached to a manager on loopback, and an entry to ask
// for.
func resolver(b *testing.B, tls bool) (*rpc.Client, manager.Entry) {
	b.Helper()
	st, err := store.Open(b.Context(), store.Config{Path: ":memory:"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	e := manager.Entry{
		ID: manager.EntryID(rand.Text()), OperatorID: op, IMSI: imsi, Strategy: manager.IMSIPrioritized, DevicePort: 22, RelayID: "outer1",
		Address: netip.MustParseAddrPort("192.0.2.1:40000"), Created: time.Now(), Expires: time.Now().Add(time.Hour),
		Ranges: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
	}
	if err := st.CreateEntry(b.Context(), e); err != nil {
		b.Fatal(err)
	}
	svc, err := manager.New(manager.Config{
		Operators: []manager.OperatorConfig{{ID: op}}, Subscribers: []manager.SubscriberConfig{{IMSI: imsi, OperatorID: op}},
		InnerRelays: []manager.InnerRelayConfig{{ID: "inner1", UPFs: []string{"upf1"}}},
	}, manager.Deps{Store: st, Directory: here{manager.Attachment{UPF: "upf1", Address: netip.MustParseAddr("10.60.0.7")}}})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	scfg, sdeps := rpc.ServerConfig{Secret: secret}, rpc.ServerDeps{Listener: l, Manager: svc}
	ccfg, cdeps := rpc.ClientConfig{Manager: l.Addr().String(), Secret: secret}, rpc.ClientDeps{Relay: outer1}
	if tls {
		ca, err := pki.NewAuthority(pki.AuthorityConfig{})
		if err != nil {
			b.Fatal(err)
		}
		issue := func(r pki.Request) (pki.Config, *pki.Source) {
			p, err := ca.Issue(r)
			if err != nil {
				b.Fatal(err)
			}
			c := pki.Config{Cert: string(p.Cert), Key: p.Key, CA: string(ca.PEM())}
			src, err := pki.NewSource(c, nil)
			if err != nil {
				b.Fatal(err)
			}
			return c, src
		}
		scfg.Secret, ccfg.Secret = "", ""
		scfg.TLS, sdeps.TLS = issue(pki.Manager("127.0.0.1"))
		ccfg.TLS, cdeps.TLS = issue(pki.Relay("outer", "outer1", "127.0.0.1"))
	}
	server, err := rpc.NewServer(scfg, sdeps)
	if err != nil {
		b.Fatal(err)
	}
	client, err := rpc.NewClient(ccfg, cdeps)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	wg.Go(func() { svc.Run(ctx) })
	wg.Go(func() { server.Run(ctx) })
	<-svc.Ready()
	wg.Go(func() { client.Run(ctx) })
	b.Cleanup(func() { cancel(); wg.Wait() })
	<-client.Ready()
	inner := inner1
	inner.Instance = "i"
	if _, err := svc.AttachRelay(inner); err != nil {
		b.Fatal(err)
	}
	return client, e
}

// BenchmarkResolve is one question after another over loopback TCP, with the ticket's
// signature: ns/op, and the 50th and 99th percentile.
func BenchmarkResolve(b *testing.B) {
	for _, tls := range []bool{false, true} {
		name := "secret"
		if tls {
			name = "mutual TLS"
		}
		b.Run(name, func(b *testing.B) {
			c, e := resolver(b, tls)
			q := manager.ResolveRequest{ConnectionID: "c", Hit: e.Address, Client: netip.MustParseAddrPort("198.51.100.7:5555")}
			var took []time.Duration
			b.ReportAllocs()
			for b.Loop() {
				begin := time.Now()
				if _, err := c.Resolve(b.Context(), q); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

// BenchmarkResolveParallel is many at one time.
func BenchmarkResolveParallel(b *testing.B) {
	c, e := resolver(b, false)
	q := manager.ResolveRequest{ConnectionID: "c", Hit: e.Address, Client: netip.MustParseAddrPort("198.51.100.7:5555")}
	b.SetParallelism(16)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := c.Resolve(b.Context(), q); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "resolves/s")
}

// BenchmarkAsk is 64 questions at one time without a goroutine for each, as an event loop
// asks them.
func BenchmarkAsk(b *testing.B) {
	c, e := resolver(b, false)
	q := manager.ResolveRequest{ConnectionID: "c", Hit: e.Address, Client: netip.MustParseAddrPort("198.51.100.7:5555")}
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	var next func(manager.Route, error)
	next = func(_ manager.Route, err error) {
		if err != nil {
			b.Error(err)
		}
		if left.Add(-1) < 0 || err != nil {
			wg.Done()
			return
		}
		c.Ask(q, "", time.Now().Add(5*time.Second), next)
	}
	b.ReportAllocs()
	b.ResetTimer()
	wg.Add(64)
	for range 64 {
		c.Ask(q, "", time.Now().Add(5*time.Second), next)
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "resolves/s")
}
