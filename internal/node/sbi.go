package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/simreach/simreach/nf/sbi"
)

// listen opens a TCP listener.
func listen(ctx context.Context, at netip.AddrPort) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", at.String())
}

// serveSBI is a network function's side of the service-based interface.
func serveSBI(ctx context.Context, at netip.AddrPort, s sbi.Services) (*sbi.Server, error) {
	l, err := listen(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("SBI: %w", err)
	}
	srv, err := sbi.NewServer(sbi.ServerConfig{Drain: sbiDrain}, sbi.ServerDeps{Log: s.Log, Listener: l, Services: s})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return srv, nil
}

// sbiDrain is short: a network function that ends has told its peers already.
const sbiDrain = 200 * time.Millisecond
