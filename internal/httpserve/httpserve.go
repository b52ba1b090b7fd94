// Package httpserve runs an HTTP server, as the network functions and the manager
// have it, until a context ends.
//
// It is there for stopping: http.Server.Shutdown alone waits a second for every
// HTTP/2 peer that keeps its connection open, and five for one that has connected
// and said nothing, and neither it nor Close joins the handlers.
//
// Goroutines: Run owns those of net/http and returns when they have ended.
package httpserve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// linger is for how long there must be no request before the connections that
// peers keep open are closed: the time for GOAWAY to reach them, and for what they
// had sent by then to be answered.
const linger = 50 * time.Millisecond

// Run serves srv.Handler on l until ctx ends, then returns nil, or until the
// listener fails. Requests under way then get `drain`; what takes longer is cut and
// its context cancelled. Connections without a request hold nothing up. Run sets
// srv.Handler, and BaseContext unless it is set; it closes l.
func Run(ctx context.Context, srv *http.Server, l net.Listener, drain time.Duration, log *slog.Logger) error {
	requests := &underway{next: srv.Handler, changed: make(chan struct{})}
	srv.Handler = requests
	base, cancelBase := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelBase()
	if srv.BaseContext == nil {
		srv.BaseContext = func(net.Listener) context.Context { return base }
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	served := make(chan error, 1)
	wg.Go(func() { served <- srv.Serve(l) })
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		polite := make(chan struct{}) // closed when every peer has closed its connections
		wg.Go(func() {
			// Its error is that grace is over, which is looked at here.
			_ = srv.Shutdown(grace)
			close(polite)
		})
		if n := requests.quiet(grace, polite); n > 0 {
			log.Warn("requests cut off", "address", l.Addr().String(), "requests", n, "drain", drain)
		}
	}
	_ = srv.Close() // what is left; it fails only if the listener is closed
	cancelBase()
	requests.join()
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// underway counts requests that are being answered.
type underway struct {
	next http.Handler

	mu      sync.Mutex // guards the rest
	n       int
	over    bool          // no more are let in
	changed chan struct{} // closed and replaced whenever n changes
}

// ServeHTTP implements http.Handler.
func (u *underway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !u.add(1) {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer u.add(-1)
	u.next.ServeHTTP(w, r)
}

func (u *underway) add(n int) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over && n > 0 {
		return false
	}
	u.n += n
	close(u.changed)
	u.changed = make(chan struct{})
	return true
}

func (u *underway) now() (n int, changed <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.n, u.changed
}

// quiet returns when there has been no request for `linger`, when done is closed or
// when ctx ends, with the number of requests that ctx then cuts off.
func (u *underway) quiet(ctx context.Context, done <-chan struct{}) int {
	still := time.NewTimer(linger)
	defer still.Stop()
	for {
		n, changed := u.now()
		var over <-chan time.Time
		if n == 0 {
			still.Reset(linger)
			over = still.C
		}
		select {
		case <-over:
			return 0
		case <-done:
			if ctx.Err() == nil {
				return 0 // a handler that is still there has lost its peer, not its time
			}
			n, _ = u.now()
			return n
		case <-ctx.Done():
			n, _ = u.now()
			return n
		case <-changed:
		}
	}
}

// join lets no more requests in and waits for those that are there.
func (u *underway) join() {
	u.mu.Lock()
	u.over = true
	u.mu.Unlock()
	for {
		n, changed := u.now()
		if n == 0 {
			return
		}
		<-changed
	}
}
