package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/simreach/simreach/scenarios/inproc"
	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/spec"
)

// topology starts one UPF, gNB and relay of each kind with n UEs that echo.
func topology(b *testing.B, n int) (*spec.Spec, lab.Lab) {
	b.Helper()
	s, err := spec.Parse("bench.yaml", fmt.Appendf(nil, `
name: bench
upfs: [{name: upf1, pools: [{cidr: 10.45.0.0/16}]}]
inner_relays: [{name: inner1, upfs: [upf1]}]
outer_relays: [{name: outer1}]
gnbs: [{name: gnb1}]
ues: [{name: ue, count: %d, imsi: "001010000000001", services: [{kind: echo, port: 7}]}]
clients: [{name: client1}]
`, n))
	if err != nil {
		b.Fatal(err)
	}
	l, err := inproc.New().Start(b.Context(), s, lab.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return s, l
}

// BenchmarkAttach measures one UE at a time: registration with 5G-AKA, one PDU
// session, deregistration.
func BenchmarkAttach(b *testing.B) {
	_, l := topology(b, 2)
	u, ok := l.UE("ue-1")
	if !ok {
		b.Fatal("no UE")
	}
	for b.Loop() {
		if err := u.Register(b.Context(), ""); err != nil {
			b.Fatal(err)
		}
		if err := u.Deregister(b.Context(), false); err != nil {
			b.Fatal(err)
		}
	}
}

// access registers a UE and gets access to its echo service.
func access(b *testing.B) (lab.Client, lab.Access) {
	b.Helper()
	s, l := topology(b, 2)
	u, _ := l.UE("ue-1")
	if err := u.Register(b.Context(), ""); err != nil {
		b.Fatal(err)
	}
	if _, err := l.Manager().AwaitDirectory(b.Context(), s.Devices[0].IMSI, true); err != nil {
		b.Fatal(err)
	}
	c, _ := l.Client("client1")
	a, err := l.Manager().Create(b.Context(), c, lab.AccessRequest{IMSI: s.Devices[0].IMSI, Port: 7})
	if err != nil {
		b.Fatal(err)
	}
	return c, a
}

// BenchmarkConnect measures a connection through both relays to the device, with
// one byte echoed.
func BenchmarkConnect(b *testing.B) {
	c, a := access(b)
	one := make([]byte, 1)
	for b.Loop() {
		conn, err := c.Dial(b.Context(), a.Relay)
		if err != nil {
			b.Fatal(err)
		}
		echo(b, conn, one)
		if err := conn.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPingPong measures 64 bytes there and back over a standing connection.
func BenchmarkPingPong(b *testing.B) {
	c, a := access(b)
	conn, err := c.Dial(b.Context(), a.Relay)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 64)
	for b.Loop() {
		echo(b, conn, buf)
	}
}

func echo(b *testing.B, conn net.Conn, buf []byte) {
	if _, err := conn.Write(buf); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(conn, buf); err != nil {
		b.Fatal(err)
	}
}
