package outer

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay/outer/manyclient"
)

func forMany(o *manager.Opening) { o.Many = true }

func (s *secure) dialMany(a netip.AddrPort, certs ...tls.Certificate) *manyclient.Client {
	s.t.Helper()
	c, err := manyclient.Dial(s.t.Context(), manyclient.Config{Endpoint: a.String(), TLS: s.config(certs...)})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// Each stream is a connection of its own to the audit log.
func TestMany(t *testing.T) {
	s := startTLS(t, nil)
	c := s.dialMany(s.open(forMany))
	const n = 20
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			st, err := c.Connect(t.Context(), manyclient.BySIM("sim", uint16(1+i)))
			if err != nil {
				t.Errorf("stream %d: %v", i, err)
				return
			}
			defer st.Close()
			data := bytes.Repeat([]byte{byte(i)}, 100_000+i)
			wg.Go(func() {
				st.Write(data)
				st.CloseWrite()
			})
			if got, err := io.ReadAll(st); err != nil || !bytes.Equal(got, data) {
				t.Errorf("stream %d: %d bytes back, %v; want its own %d", i, len(got), err, len(data))
			}
		})
	}
	wg.Wait()
	types := map[string][]manager.AuditType{}
	for _, r := range s.audited(3 * n) {
		types[r.ConnectionID] = append(types[r.ConnectionID], r.Type)
		if r.Type == manager.AuditClosed && (r.Cause != manager.CauseClosed || r.Up != r.Down || r.Up < 100_000) {
			t.Errorf("record %+v; want closed, and the bytes", r)
		}
	}
	for id, ts := range types {
		if len(ts) != 3 || ts[0] != manager.AuditAccess || ts[1] != manager.AuditConnected || ts[2] != manager.AuditClosed {
			t.Errorf("connection %s: %v; want ACCESS, CONNECTED, CLOSED", id, ts)
		}
	}
	s.ctl.mu.Lock()
	defer s.ctl.mu.Unlock()
	if len(s.ctl.asked) != n || s.ctl.asked[0].Target == "" || len(types) != n {
		t.Errorf("%d connections, the first question was %+v; want %d with a target each", len(types), s.ctl.asked[0], n)
	}
}

func TestManyRefusals(t *testing.T) {
	s := startTLS(t, nil)
	c := s.dialMany(s.open(forMany))
	_, err := c.Connect(t.Context(), "unknown:1")
	refused, ok := errors.AsType[*manyclient.RefusedError](err)
	if !ok || refused.Status != http.StatusNotFound || refused.Code != string(manager.CodeConnUnknownTarget) || refused.Cause != "unknown-target" {
		t.Errorf("an unknown device: %v; want 404 and the code", err)
	}
	s.expectAudit("unknown-target", manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)
	if _, err = c.Connect(t.Context(), "nonsense"); err == nil {
		t.Error("a target without a port is accepted")
	}
	s.expectAudit("bad-request", manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)
	// The connection and its other streams live on.
	st, err := c.Connect(t.Context(), manyclient.ByIMSI("001010000000001", 22))
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(st, "ping")
	if _, err := io.ReadFull(st, make([]byte, 4)); err != nil {
		t.Error(err)
	}
	s.audited(2)
	// A reset of the client's is one to the device.
	st.Close()
	s.expectAudit("client-reset", manager.AuditClosed)
}

// A device's own time ends its stream and leaves the others; the entry's end ends all.
func TestManyExpiry(t *testing.T) {
	s := startTLS(t, nil)
	c := s.dialMany(s.open(forMany))
	s.ctl.change(func(c *control) { c.route.Expires = time.Now().Add(200 * time.Millisecond) })
	soon, err := c.Connect(t.Context(), "sim:1")
	if err != nil {
		t.Fatal(err)
	}
	s.ctl.change(func(c *control) { c.route.Expires = time.Time{} })
	later, err := c.Connect(t.Context(), "sim:2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := soon.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("the device's time is over: %v; want an error", err)
	}
	s.audited(4)
	s.expectAudit("expired", manager.AuditClosed)
	io.WriteString(later, "ping")
	if _, err := io.ReadFull(later, make([]byte, 4)); err != nil {
		t.Errorf("the other stream: %v", err)
	}
	s.command(manager.Command{Kind: manager.CommandClose, EntryID: "e1", Reason: manager.ReasonRevoked})
	if _, err := later.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("the entry was revoked: %v; want an error", err)
	}
	s.expectAudit("revoked", manager.AuditClosed)
}

// Who is in none of the entry's ranges is told so before a handshake.
func TestManySourceDenied(t *testing.T) {
	s := startTLS(t, nil)
	a := s.open(func(o *manager.Opening) {
		o.Many, o.Ranges = true, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	})
	if _, err := dialTLSOnly(t, a, s.config()); err == nil {
		t.Error("a client that is in none of the ranges finishes its handshake")
	}
	for _, r := range s.expectAudit("source-denied", manager.AuditAccess, manager.AuditDenied, manager.AuditClosed) {
		if r.Type == manager.AuditDenied && r.Failure() != true {
			t.Errorf("record %+v; want a failure", r)
		}
	}
	s.ctl.mu.Lock()
	defer s.ctl.mu.Unlock()
	if len(s.ctl.asked) != 0 {
		t.Errorf("the manager was asked %+v; want nothing", s.ctl.asked)
	}
}

// A connection that never had a stream is in the audit log itself.
func TestManyWithoutStreams(t *testing.T) {
	s := startTLS(t, nil)
	a := s.open(forMany)
	s.dialMany(a).Close()
	s.expectAudit("bad-request", manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)
	config := s.config()
	config.NextProtos = []string{"http/1.1"}
	if _, err := dialTLS(t, a, config); err == nil {
		t.Error("a client that speaks HTTP/1.1 is served")
	}
	s.expectAudit("bad-request", manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)
}

func TestManyWithCredential(t *testing.T) {
	s := startTLS(t, nil)
	a := s.open(func(o *manager.Opening) { o.Many, o.CredentialID = true, "cr1" })
	c := s.dialMany(a, s.clients.issue("ecdsa", 7, nil))
	st, err := c.Connect(t.Context(), "sim:1")
	if err != nil {
		t.Fatal(err)
	}
	s.audited(2)
	s.ctl.change(func(c *control) {
		cred := c.credentials["cr1"]
		cred.RevokedSerials = []string{"7"}
		c.credentials["cr1"] = cred
	})
	s.command(manager.Command{Kind: manager.CommandCredential, CredentialID: "cr1"})
	if _, err := st.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("the certificate was revoked: %v; want an error", err)
	}
	s.expectAudit("certificate-revoked", manager.AuditClosed)
	if _, err := c.Connect(t.Context(), "sim:1"); err == nil {
		t.Error("the connection lives on after its certificate was revoked")
	}
}
