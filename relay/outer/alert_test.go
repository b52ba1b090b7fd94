package outer

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/manager"
)

// The keys of the server's application data in RFC 8448 clause 3.
func TestExpandLabel(t *testing.T) {
	secret, err := hex.DecodeString("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643")
	if err != nil {
		t.Fatal(err)
	}
	for label, want := range map[string]string{"key": "9f02283b6c9c07efc26bb9f2ac92e356", "iv": "cf782b88dd83549aadf1e984"} {
		got, err := expandLabel(sha256.New, secret, label, len(want)/2)
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%s: %x, %v; want %s", label, got, err, want)
		}
	}
}

// Another implementation of TLS takes our alerts for what they are, with every cipher
// of TLS 1.3, after bytes went both ways.
func TestAlertsToOpenSSL(t *testing.T) {
	program := testenv.Program(t, "programs", "openssl")
	for _, suite := range []string{"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"} {
		s := startTLS(t, nil)
		a := s.open(nil)
		cmd := exec.Command(program, "s_client", "-connect", a.String(), "-ciphersuites", suite, "-quiet")
		var said bytes.Buffer
		cmd.Stderr = &said
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(out)
		for range 3 {
			io.WriteString(in, strings.Repeat("x", 30_000)+"\n")
			if line, err := r.ReadString('\n'); err != nil || len(line) != 30_001 {
				t.Fatalf("%s: %d bytes, %v; want the line back\n%s", suite, len(line), err, &said)
			}
		}
		s.command(manager.Command{Kind: manager.CommandClose, EntryID: "e1", Reason: manager.ReasonRevoked})
		io.Copy(io.Discard, r)
		in.Close()
		cmd.Wait() // how it calls the end is its own affair
		if !strings.Contains(said.String(), "alert number 49") {
			t.Errorf("%s: openssl said %q; want the alert access_denied", suite, &said)
		}
	}
}

// In TLS 1.2 an alert during the handshake is in the clear.
func TestAlertBeforeKeys(t *testing.T) {
	s := startTLS(t, nil)
	a := s.open(withCredential)
	s.ctl.change(func(c *control) {
		cred := c.credentials["cr1"]
		cred.RevokedSerials = []string{"9"}
		c.credentials["cr1"] = cred
	})
	config := s.config(s.clients.issue("ecdsa", 9, nil))
	config.MaxVersion = tls.VersionTLS12
	if _, err := dialTLS(t, a, config); alertOf(err) != alertText(alertCertificateRevoked) {
		t.Errorf("a revoked certificate in TLS 1.2: %v; want the alert certificate_revoked", err)
	}
}

// stuck waits until a number of bytes has grown and does not grow any more.
func stuck(t *testing.T, what string, bytes func() uint64) {
	t.Helper()
	before := uint64(0)
	eventually(t, what, func() bool {
		now := bytes()
		full := now == before && now > 0
		before = now
		return full
	})
}

// No reset overtakes what a client is told, or follows it, though it has sent what nobody
// has read: that would take the alert from clients that read later, or elsewhere.
func TestAlertIsNotOvertaken(t *testing.T) {
	const sent = 4 << 20
	s := startTLS(t, nil)
	s.ctl.route.Inner = fakeListener(t, func(c net.Conn) {
		defer c.Close()
		serveRequest(c)
		<-t.Context().Done()
	})
	conn, err := dialTLSOnly(t, s.open(nil), s.config())
	if err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	writing.Go(func() { conn.Write(make([]byte, sent)) }) // what comes of it is not asked
	stuck(t, "the device's buffers are full", func() uint64 { return s.Status().Up })
	s.command(manager.Command{Kind: manager.CommandClose, EntryID: "e1", Reason: manager.ReasonRevoked})
	s.expectAudit("revoked", manager.AuditAccess, manager.AuditConnected, manager.AuditClosed)
	if _, err := conn.Read(make([]byte, 1)); alertOf(err) != alertText(alertAccessDenied) {
		t.Errorf("the client read %v; want the alert access_denied", err)
	}
	writing.Wait()
	if rest, err := io.ReadAll(conn.NetConn()); len(rest) != 0 || err != nil {
		t.Errorf("after the alert: %x, %v; want the end", rest, err)
	}
}

// Whoever writes while a client is to be told finishes first.
func TestAlertAfterWrite(t *testing.T) {
	for what, lock := range map[string]func(*wire) (unlock func()){
		"one write": func(w *wire) func() { w.mu.Lock(); return w.mu.Unlock },
		"several, held back": func(w *wire) func() {
			set := func(held bool) { w.mu.Lock(); w.hold = held; w.mu.Unlock() }
			set(true)
			return func() { set(false) }
		},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		client := dial(t, l.Addr().(*net.TCPAddr).AddrPort())
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		w := newWire(server.(*net.TCPConn), &sync.Pool{})
		w.tell = teller{suite: tls.TLS_AES_128_GCM_SHA256, secret: make([]byte, 32)}
		unlock, told := lock(w), make(chan bool, 1)
		go func() { told <- w.last(alertAccessDenied) }()
		select {
		case <-told:
			t.Fatalf("%s: it is not waited for", what)
		case <-time.After(20 * time.Millisecond): // much longer than a write takes
		}
		unlock()
		if !<-told {
			t.Errorf("%s: the client is not told", what)
		}
		if b, err := io.ReadAll(client); len(b) != recordHeader+3+16 || err != nil {
			t.Errorf("%s: %x, %v; want one record and the end", what, b, err)
		}
	}
}

// A client that does not read does not keep anybody from cutting it.
func TestAlertWithoutRoom(t *testing.T) {
	s := startTLS(t, nil)
	flood := fakeListener(t, func(c net.Conn) {
		defer c.Close()
		serveRequest(c)
		for b := make([]byte, 64<<10); ; {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	s.ctl.route.Inner = flood
	a := s.open(nil)
	conn, err := dialTLSOnly(t, a, s.config())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	stuck(t, "the client's buffers are full", func() uint64 { return s.Status().Down })
	s.command(manager.Command{Kind: manager.CommandClose, EntryID: "e1", Reason: manager.ReasonRevoked})
	s.expectAudit("revoked", manager.AuditAccess, manager.AuditConnected, manager.AuditClosed)
	if _, err := io.Copy(io.Discard, conn); err == nil {
		t.Error("the client took it for an end in order")
	}
}

// Whatever goes out, looking at it changes nothing and takes no harm.
func FuzzOutgoing(f *testing.F) {
	f.Add([]byte{23, 3, 3, 0, 2, 1, 2, 23, 3, 3, 0, 0})
	f.Add([]byte{23, 3, 3, 255, 255})
	f.Add([]byte{21, 3, 3, 0, 2, 2, 42})
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, tell := range []teller{{}, {secret: make([]byte, 32)}, {secret: make([]byte, 32), flight: true}} {
			if out, err := tell.outgoing(p); err != nil || !bytes.Equal(out, p) {
				t.Errorf("%x goes out as %x, %v", p, out, err)
			}
			if tell.sent > uint64(len(p)/recordHeader) {
				t.Errorf("%d records in %d bytes", tell.sent, len(p))
			}
		}
	})
}
