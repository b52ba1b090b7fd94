package outer

import (
	"io"
	"net/netip"
	"testing"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

// A device that leaves its address loses the connections that lead there, and no others;
// the entries stay.
func TestDeviceLeaves(t *testing.T) {
	const one, two = ident.IMSI("001010000000001"), ident.IMSI("001010000000002")
	s := startTLS(t, nil)
	s.ctl.change(func(c *control) { c.route.IMSI = one })
	c := s.dialMany(s.open(forMany))
	gone, err := c.Connect(t.Context(), "sim:1")
	if err != nil {
		t.Fatal(err)
	}
	s.ctl.change(func(c *control) { c.route.Device = netip.MustParseAddrPort("10.0.0.2:22") })
	moved, err := c.Connect(t.Context(), "sim:1")
	if err != nil {
		t.Fatal(err)
	}
	s.ctl.change(func(c *control) { c.route.IMSI, c.route.Device = two, netip.MustParseAddrPort("10.0.0.1:22") })
	other, err := c.Connect(t.Context(), "sim:2")
	if err != nil {
		t.Fatal(err)
	}
	s.audited(6)
	s.command(manager.Command{Kind: manager.CommandCut, IMSI: one, Device: netip.MustParseAddr("10.0.0.1")})
	if _, err := gone.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("its device has left: %v; want an error", err)
	}
	s.expectAudit("device-left", manager.AuditClosed)
	for what, st := range map[string]io.ReadWriter{"where it is now": moved, "another device": other} {
		io.WriteString(st, "ping")
		if _, err := io.ReadFull(st, make([]byte, 4)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	again, err := c.Connect(t.Context(), "sim:1")
	if err != nil {
		t.Fatalf("the entry has gone with the device: %v", err)
	}
	again.Close()
}
