package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
)

// Start starts cmd inside the namespace. The caller waits for it. cmd must not ask
// for a parent-death signal: it would come when the starting thread ends, which is
// at once.
func (n *NS) Start(cmd *exec.Cmd) error {
	return n.Do(func() error {
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start %s in %s: %w", cmd.Path, n.name, err)
		}
		return nil
	})
}

// Dial opens a TCP connection from inside the namespace.
func (n *NS) Dial(ctx context.Context, to netip.AddrPort) (c net.Conn, err error) {
	err = n.Do(func() error {
		var d net.Dialer
		c, err = d.DialContext(ctx, "tcp", to.String())
		return err
	})
	return c, err
}

// Listen opens a TCP listener inside the namespace.
func (n *NS) Listen(ctx context.Context, at netip.AddrPort) (l net.Listener, err error) {
	err = n.Do(func() error {
		var lc net.ListenConfig
		l, err = lc.Listen(ctx, "tcp", at.String())
		return err
	})
	return l, err
}
