//go:build !linux

package ports

import (
	"context"
	"errors"
	"math"
	"net"
	"net/netip"
)

// defaultMaxOpen does not know the limit: opening fails when it is reached.
func defaultMaxOpen() int { return math.MaxUint16 }

// listen opens a listener that shares nothing; a backlog cannot be set.
func listen(ctx context.Context, at netip.AddrPort, _ int) (*Listener, error) {
	return listenTCP(ctx, net.ListenConfig{}, at)
}

// refuseNew does nothing: new connections come until the listener closes.
func refuseNew([]controlled) error { return nil }

// finish cannot tell what the kernel has promised: connections that wait are lost.
func finish(context.Context, netip.Addr, map[uint16]bool, []controlled) error { return nil }

func (p *Ports) newSteering(context.Context) (backend, error) {
	return nil, &steeringError{errors.New("needs Linux")}
}
