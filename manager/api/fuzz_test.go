package api_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/store"
)

// fuzzed returns what makes a request of operator 1, without a network, and returns the
// status of the answer.
func fuzzed(f *testing.F) func(method, path, body string) int {
	st, err := store.Open(f.Context(), store.Config{Path: ":memory:"})
	if err != nil {
		f.Fatal(err)
	}
	m, err := manager.New(manager.Config{
		Operators:   []manager.OperatorConfig{{ID: "OP0000000001", AuthKeys: []manager.AuthKeyConfig{{ID: "keyId-1", Hash: hash()}}}},
		Subscribers: []manager.SubscriberConfig{{IMSI: imsi1, SIMID: sim1, OperatorID: "OP0000000001"}},
	}, manager.Deps{Store: st, Directory: nowhere{}})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Run(ctx); err != nil {
			f.Error(err)
		}
	})
	f.Cleanup(func() { cancel(); wg.Wait(); st.Close() })
	<-m.Ready()
	c, err := m.Authenticate(ctx, manager.Login{AuthKeyID: "keyId-1", AuthKey: "secret-1"})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := m.CreateUser(ctx, manager.Principal{OperatorID: "OP0000000001", UserName: "ann"}, ""); err != nil {
		f.Fatal(err)
	}
	h, err := api.Handler(nil, m, "")
	if err != nil {
		f.Fatal(err)
	}
	return func(method, path, body string) int {
		req := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
		req.Header.Set(api.HeaderAPIKey, c.APIKey)
		req.Header.Set(api.HeaderToken, c.Token)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		return w.Code
	}
}
