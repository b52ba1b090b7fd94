package sctp

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var pipeTestAddr = netip.MustParseAddrPort("192.0.2.9:38412")

func socketForms() []form {
	forms := []form{
		{"UDP", false, func(t *testing.T) (Conn, Conn, func()) { return configPair(t, ModeUDP, "127.0.0.31", "127.0.0.32") }},
		{"UDP from any address", false, func(t *testing.T) (Conn, Conn, func()) { return configPair(t, ModeUDP, "127.0.0.33", "0.0.0.0") }},
		{"UDP to any address", false, func(t *testing.T) (Conn, Conn, func()) { return configPair(t, ModeUDP, "0.0.0.0", "127.0.0.34") }},
	}
	if haveIPv6() {
		forms = append(forms, form{"UDP over IPv6", false, func(t *testing.T) (Conn, Conn, func()) { return configPair(t, ModeUDP, "::1", "::1") }})
	}
	return forms
}

func haveIPv6() bool {
	c, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// configPair connects by the exported way: Listen and NewDialer.
func configPair(t *testing.T, m Mode, server, client string) (Conn, Conn, func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	l, err := Listen(ctx, Config{Mode: m, Local: netip.AddrPortFrom(netip.MustParseAddr(server), 0)})
	if err != nil {
		t.Fatal(err)
	}
	if l.Addr().Port() != PortNGAP {
		t.Errorf("listener on port %d, want %d by default", l.Addr().Port(), PortNGAP)
	}
	d, err := NewDialer(ctx, Config{Mode: m, Local: netip.AddrPortFrom(netip.MustParseAddr(client), 0)})
	if err != nil {
		t.Fatal(err)
	}
	to := l.Addr()
	if to.Addr().IsUnspecified() {
		to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.35"), to.Port())
	}
	c, err := d.Dial(ctx, to)
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if s.LocalAddr() != to {
		t.Errorf("accepted at %s, want the address that was called: %s", s.LocalAddr(), to)
	}
	return c, s, func() {
		if err := l.Close(); err != nil { // while associations live
			t.Errorf("close listener: %v", err)
		}
		c.Abort()
		s.Abort()
		if err := d.Close(); err != nil {
			t.Errorf("close dialer: %v", err)
		}
	}
}

// A listener that is closed leaves what it has accepted alone.
func TestAcceptedSurvivesListener(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cfg := Config{Mode: ModeUDP, Local: netip.MustParseAddrPort("127.0.0.36:0")}
	l, err := Listen(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDialer(ctx, Config{Mode: ModeUDP})
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := d.Dial(ctx, l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := d.Dial(ctx, l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := waiting.Recv(ctx); !errors.Is(err, ErrAborted) {
		t.Errorf("association not yet accepted: %v, want ErrAborted", err)
	}
	mustSend(t, accepted, 0, "still here")
	wantRecv(t, s, 0, "still here")
	if _, err := l.Accept(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("Accept after Close: %v, want ErrClosed", err)
	}
	closeConn(t, accepted)
	if err := recvErr(t, s); err == nil {
		t.Error("no end")
	}
	closeConn(t, s)
	waiting.Abort()
	l2, err := Listen(ctx, cfg)
	if err != nil {
		t.Fatalf("the address is free after the last association: %v", err)
	}
	_ = l2.Close()
}

func TestChoiceIsToldOnce(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	l, err := Listen(context.Background(), Config{Mode: ModeUDP, Local: netip.MustParseAddrPort("127.0.0.37:0"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if got := strings.Count(out.String(), `msg="sctp transport chosen"`); got != 1 || !strings.Contains(out.String(), "transport=udp") {
		t.Errorf("log: %s; want one line that says udp", out.String())
	}
}

func TestAutoFindsATransport(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	l, err := Listen(ctx, Config{Local: netip.MustParseAddrPort("127.0.0.38:0"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDialer(ctx, Config{Local: netip.MustParseAddrPort("127.0.0.39:0"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Dial(ctx, l.Addr())
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	s := mustAccept(t, l)
	mustSend(t, c, 1, "auto")
	wantRecv(t, s, 1, "auto")
	closeConn(t, c)
	closeConn(t, s)
	_ = l.Close()
	_ = d.Close()
	t.Log(out.String())
}

func TestConfigIsChecked(t *testing.T) {
	for _, cfg := range []Config{{Mode: "sctp"}, {MTU: 100}, {MTU: 9000}, {Streams: 70000}, {MaxRetrans: -1}, {RTOMax: -1}} {
		if _, err := Listen(context.Background(), cfg); err == nil {
			t.Errorf("Listen took %+v", cfg)
		}
		if _, err := NewDialer(context.Background(), cfg); err == nil {
			t.Errorf("NewDialer took %+v", cfg)
		}
	}
}
