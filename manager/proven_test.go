package manager_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/simreach/simreach/manager"
)

// A key that was right once is checked without waiting behind those who guess.
func TestLoginsDoNotWaitForGuessers(t *testing.T) {
	r := start(t, config())
	good := manager.Login{AuthKeyID: "keyId-1", AuthKey: "secret-1"}
	if _, err := r.Authenticate(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var guessers sync.WaitGroup
	defer guessers.Wait()
	defer cancel()
	for range 2 * 4 { // twice as many as are let in
		guessers.Go(func() {
			for ctx.Err() == nil {
				if _, err := r.Authenticate(ctx, manager.Login{AuthKeyID: "keyId-1", AuthKey: "wrong"}); err == nil {
					t.Error("a wrong key is accepted")
				}
			}
		})
	}
	begin := time.Now()
	for range 20 {
		c, err := r.Authenticate(t.Context(), good)
		if err != nil || c.OperatorID != op1 {
			t.Fatalf("login while others guess: %+v, %v", c, err)
		}
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("20 logins took %s while others guess", took)
	}
	for _, l := range []manager.Login{
		{AuthKeyID: "keyId-1", AuthKey: "secret-"}, {AuthKeyID: "keyId-1", AuthKey: "secret-1\x00"},
		{AuthKeyID: "keyId-2", AuthKey: "secret-1"}, {AuthKeyID: "", AuthKey: "secret-1"},
	} {
		if _, err := r.Authenticate(t.Context(), l); err == nil {
			t.Errorf("login with %q and %q is accepted", l.AuthKeyID, l.AuthKey)
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	for name, l := range map[string]manager.Login{
		"key":      {AuthKeyID: "keyId-1", AuthKey: "secret-1"},
		"password": {Email: "a@example.com", Password: "secret-1"},
	} {
		b.Run(name, func(b *testing.B) {
			r := start(b, config())
			_, _ = r.Authenticate(b.Context(), l)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := r.Authenticate(b.Context(), l); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
