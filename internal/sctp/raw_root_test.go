package sctp

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/testenv"
)

// needRaw skips where the machine does not permit raw sockets, and fails there if
// SIMREACH_REQUIRE lists sctp.
func needRaw(t *testing.T) {
	t.Helper()
	c, err := openRaw(context.Background(), netip.MustParseAddr("127.0.0.40"))
	if err == nil {
		_ = c.Close()
	}
	testenv.Require(t, "sctp", err)
}

func TestRootConnOverRawIP(t *testing.T) {
	needRaw(t)
	cases := []struct{ name, server, client string }{
		{"own addresses", "127.0.0.41", "127.0.0.42"},
		{"client without address", "127.0.0.43", "0.0.0.0"},
		{"server without address", "0.0.0.0", "127.0.0.44"},
	}
	if haveIPv6() {
		cases = append(cases, struct{ name, server, client string }{"IPv6", "::1", "::1"})
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			connSuite(t, form{"raw", false, func(t *testing.T) (Conn, Conn, func()) {
				return configPair(t, ModeRaw, tc.server, tc.client)
			}})
		})
	}
}

// Two stacks on one raw address share it: neither may answer for the other's
// ports.
func TestRootRawAddressShared(t *testing.T) {
	needRaw(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	local := netip.MustParseAddr("127.0.0.45")
	var ls []Listener
	for port := range uint16(3) {
		l, err := Listen(ctx, Config{Mode: ModeRaw, Local: netip.AddrPortFrom(local, 4000+port)})
		if err != nil {
			t.Fatal(err)
		}
		ls = append(ls, l)
	}
	d, err := NewDialer(ctx, Config{Mode: ModeRaw, Local: netip.AddrPortFrom(local, 0)})
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range ls {
		c, err := d.Dial(ctx, l.Addr())
		if err != nil {
			t.Fatalf("listener %d of three on one address: %v", i, err)
		}
		s := mustAccept(t, l)
		mustSend(t, c, 0, fmt.Sprint(i))
		wantRecv(t, s, 0, fmt.Sprint(i))
		closeConn(t, c)
		closeConn(t, s)
		_ = l.Close()
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// Alone on its address, a stack answers a closed port with ABORT at once.
func TestRootRawClosedPort(t *testing.T) {
	needRaw(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	l, err := Listen(ctx, Config{Mode: ModeRaw, Local: netip.MustParseAddrPort("127.0.0.46:4000")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := NewDialer(ctx, Config{Mode: ModeRaw, Local: netip.MustParseAddrPort("127.0.0.47:0")})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	start := time.Now()
	if c, err := d.Dial(ctx, netip.MustParseAddrPort("127.0.0.46:4001")); err == nil {
		c.Abort()
		t.Fatal("dial to a closed port succeeded")
	}
	if d := time.Since(start); d > 500*time.Millisecond {
		t.Errorf("refused after %v, want at once", d)
	}
}
