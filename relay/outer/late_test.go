package outer

import (
	"bytes"
	"crypto/tls"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/simreach/simreach/manager"
)

// manyStreams returns what a client sends that asks for n devices at one time.
func manyStreams(t *testing.T, n int) []byte {
	t.Helper()
	var out, head bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer, fields := http2.NewFramer(&out, nil), hpack.NewEncoder(&head)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		head.Reset()
		for name, value := range map[string]string{":method": "CONNECT", ":authority": "sim:1"} {
			if err := fields.WriteField(hpack.HeaderField{Name: name, Value: value}); err != nil {
				t.Fatal(err)
			}
		}
		if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: head.Bytes(), EndHeaders: true}); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// Clients ask for devices and are gone while their entry ends: the HTTP server calls
// handlers after it has closed the connection. Nothing is left, and each connection in
// the audit log has begun and ended once.
func TestStreamsMeetTheEndOfTheirCarrier(t *testing.T) {
	s := startTLS(t, func(c *Config, _ *Deps) { c.SourceRate, c.EntryRate = -1, -1 })
	a := s.open(forMany)
	config := s.config()
	config.NextProtos = []string{protocolHTTP2}
	streams := manyStreams(t, 50)
	for range 30 {
		clients := make([]*tls.Conn, 8)
		for i := range clients {
			var err error
			if clients[i], err = dialTLSOnly(t, a, config); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		for _, c := range clients {
			wg.Go(func() {
				_, _ = c.Write(streams) // which the end of the entry may meet
				_ = c.NetConn().Close()
			})
		}
		s.command(manager.Command{Kind: manager.CommandClose, EntryID: "e1", Reason: manager.ReasonRevoked})
		wg.Wait()
		o := opening("e1", a, time.Minute)
		o.TLS, o.Many = true, true
		if ack := s.command(manager.Command{Kind: manager.CommandOpen, Openings: []manager.Opening{o}}); len(ack.Failures) != 0 {
			t.Fatal(ack.Failures[0].Err)
		}
	}
	eventually(t, "no connection is left", func() bool { return s.all.Load() == 0 })
	s.stop()
	seen := map[string]int{}
	for _, r := range s.ctl.records {
		switch r.Type {
		case manager.AuditAccess:
			seen[r.ConnectionID]++
		case manager.AuditClosed:
			seen[r.ConnectionID] += 10
		}
	}
	for id, n := range seen {
		if n != 11 {
			t.Errorf("connection %s: begun %d times, ended %d times; want once each", id, n%10, n/10)
		}
	}
}
