package netnsrun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
)

// hostClaim is an abstract Unix socket. The kernel keeps those apart by network
// namespace, which is exactly what the claim is about, and drops one with its
// process.
const hostClaim = "@simreach-host"

// claimHost takes the host's place on the public network for one run: every
// topology has the same addresses, so a host can be joined to one at a time.
// Closing the claim gives the place back.
func claimHost(ctx context.Context, addr netip.Prefix) (io.Closer, error) {
	var lc net.ListenConfig
	claim, err := lc.Listen(ctx, "unix", hostClaim)
	if err != nil && !errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("claim the host link: %w", err)
	}
	other, oerr := onHost(addr.Masked())
	switch {
	case err != nil:
		return nil, fmt.Errorf("another topology%s is up, and only one at a time can be reached from the host: end it with Ctrl-C first", runOf(other))
	case oerr != nil:
		return nil, errors.Join(oerr, claim.Close())
	case runOf(other) != "":
		return nil, errors.Join(fmt.Errorf("a topology%s crashed and left its host link: run 'simreach clean'", runOf(other)), claim.Close())
	case other != "":
		return nil, errors.Join(fmt.Errorf("the host's interface %s has an address in %s, which the topology needs", other, addr.Masked()), claim.Close())
	}
	return claim, nil
}

// onHost returns the name of the host's interface that has an address in p; empty
// if none has.
func onHost(p netip.Prefix) (string, error) {
	list, err := net.Interfaces()
	if err != nil {
		return "", fmt.Errorf("list host links: %w", err)
	}
	for _, i := range list {
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		for _, a := range addrs {
			if x, err := netip.ParsePrefix(a.String()); err == nil && x.Overlaps(p) {
				return i.Name, nil
			}
		}
	}
	return "", nil
}

// runOf returns " (run ID)" for the host link of a run; empty for another
// interface.
func runOf(link string) string {
	id, ok := strings.CutPrefix(link, hostLink(""))
	id, ok2 := strings.CutSuffix(id, "h")
	if !ok || !ok2 || !runID.MatchString(id) {
		return ""
	}
	return " (run " + id + ")"
}
