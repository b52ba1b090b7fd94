package outer

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/manager"
)

// dumb does not answer the first question about a credential, and knows none.
type dumb struct {
	Resolver
	asked chan struct{} // one for each question
}

var errNone = errors.New("there is none")

func (d dumb) Credential(ctx context.Context, _ manager.CredentialID) (manager.Credential, error) {
	d.asked <- struct{}{}
	if len(d.asked) == 1 {
		<-ctx.Done()
		return manager.Credential{}, ctx.Err()
	}
	return manager.Credential{}, errNone
}

// Who waits for another's question about a credential asks when that one's time is over, or
// it has gone, and waits no longer than its own.
func TestQuestionsOfOthers(t *testing.T) {
	for name, end := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"out of time": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		},
		"gone": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cs := newCredentials(dumb{asked: make(chan struct{}, 9)})
				get := func(ctx context.Context, cancel context.CancelFunc) chan error {
					over := make(chan error, 1)
					go func() {
						defer cancel()
						_, _, err := cs.get(ctx, "c", nil)
						over <- err
					}()
					synctest.Wait()
					return over
				}
				first := get(end(t.Context()))
				hasty := get(context.WithTimeout(t.Context(), time.Second/2))
				patient := get(context.WithTimeout(t.Context(), time.Minute))
				begin := time.Now()
				if err := <-hasty; !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second/2 {
					t.Errorf("one with less time: %v after %s", err, time.Since(begin))
				}
				if err := <-first; err == nil || errors.Is(err, errNone) || time.Since(begin) != time.Second {
					t.Errorf("who asked: %v after %s", err, time.Since(begin))
				}
				if err := <-patient; !errors.Is(err, errNone) || time.Since(begin) != time.Second {
					t.Errorf("one with more time: %v after %s; want the answer to a question of its own", err, time.Since(begin))
				}
			})
		})
	}
}
