package outer

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/pki"
)

// corked holds back what is written while there is a buffer for it.
type corked struct {
	net.Conn
	held *bytes.Buffer
}

func (c *corked) Write(b []byte) (int, error) {
	if c.held != nil {
		return c.held.Write(b)
	}
	return c.Conn.Write(b)
}

// SetWriteDeadline does nothing: crypto/tls sets one that has passed when it has said the end.
func (*corked) SetWriteDeadline(time.Time) error { return nil }

// together has what write writes arrive as one, without its last cut bytes, which it
// returns.
func (c *corked) together(t *testing.T, cut int, write func()) (rest []byte) {
	t.Helper()
	c.held = &bytes.Buffer{}
	write()
	all := c.held.Bytes()
	c.held = nil
	if _, err := c.Write(all[:len(all)-cut]); err != nil {
		t.Fatal(err)
	}
	return all[len(all)-cut:]
}

// One may wait for the socket when a read has left nothing in the connection, and only then.
func TestHolds(t *testing.T) {
	ca, err := pki.NewAuthority(pki.AuthorityConfig{Name: "holds"})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(pki.Server("relay.test"))
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(pair.Cert, []byte(pair.Key))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cork := &corked{Conn: dial(t, l.Addr().(*net.TCPAddr).AddrPort())}
	client := tls.Client(cork, &tls.Config{ServerName: "relay.test", RootCAs: ca.Pool()})
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	w := newWire(server.(*net.TCPConn), &sync.Pool{})
	c := &tlsConn{Conn: tls.Server(w, &tls.Config{Certificates: []tls.Certificate{certificate}}), wire: w}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := client.Handshake(); err != nil {
			t.Error(err)
		}
	})
	err = c.Handshake()
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if !c.Holds() {
		t.Error("after the handshake it holds nothing; want it to say that it may, for a client may send at once")
	}
	read := func(size int, want string, holds bool) {
		t.Helper()
		b := make([]byte, size)
		n, err := c.Read(b)
		if err != nil || string(b[:n]) != want || c.Holds() != holds {
			t.Errorf("read %q, %v, holds: %t; want %q, %t", b[:n], err, c.Holds(), want, holds)
		}
	}
	two := func() { io.WriteString(client, "first"); io.WriteString(client, "second") }
	cork.together(t, 0, two)
	read(3, "fir", true)
	read(2, "st", true)
	read(100, "second", false)
	rest := cork.together(t, 4, two)
	read(100, "first", false) // only a part of a record is left
	cork.Write(rest)
	read(100, "second", false)
	cork.together(t, 0, func() { io.WriteString(client, "last"); client.CloseWrite() })
	read(100, "last", true) // and the end
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("read %d bytes, %v; want the end", n, err)
	}
}
