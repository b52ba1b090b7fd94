package upf

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/memnet"
	"github.com/simreach/simreach/internal/tun"
	"github.com/simreach/simreach/internal/tun/tuntest"
	"github.com/simreach/simreach/internal/wire/pfcp"
)

func TestMalformedIsAnsweredOrDiscarded(t *testing.T) {
	encode := func(h pfcp.Header, m pfcp.Message) []byte {
		b, err := pfcp.Encode(h, m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	// shorten cuts octets off the end and corrects the length.
	shorten := func(b []byte, n int) []byte {
		b = append([]byte(nil), b[:len(b)-n]...)
		b[2], b[3] = byte((len(b)-4)>>8), byte(len(b)-4)
		return b
	}
	setup := encode(pfcp.Header{Sequence: 9}, &pfcp.AssociationSetupRequest{Node: cpNode})
	inBubble(t, nil, func(l *lab) {
		for name, b := range map[string][]byte{
			"nothing":                 {},
			"seven octets":            setup[:7],
			"unknown message type":    {0x20, 200, 0, 4, 0, 0, 9, 0},
			"malformed response":      {0x20, byte(pfcp.TypeHeartbeatResponse), 0, 4, 0, 0, 9, 0},
			"response to nothing":     encode(pfcp.Header{Sequence: 9}, &pfcp.HeartbeatResponse{Recovery: l.recovery}),
			"version not supported":   encode(pfcp.Header{Sequence: 9}, &pfcp.VersionNotSupported{}),
			"request for CP function": encode(pfcp.Header{Sequence: 9}, &pfcp.SessionReportRequest{DownlinkData: 1}),
		} {
			l.write(b)
			l.wantIdle(0, name)
		}
		v2 := append([]byte(nil), setup...)
		v2[0] = v2[0]&0x1f | 2<<5
		l.write(v2)
		if h, m := l.want(); m.Type() != pfcp.TypeVersionNotSupported || h.Sequence != 9 {
			t.Errorf("version 2 is answered by %T %d", m, h.Sequence)
		}
		l.write([]byte{0x20, byte(pfcp.TypeAssociationSetupRequest), 0, 4, 0, 0, 10, 0})
		if _, m := l.want(); m.(*pfcp.AssociationSetupResponse).Cause != pfcp.CauseMandatoryIEMissing {
			t.Errorf("setup without IEs: %+v, want cause 66", m)
		}
		l.write(shorten(encode(pfcp.Header{Sequence: 11}, establishment()), 3))
		if _, m := l.want(); m.(*pfcp.SessionEstablishmentResponse).Cause == pfcp.CauseAccepted {
			t.Errorf("establishment that is cut off: %+v, want a rejection", m)
		}
		synctest.Wait()
		if n := l.Status().N4.Malformed; n < 6 {
			t.Errorf("%d counted malformed, want at least 6", n)
		}
		l.associate() // and it serves on
		l.session(establishment())
	})
}

func TestNewChecks(t *testing.T) {
	network := memnet.New(memnet.Config{})
	defer network.Close()
	conn, err := network.ListenUDP(netip.AddrPortFrom(upfAddr, 1))
	if err != nil {
		t.Fatal(err)
	}
	dev, _ := tuntest.NewPair(1400)
	ok := Config{N4Address: upfAddr, N3Address: upfAddr, NetworkInstances: []ident.DNN{"internet"}}
	deps := Deps{N4: conn, N3: conn, N6: map[ident.DNN]tun.Device{"internet": dev}}
	if _, err := New(ok, deps); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config, *Deps){
		"no N4 address":     func(c *Config, _ *Deps) { c.N4Address = netip.Addr{} },
		"no N3 address":     func(c *Config, _ *Deps) { c.N3Address = netip.Addr{} },
		"no networks":       func(c *Config, _ *Deps) { c.NetworkInstances = nil },
		"network twice":     func(c *Config, _ *Deps) { c.NetworkInstances = []ident.DNN{"internet", "internet"} },
		"negative T1":       func(c *Config, _ *Deps) { c.T1 = -1 },
		"negative N1":       func(c *Config, _ *Deps) { c.N1 = -1 },
		"no device for DNN": func(c *Config, _ *Deps) { c.NetworkInstances = []ident.DNN{"ims"} },
		"device too many":   func(_ *Config, d *Deps) { d.N6 = map[ident.DNN]tun.Device{"internet": dev, "ims": dev} },
		"no N4":             func(_ *Config, d *Deps) { d.N4 = nil },
		"no N3":             func(_ *Config, d *Deps) { d.N3 = nil },
	} {
		c, d := ok, deps
		change(&c, &d)
		if _, err := New(c, d); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
}

// brokenConn fails to read.
type brokenConn struct{ dgram.Conn }

func (brokenConn) ReadBatch([]dgram.Datagram) (int, error) { return 0, os.ErrPermission }

func TestRunReturnsWhyItCannotGoOn(t *testing.T) {
	network := memnet.New(memnet.Config{})
	defer network.Close()
	listen := func(port uint16) dgram.Conn {
		c, err := network.ListenUDP(netip.AddrPortFrom(upfAddr, port))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	dev, _ := tuntest.NewPair(1400)
	u, err := New(
		Config{N4Address: upfAddr, N3Address: upfAddr, NetworkInstances: []ident.DNN{"internet"}},
		Deps{N4: brokenConn{listen(1)}, N3: listen(2), N6: map[ident.DNN]tun.Device{"internet": dev}},
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Run(context.Background()); !errors.Is(err, os.ErrPermission) {
		t.Errorf("Run: %v, want the socket's error", err)
	}
}
