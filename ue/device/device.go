// Package device is the small servers that run on a simulated device: HTTP that
// tells the IMSI, echo, and a sink that answers with a byte count. They run on any
// net.Listener: one opened in the UE's network namespace or on a userspace stack.
// Serve owns all goroutines of a service.
package device

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// Kind is what a service does.
type Kind string

// Kinds of services.
const (
	HTTP Kind = "http" // every request is answered 200 with the line "imsi <IMSI>"
	Echo Kind = "echo" // bytes come back; a FIN is answered when they all have
	Sink Kind = "sink" // after the peer's FIN the number of bytes comes back as a line
)

// ErrKind refuses kinds that do not exist.
var ErrKind = errors.New("device: unknown kind of service")

// Service is one server of a device.
type Service struct {
	Kind Kind   `yaml:"kind"`
	Port uint16 `yaml:"port"` // 1..65535
}

// Validate reports what is wrong with s.
func (s Service) Validate() error {
	switch s.Kind {
	case HTTP, Echo, Sink:
	default:
		return fmt.Errorf("%w %q: want http, echo or sink", ErrKind, s.Kind)
	}
	if s.Port == 0 {
		return fmt.Errorf("device: service %s has no port", s.Kind)
	}
	return nil
}

// Serve runs the service on l until ctx ends, closes l and every connection, and
// returns when all its goroutines have ended. It returns nil after ctx's end.
func (s Service) Serve(ctx context.Context, l net.Listener, imsi ident.IMSI) error {
	switch s.Kind {
	case HTTP:
		return serveHTTP(ctx, l, imsi)
	case Echo:
		return serveTCP(ctx, l, echo)
	case Sink:
		return serveTCP(ctx, l, sink)
	}
	return errors.Join(fmt.Errorf("%w %q", ErrKind, s.Kind), l.Close())
}

func serveHTTP(ctx context.Context, l net.Listener, imsi ident.IMSI) error {
	srv := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprintf(w, "imsi %s\n", imsi)
		}),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		_ = srv.Close() // the device goes away: connections with it
	})
	err := srv.Serve(l)
	if !stop() {
		<-stopped
	}
	if ctx.Err() != nil && errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("device: http: %w", err)
}

// serveTCP runs handle for every connection.
func serveTCP(ctx context.Context, l net.Listener, handle func(net.Conn)) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex // guards conns
		conns = map[net.Conn]bool{}
	)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		_ = l.Close()
		mu.Lock()
		defer mu.Unlock()
		for c := range conns {
			_ = c.Close()
		}
	})
	var err error
	for {
		c, aerr := l.Accept()
		if aerr != nil {
			err = aerr
			break
		}
		mu.Lock()
		conns[c] = true
		if ctx.Err() != nil {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Go(func() {
			handle(c)
			_ = c.Close()
			mu.Lock()
			delete(conns, c)
			mu.Unlock()
		})
	}
	if stop() {
		_ = l.Close()
	} else {
		<-stopped
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("device: accept: %w", err)
}

// echo ends with the peer, whose errors are its own affair.
func echo(c net.Conn) {
	_, _ = io.Copy(c, c)
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
	}
}

func sink(c net.Conn) {
	n, err := io.Copy(io.Discard, c)
	if err == nil {
		_, _ = fmt.Fprintln(c, n)
	}
}
