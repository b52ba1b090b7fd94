package ports_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/simreach/simreach/relay/ports"
)

func TestConfigValidate(t *testing.T) {
	a := netip.MustParseAddr("198.18.0.1")
	for _, tt := range []struct {
		why string
		cfg ports.Config
		ok  bool
	}{
		{"an address is enough", ports.Config{Address: a}, true},
		{"all addresses", ports.Config{Address: netip.IPv4Unspecified()}, true},
		{"a mode and a range", ports.Config{Address: a, Mode: ports.ModeListen, First: 40000, Last: 65000}, true},
		{"a range of one", ports.Config{Address: a, First: 1, Last: 1}, true},
		{"no address", ports.Config{}, false},
		{"a zone", ports.Config{Address: netip.MustParseAddr("fe80::1%lo")}, false},
		{"a mode that is none", ports.Config{Address: a, Mode: "ebpf"}, false},
		{"no first", ports.Config{Address: a, Last: 5}, false},
		{"a range that ends before it begins", ports.Config{Address: a, First: 6, Last: 5}, false},
		{"a negative backlog", ports.Config{Address: a, Backlog: -1}, false},
		{"a negative limit", ports.Config{Address: a, MaxOpen: -1}, false},
	} {
		if err := tt.cfg.Validate(); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.why, err)
		}
		if _, err := ports.New(tt.cfg, ports.Deps{Handle: func(net.Conn, uint16) {}}); (err == nil) != tt.ok {
			t.Errorf("%s: New: %v", tt.why, err)
		}
	}
	if _, err := ports.New(ports.Config{Address: a}, ports.Deps{}); err == nil {
		t.Error("New takes no Handle")
	}
}
