package inner

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simreach/simreach/internal/testenv"
)

// An idle connection keeps nothing that only setting it up needed, nor the ticket because of
// a text in it. The loops have the slots for it before.
func TestIdleConnectionKeepsLittle(t *testing.T) {
	const warm, n, bound = 100, 900, 220
	g := start(t, Config{}, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, and that will do
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	device := l.Addr().(*net.TCPAddr).AddrPort()
	at := netip.MustParseAddrPort(g.addr)
	clients := make([]int, 0, warm+n) // without package net, whose memory would be counted
	defer func() {
		for _, c := range clients {
			unix.Close(c)
		}
	}()
	var ask bytes.Buffer
	open := func(n int) {
		t.Helper()
		for range n {
			c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			clients = append(clients, c)
			if err := unix.Connect(c, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}); err != nil {
				t.Fatal(err)
			}
			claims := strings.Replace(claimsAt(time.Now(), strconv.Itoa(c)), "10.60.0.7:22", device.String(), 1)
			fmt.Fprintf(&ask, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: Bearer %s\r\n\r\n", device, device, compose(t, managersHeader, claims))
			unix.Write(c, ask.Bytes())
			ask.Reset()
		}
		testenv.Eventually(t, "all are relayed", func() bool { return int(g.live.Load()) == len(clients) })
	}
	// What finalizers and pools keep goes with a later collection: the least of some is
	// what is in use.
	heap := func() int {
		least := math.MaxInt
		for range 5 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			least = min(least, int(m.HeapAlloc))
		}
		return least
	}
	open(warm)
	before := heap()
	open(n)
	per := (heap() - before) / n
	t.Logf("an idle connection keeps %d bytes of heap", per)
	if per > bound {
		t.Errorf("an idle connection keeps %d bytes of heap; want at most %d", per, bound)
	}
}

// Where somebody reads it, the end of a connection is logged with what its ticket says.
func TestEndIsLogged(t *testing.T) {
	var log bytes.Buffer
	g := startWith(t, Config{}, Deps{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	c, err := g.reach(t, echoing(t, "127.0.0.1:0"), nil)
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c)
	c.CloseWrite()
	testenv.Eventually(t, "it is over", func() bool { return g.Status().Ended["closed"] == 1 })
	g.stop()
	if text := log.String(); !strings.Contains(text, "conn=conn entry=entry") || !strings.Contains(text, "cause=closed up=4 down=4") {
		t.Errorf("the log is %s; want the end of the connection", text)
	}
}
