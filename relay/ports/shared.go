package ports

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// Listener is a TCP listener whose address a second process may take over without
// losing a connection. Accept returns *net.TCPConn.
type Listener struct {
	*net.TCPListener
	address netip.AddrPort
}

// ListenShared opens a listener that another process of the same user may open,
// too, with ListenShared: whoever opened it last gets the new connections from then
// on, as long as there are no more than two. The former one calls Drain. Port 0
// lets the kernel choose. It fails as net.ListenConfig.Listen does: with EADDRINUSE
// where another program holds the port, with EADDRNOTAVAIL for an address that is
// not of this machine.
func ListenShared(ctx context.Context, at netip.AddrPort) (*Listener, error) {
	return listen(ctx, at, 0)
}

// Drain stops taking new connections and closes the listener once all that the
// kernel has promised to clients were accepted, those with a half-way handshake
// included, or when ctx ends, which is its error then. Somebody must go on calling
// Accept meanwhile; it fails with net.ErrClosed when the listener has been closed.
func (l *Listener) Drain(ctx context.Context) error {
	ls := []controlled{l}
	err := refuseNew(ls)
	if err == nil {
		err = finish(ctx, l.address.Addr(), map[uint16]bool{l.address.Port(): true}, ls)
	}
	_ = l.Close() // fails only if it is closed
	if err != nil {
		return fmt.Errorf("drain listener %s: %w", l.address, err)
	}
	return nil
}

// controlled is a socket, as a syscall.RawConn is one.
type controlled interface {
	Control(f func(fd uintptr)) error
}

// Control runs f on the socket.
func (l *Listener) Control(f func(fd uintptr)) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(f)
}

// listenTCP opens a listener with the options of lc. "::" takes both families, as
// it does in package net.
func listenTCP(ctx context.Context, lc net.ListenConfig, at netip.AddrPort) (*Listener, error) {
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	network := "tcp6"
	switch {
	case at.Addr().Is4():
		network = "tcp4"
	case at.Addr().IsUnspecified():
		network = "tcp"
	}
	lc.SetMultipathTCP(false) // such sockets know none of the options that we need
	l, err := lc.Listen(ctx, network, at.String())
	if err != nil {
		return nil, err
	}
	t, ok := l.(*net.TCPListener)
	if !ok {
		_ = l.Close()
		return nil, fmt.Errorf("listen %s: got a %T", at, l)
	}
	if a, ok := t.Addr().(*net.TCPAddr); ok {
		at = netip.AddrPortFrom(at.Addr(), uint16(a.Port))
	}
	return &Listener{TCPListener: t, address: at}, nil
}
