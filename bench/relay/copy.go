package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
)

// CopyRelay is the plain way to write a TCP relay in Go, as a peer: for every
// connection two goroutines with io.Copy. forwards are "listen=to" or
// "listen=to=certificate file". It runs until ctx ends.
func CopyRelay(ctx context.Context, forwards []string, ready func()) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	life, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, text := range forwards {
		f := strings.Split(text, "=")
		if len(f) < 2 || len(f) > 3 {
			return fmt.Errorf("forward %q: want listen=to or listen=to=certificate", text)
		}
		at, err := netip.ParseAddrPort(f[0])
		if err != nil {
			return fmt.Errorf("forward %q: %w", text, err)
		}
		l, err := net.Listen("tcp", at.String())
		if err != nil {
			return fmt.Errorf("forward %q: %w", text, err)
		}
		if len(f) == 3 {
			cert, err := tls.LoadX509KeyPair(f[2], f[2])
			if err != nil {
				l.Close()
				return fmt.Errorf("forward %q: %w", text, err)
			}
			l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
		}
		wg.Go(func() {
			defer context.AfterFunc(life, func() { l.Close() })()
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				wg.Go(func() { copyBoth(life, c, f[1]) })
			}
		})
	}
	ready()
	<-ctx.Done()
	return nil
}

func copyBoth(ctx context.Context, a net.Conn, to string) {
	defer a.Close()
	var d net.Dialer
	b, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return
	}
	defer b.Close()
	defer context.AfterFunc(ctx, func() { a.Close(); b.Close() })()
	var wg sync.WaitGroup
	oneWay := func(dst, src net.Conn) {
		_, _ = io.Copy(dst, src) // either side may break off
		_ = dst.(halfCloser).CloseWrite()
	}
	wg.Go(func() { oneWay(b, a) })
	oneWay(a, b)
	wg.Wait()
}
