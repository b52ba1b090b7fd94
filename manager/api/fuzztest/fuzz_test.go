// Package fuzztest fuzzes the REST API. It has tests only, and is a package of its own
// because those of package api hold all traffic against the API's description: what reads
// that would have to be built for fuzzing too, which takes minutes.
package fuzztest

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/store"
)

const (
	operator1 = "/v1/operators/OP0000000001"
	imsi1     = "001010000000001"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fuzzed returns what makes a request of operator 1, without a network, and returns the
// status of the answer.
func fuzzed(f *testing.F) func(method, path, body string) int {
	st, err := store.Open(f.Context(), store.Config{Path: ":memory:"})
	if err != nil {
		f.Fatal(err)
	}
	nobody, err := manager.NewStaticDirectory(nil)
	if err != nil {
		f.Fatal(err)
	}
	m, err := manager.New(manager.Config{
		Operators:   []manager.OperatorConfig{{ID: "OP0000000001", AuthKeys: []manager.AuthKeyConfig{{ID: "keyId-1", Hash: manager.HashSecret("secret-1")}}}},
		Subscribers: []manager.SubscriberConfig{{IMSI: imsi1, SIMID: "8942310000000000001", OperatorID: "OP0000000001"}},
	}, manager.Deps{Store: st, Directory: nobody})
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

// FuzzBody sends whatever to operations that read bodies: the answer is never a fault
// of ours.
func FuzzBody(f *testing.F) {
	for _, b := range []string{`{}`, `[]`, `null`, `{"permission":"{}"}`, `{"destination":{"imsi":"` + imsi1 + `","port":22}}`, `{"requests":[{}]}`, `{"email":"a","password":"b"}`, "\xff"} {
		f.Add(b)
	}
	s := fuzzed(f)
	f.Fuzz(func(t *testing.T, body string) {
		for _, c := range [][2]string{
			{"POST", "/v1/port_mappings"}, {"POST", "/v1/simreach/port_mappings"}, {"PUT", operator1 + "/users/ann/permission"}, {"POST", operator1 + "/roles/r"},
			{"PUT", operator1 + "/users/ann/trust_policy"}, {"POST", "/v1/auth/switch_user"}, {"POST", operator1 + "/token"},
		} {
			if status := s(c[0], c[1], body); status >= 500 {
				t.Errorf("%s %s with %q: %d", c[0], c[1], body, status)
			}
		}
	})
}
