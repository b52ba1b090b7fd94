package api_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/store"
)

// With a certificate the interface is HTTPS and nothing else.
func TestTLS(t *testing.T) {
	ca := must(pki.NewAuthority(pki.AuthorityConfig{}))
	pair := must(ca.Issue(pki.Server("127.0.0.1")))
	cfg := api.Config{TLS: pki.Config{Cert: string(pair.Cert), Key: pair.Key}}
	st := must(store.Open(t.Context(), store.Config{Path: ":memory:"}))
	defer st.Close()
	m := must(manager.New(manager.Config{}, manager.Deps{Store: st, Directory: nowhere{}}))
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	if _, err := api.New(cfg, api.Deps{Listener: l, Manager: m}); err == nil {
		t.Error("a certificate without what holds it is accepted")
	}
	srv := must(api.New(cfg, api.Deps{Listener: l, Manager: m, TLS: must(pki.NewSource(cfg.TLS, nil))}))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}, ForceAttemptHTTP2: true}
	defer func() { transport.CloseIdleConnections(); cancel(); wg.Wait() }()
	wg.Go(func() {
		if err := srv.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	<-srv.Ready()
	client := &http.Client{Transport: transport}
	resp, err := client.Get("https://" + l.Addr().String() + "/v1/simreach/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		t.Errorf("%s %s; want HTTP/2", resp.Status, resp.Proto)
	}
	if resp, err := client.Get("http://" + l.Addr().String() + "/v1/simreach/openapi.json"); err == nil {
		resp.Body.Close()
		if resp.StatusCode == 200 {
			t.Error("it answers without TLS, too")
		}
	}
}
