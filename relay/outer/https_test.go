package outer

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/simreach/simreach/relay"
)

// A device that knows HTTP only is reached over HTTPS by a browser's means, with
// WebSocket (RFC 6455) as well (N6, R18).
func TestHTTPS(t *testing.T) {
	device := http.NewServeMux()
	device.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "over "+r.Proto) })
	device.HandleFunc("/chat", func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("hijack: %v", err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		io.Copy(c, rw) // frames are the device's business
	})
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: device}
	served := make(chan error, 1)
	go func() { served <- server.Serve(web) }()
	defer func() { server.Close(); <-served }()

	s := startTLS(t, nil)
	s.ctl.route.Inner = fakeListener(t, func(c net.Conn) {
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := relay.ReadRequest(ctx, c); err != nil {
			return
		}
		relay.Accept(ctx, c)
		d, err := net.Dial("tcp", web.Addr().String())
		if err != nil {
			return
		}
		var back sync.WaitGroup
		back.Go(func() {
			io.Copy(c, d)
			c.(*net.TCPConn).CloseWrite()
		})
		io.Copy(d, c)
		d.Close()
		back.Wait()
	})
	a := s.open(nil)

	transport := &http.Transport{TLSClientConfig: s.config(), ForceAttemptHTTP2: true} // offers h2, as browsers do
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	for range 2 {
		resp, err := client.Get("https://" + a.String() + "/hello")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != "over HTTP/1.1" {
			t.Errorf("the device answered %q, %v", body, err)
		}
	}

	conn, err := dialTLSOnly(t, a, s.config())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "GET /chat HTTP/1.1\r\nHost: device\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %+v, %v", resp, err)
	}
	frame := string([]byte{0x81, 0x84, 0, 0, 0, 0}) + "ping"
	io.WriteString(conn, frame)
	got := make([]byte, len(frame))
	if _, err := io.ReadFull(r, got); err != nil || !strings.HasSuffix(string(got), "ping") {
		t.Errorf("frame %q, %v; want what was sent", got, err)
	}
}
