package outer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
)

// delivered is what a device got.
type delivered struct {
	header *proxyproto.Header // nil: none
	text   string
}

// proxied is an inner relay whose device wants a header, says "hello" and takes all that
// comes. It refuses the tickets of the first few requests.
func proxied(t *testing.T, wants bool, refuses int) (netip.AddrPort, <-chan delivered) {
	got := make(chan delivered, 1)
	n := make(chan int, 1)
	n <- 0
	return fakeListener(t, func(c net.Conn) {
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := relay.ReadRequest(ctx, c); err != nil {
			return
		}
		before := <-n
		n <- before + 1
		if before < refuses {
			_ = relay.Refuse(ctx, c, relay.TicketInvalid)
			return
		}
		if err := relay.Accept(ctx, c); err != nil {
			return
		}
		io.WriteString(c, "hello")
		r := bufio.NewReader(c)
		var d delivered
		if wants {
			var err error
			if d.header, err = proxyproto.Read(r); err != nil {
				t.Errorf("no header: %v", err)
				return
			}
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Errorf("the device: %v", err)
		}
		d.text = string(text)
		got <- d
	}), got
}

// The header of the PROXY protocol comes first, then what the client said while it was
// connected, then the rest; and only the client's bytes are counted.
func TestFirstBytes(t *testing.T) {
	for _, way := range askers {
		for _, withTLS := range []bool{false, true} {
			for _, header := range []bool{false, true} {
				for _, refuses := range []int{0, 1, 2} {
					for _, early := range []int{0, 5, maxEarly - 1, maxEarly, maxEarly + 1, 100_000} {
						t.Run(fmt.Sprintf("%s, TLS %t, header %t, %d refusals, %d early bytes", way, withTLS, header, refuses, early), func(t *testing.T) {
							if early > 5 && early != 100_000 && (withTLS || refuses > 0) {
								return // the same as others
							}
							firstBytes(t, way, withTLS, header, refuses, early)
						})
					}
				}
			}
		}
	}
}

func firstBytes(t *testing.T, way string, withTLS, header bool, refuses, early int) {
	sc := startScene(t, way, withTLS, nil)
	var got <-chan delivered
	sc.ctl.route.Inner, got = proxied(t, header, refuses)
	sc.ctl.route.ProxyProtocol = header
	release := sc.hold()
	defer release()
	sc.listen(patience)
	raw := dial(t, sc.entry)
	var c interface {
		net.Conn
		CloseWrite() error
	} = raw
	text := bytes.Repeat([]byte("0123456789"), early/10+1)[:early]
	if !withTLS {
		if _, err := raw.Write(text); err != nil { // it fits into the kernel's buffers
			t.Fatal(err)
		}
	}
	sc.asked(1)
	if a := sc.asker; a != nil {
		a.mu.Lock()
		a.held = false
		a.mu.Unlock()
	}
	release()
	if withTLS {
		s := tls.Client(raw, sc.config())
		if c = s; s.Handshake() != nil {
			t.Fatal("no handshake")
		}
		if _, err := s.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	hello := make([]byte, 5)
	if _, err := io.ReadFull(c, hello); err != nil || string(hello) != "hello" {
		t.Fatalf("read %q, %v", hello, err)
	}
	io.WriteString(c, "and more")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	d := <-got
	if d.text != string(text)+"and more" {
		t.Errorf("the device got %d bytes; want the %d early ones and 8 more, in order", len(d.text), early)
	}
	if header {
		if h := d.header; h.Version != 2 || h.SourceAddr.String() != raw.LocalAddr().String() || h.DestinationAddr.String() != sc.ctl.route.Device.String() {
			t.Errorf("header %+v", h)
		}
	}
	rs := sc.expectAudit(manager.CauseClosed, manager.AuditAccess, manager.AuditConnected, manager.AuditClosed)
	if r := rs[2]; r.Up != uint64(early+8) || r.Down != 5 {
		t.Errorf("%d bytes up, %d down; want %d and 5", r.Up, r.Down, early+8)
	}
	s := sc.Status()
	if s.Up != uint64(early+8) || s.Down != 5 {
		t.Errorf("%d bytes up, %d down in all; want %d and 5", s.Up, s.Down, early+8)
	}
	if asked := len(sc.ctl.asked); asked != refuses+1 {
		t.Errorf("the manager was asked %d times; want %d", asked, refuses+1)
	}
	sc.stop()
	sc.nothingLeft()
}

// A device that speaks first, and one that says a lot at once, lose nothing on the way from
// the answer to the link.
func TestDeviceSpeaksFirst(t *testing.T) {
	for _, withTLS := range []bool{false, true} {
		for _, size := range []int{1, 5000, 300_000} {
			text := strings.Repeat("z", size)
			sc := startScene(t, askers[0], withTLS, nil)
			sc.ctl.route.Inner = fakeListener(t, func(c net.Conn) {
				defer c.Close()
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				if _, err := relay.ReadRequest(ctx, c); err == nil {
					io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"+text)
					c.(*net.TCPConn).CloseWrite()
					io.Copy(io.Discard, c)
				}
			})
			sc.listen(patience)
			var c net.Conn = dial(t, sc.entry)
			if withTLS {
				c = tls.Client(c, sc.config())
			}
			got, err := io.ReadAll(c)
			if err != nil || string(got) != text {
				t.Errorf("TLS %t: %d bytes, %v; want %d", withTLS, len(got), err, size)
			}
			c.Close()
			rs := sc.expectAudit(manager.CauseClosed, manager.AuditAccess, manager.AuditConnected, manager.AuditClosed)
			if r := rs[2]; r.Up != 0 || r.Down != uint64(size) {
				t.Errorf("%+v; want %d bytes down", r, size)
			}
			sc.stop()
			sc.nothingLeft()
		}
	}
}
