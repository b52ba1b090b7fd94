package outer

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
)

// The benchmarks compare one outer relay with HAProxy doing the same, in one run: TLS
// to the client, plain TCP to what stands behind. Ours asks for the way, keeps the
// audit log and has the CONNECT handshake on top.

// behind is a device: it serves what serve does, directly for HAProxy, and after the
// handshake of an inner relay for ours.
func behind(b *testing.B, serve func(net.Conn)) (inner, direct netip.AddrPort) {
	listen := func(serve func(net.Conn)) netip.AddrPort {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				wg.Go(func() { defer c.Close(); serve(c) })
			}
		})
		b.Cleanup(func() { l.Close(); wg.Wait() })
		return l.Addr().(*net.TCPAddr).AddrPort()
	}
	inner = listen(func(c net.Conn) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		_, err := relay.ReadRequest(ctx, c)
		relay.Accept(ctx, c)
		cancel()
		if err == nil {
			serve(c)
		}
	})
	return inner, listen(serve)
}

type nothing struct{ *control }

func (nothing) Record(manager.AuditRecord) {}
func (nothing) Accepting() bool            { return true }
func (nothing) Load(manager.RelayLoad)     {}

// ours starts an outer relay with one entry.
func ours(b *testing.B, cert *tls.Certificate, inner netip.AddrPort) netip.AddrPort {
	ctl := &control{commands: make(chan manager.Command), acks: make(chan manager.Acknowledgement, 1)}
	ctl.route = manager.Route{
		EntryID: "e1", Ranges: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Device: netip.MustParseAddrPort("10.0.0.1:22"), Inner: inner, Ticket: "t",
	}
	d := Deps{Control: nothing{ctl}, Resolver: ctl, Auditor: nothing{ctl}}
	if cert != nil {
		d.Certificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }
	}
	r, err := New(Config{ID: "o", Address: here, Mode: "listen", EntryRate: -1, SourceRate: -1, MaxEntryConnections: -1}, d)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			b.Error(err)
		}
	})
	b.Cleanup(func() { cancel(); wg.Wait() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	a := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	o := opening("e1", a, time.Hour)
	o.TLS = cert != nil
	ctl.commands <- manager.Command{Kind: manager.CommandSnapshot, Openings: []manager.Opening{o}}
	if ack := <-ctl.acks; len(ack.Failures) != 0 {
		b.Fatal(ack.Failures[0].Err)
	}
	return a
}

// haproxy starts HAProxy with one frontend.
func haproxy(b *testing.B, pemFile string, to netip.AddrPort) netip.AddrPort {
	program := testenv.Program(b, "programs", "haproxy")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	a := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	bind := ""
	if pemFile != "" {
		bind = " ssl crt " + pemFile
	}
	file := filepath.Join(b.TempDir(), "haproxy.cfg")
	text := fmt.Sprintf("global\n maxconn 4000\ndefaults\n mode tcp\n option splice-request\n option splice-response\n timeout connect 5s\n timeout client 60s\n timeout server 60s\nlisten x\n bind %s%s\n server s %s\n", a, bind, to)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program, "-db", "-f", file)
	cmd.Stderr = io.Discard
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	late := time.After(5 * time.Second)
	for tick := time.Tick(10 * time.Millisecond); ; {
		if c, err := net.Dial("tcp", a.String()); err == nil {
			c.Close()
			return a
		}
		select {
		case <-tick:
		case <-late:
			b.Fatal("haproxy does not listen")
		}
	}
}

// fixture is a certificate for both.
func fixture(b *testing.B) (*tls.Certificate, string, *tls.Config) {
	t := &testing.T{} // only for failures that cannot be
	ca := newAuthority(t, "servers")
	cert := ca.issue("ecdsa", 2, func(c *x509.Certificate) { c.DNSNames = []string{"relay.example"} })
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(b.TempDir(), "cert.pem")
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		b.Fatal(err)
	}
	return &cert, file, &tls.Config{RootCAs: ca.pool(), ServerName: "relay.example"}
}

func both(b *testing.B, serve func(net.Conn), run func(*testing.B, netip.AddrPort, *tls.Config)) {
	cert, file, config := fixture(b)
	inner, direct := behind(b, serve)
	b.Run("ours", func(b *testing.B) { run(b, ours(b, cert, inner), config) })
	b.Run("haproxy", func(b *testing.B) { run(b, haproxy(b, file, direct), config) })
}

const block = 64 << 10

func BenchmarkTLSUp(b *testing.B) {
	both(b, func(c net.Conn) { // counts, and says when it has all
		n, _ := io.Copy(io.Discard, c)
		fmt.Fprintln(c, n)
	}, func(b *testing.B, a netip.AddrPort, config *tls.Config) {
		c := clientTLS(b, a, config)
		buf := make([]byte, block)
		b.SetBytes(block)
		b.ResetTimer()
		for range b.N {
			if _, err := c.Write(buf); err != nil {
				b.Fatal(err)
			}
		}
		c.CloseWrite()
		bufio.NewReader(c).ReadString('\n')
	})
}

func BenchmarkTLSDown(b *testing.B) {
	both(b, func(c net.Conn) {
		buf := make([]byte, block)
		for {
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	}, func(b *testing.B, a netip.AddrPort, config *tls.Config) {
		c := clientTLS(b, a, config)
		buf := make([]byte, block)
		b.SetBytes(block)
		b.ResetTimer()
		for range b.N {
			if _, err := io.ReadFull(c, buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkTLSHandshake is full handshakes, with one byte there and back.
func BenchmarkTLSHandshake(b *testing.B) {
	both(b, func(c net.Conn) { io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) }, func(b *testing.B, a netip.AddrPort, config *tls.Config) {
		for b.Loop() {
			c := clientTLS(b, a, config)
			oneByte(b, c)
			c.Close()
		}
	})
}

// BenchmarkConnect is plain connections, with one byte there and back.
func BenchmarkConnect(b *testing.B) {
	inner, direct := behind(b, func(c net.Conn) { io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) })
	run := func(b *testing.B, a netip.AddrPort) {
		for b.Loop() {
			c, err := net.Dial("tcp", a.String())
			if err != nil {
				b.Fatal(err)
			}
			oneByte(b, c)
			c.(*net.TCPConn).SetLinger(0) // no TIME-WAIT
			c.Close()
		}
	}
	b.Run("ours", func(b *testing.B) { run(b, ours(b, nil, inner)) })
	b.Run("haproxy", func(b *testing.B) { run(b, haproxy(b, "", direct)) })
}

func oneByte(b *testing.B, c net.Conn) {
	one := []byte{1}
	c.Write(one)
	if _, err := c.Read(one); err != nil {
		b.Fatal(err)
	}
}

func clientTLS(b *testing.B, a netip.AddrPort, config *tls.Config) *tls.Conn {
	c, err := tls.Dial("tcp", a.String(), config)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}
