package node

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/simreach/simreach/internal/sctp"
)

// take takes a TCP port of loopback until the test ends.
func take(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return netip.MustParseAddrPort(l.Addr().String())
}

// TestStartThatFailsLeavesNothingOpen: each role has the last thing that it opens
// refused. A second try must fail in the same way: a socket of the first that is
// still open would be met earlier. Goroutines are goleak's concern.
func TestStartThatFailsLeavesNothingOpen(t *testing.T) {
	taken := take(t)
	a, s, u, m := sample(t, "amf").(*AMF), sample(t, "smf").(*SMF), sample(t, "udm").(*UDM), sample(t, "manager").(*Manager)
	g, in, e := sample(t, "gnb").(*GNB), sample(t, "relay-inner").(*Inner), sample(t, "ue").(*UE)

	a.SBI, s.SBI, u.SBI, m.API.Listen, in.Relay.Listen = taken, taken, taken, taken.String(), taken.String()
	a.N2.Mode, a.N2.Local, a.N2.UDPPort = sctp.ModeUDP, netip.MustParseAddrPort("127.9.1.1:38412"), 19899
	s.SMF.N4 = netip.MustParseAddrPort("127.9.1.2:8805")
	m.Store.Path = filepath.Join(t.TempDir(), "manager.db")
	m.RPC.Listen, m.Notify = "127.9.1.3:18090", netip.MustParseAddrPort("127.9.1.3:18001")
	g.N2.Mode, g.GNB.N3, g.Air = sctp.ModeUDP, netip.MustParseAddrPort("127.9.1.4:2152"), taken
	e.Air, e.Control = netip.MustParseAddr("127.9.1.5"), "/not/there"
	e.UEs, e.GNBs = nil, append(e.GNBs, Link("gnb2", e.GNBs[0].Server))

	for name, c := range map[string]struct {
		role Role
		want error
	}{
		"amf": {a, syscall.EADDRINUSE}, "smf": {s, syscall.EADDRINUSE}, "udm": {u, syscall.EADDRINUSE}, "manager": {m, syscall.EADDRINUSE},
		"gnb": {g, syscall.EADDRINUSE}, "relay-inner": {in, syscall.EADDRINUSE}, "ue": {e, fs.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				err := c.role.Run(t.Context(), slog.New(slog.DiscardHandler), func() { t.Error("ready") })
				var op *net.OpError
				if !errors.Is(err, c.want) || errors.As(err, &op) && name != "ue" && op.Addr.String() != taken.String() {
					t.Errorf("want %v on %s, got %v", c.want, taken, err)
				}
			}
		})
	}
}
