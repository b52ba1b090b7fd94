package device_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/ue/device"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves s on loopback until the test ends.
func start(t *testing.T, s device.Service) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l, "001010000000001") }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr()
}

func TestHTTPTellsTheIMSI(t *testing.T) {
	addr := start(t, device.Service{Kind: device.HTTP, Port: 80})
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get("http://" + addr.String() + "/any")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || string(b) != "imsi 001010000000001\n" {
		t.Errorf("want the IMSI, got %q, %v", b, err)
	}
}

func TestAnswersAfterFIN(t *testing.T) {
	for _, c := range []struct {
		kind device.Kind
		want string
	}{{device.Echo, strings.Repeat("x", 100_000)}, {device.Sink, "100000\n"}} {
		addr := start(t, device.Service{Kind: c.kind, Port: 7})
		conn, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := io.WriteString(conn, strings.Repeat("x", 100_000))
			if err = errors.Join(err, conn.(*net.TCPConn).CloseWrite()); err != nil {
				t.Error(err)
			}
		}()
		got, err := io.ReadAll(conn)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: want %d bytes after the FIN, got %d, %v", c.kind, len(c.want), len(got), err)
		}
		conn.Close()
	}
}

func TestStoppingCutsIdleConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- device.Service{Kind: device.Echo, Port: 7}.Serve(ctx, l, "1") }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection survived its service")
	}
}
