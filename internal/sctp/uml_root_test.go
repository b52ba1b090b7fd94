package sctp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/sctp"
	"github.com/simreach/simreach/internal/umltest"
)

// The Linux kernel's SCTP, which nobody here wrote, against our transport over
// raw IP, in both directions, with and without SCTP_NODELAY on the kernel's side.
// An NGAP-sized request and its answer must stay under 5 ms in the median: a
// delayed SACK would make it 200. The median, and not the longest: now and then the
// guest's network card misses an interrupt, and packets that have arrived wait there
// until the next one comes or a timer of the guest's goes off. A single pair then
// takes 200 ms, and the trace shows our SACK sent within a millisecond.
const (
	pairs     = 1000
	size      = 200
	maxMedian = 5 * time.Millisecond
)

func TestRootKernelPeer(t *testing.T) {
	m := umltest.Boot(t, umltest.Options{Modules: []string{"sctp"}})
	peer := umltest.Build(t, "github.com/simreach/simreach/internal/umltest/sctppeer")
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()

	t.Run("kernel serves", func(t *testing.T) {
		for i, args := range []string{"", "-nodelay", "-transport"} {
			addr := netip.AddrPortFrom(m.Guest, uint16(sctp.PortNGAP+i))
			if out, err := m.Run(ctx, fmt.Sprintf("%s -serve %s %s >/mnt/serve%d 2>&1 &", peer, addr, args, i)); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			t.Run("with options "+args, func(t *testing.T) {
				for _, burst := range []int{1, 2} {
					d := dialer(t, m)
					c := dial(t, ctx, d, addr)
					median := client(t, ctx, c, burst)
					t.Logf("burst of %d: median %v", burst, median)
					if median > maxMedian {
						t.Errorf("burst of %d: median %v, want at most %v", burst, median, maxMedian)
					}
					if err := c.Close(ctx); err != nil {
						t.Errorf("close: %v", err)
					}
					if err := d.Close(); err != nil {
						t.Errorf("close dialer: %v", err)
					}
				}
			})
		}
	})

	t.Run("kernel calls", func(t *testing.T) {
		var l sctp.Listener
		var err error
		m.In(func() {
			l, err = sctp.Listen(ctx, sctp.Config{Mode: sctp.ModeRaw, Local: netip.AddrPortFrom(m.Host, 0)})
		})
		if err != nil {
			t.Fatal(err)
		}
		var served sync.WaitGroup
		served.Go(func() { serve(t, ctx, l) })
		for _, args := range []string{"", "-nodelay", "-burst 2", "-burst 2 -nodelay", "-transport", "-transport -burst 2"} {
			t.Run("with options "+args, func(t *testing.T) {
				out, err := m.Run(ctx, fmt.Sprintf("%s -dial %s -n %d -size %d %s", peer, l.Addr(), pairs, size, args))
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				f := regexp.MustCompile(`median_us=(\d+)`).FindStringSubmatch(out)
				if f == nil {
					t.Fatalf("no figures in %q", out)
				}
				us, _ := strconv.Atoi(f[1])
				if median := time.Duration(us) * time.Microsecond; median > maxMedian {
					t.Errorf("%s, want a median of at most %v", out, maxMedian)
				}
				t.Log(out)
			})
		}
		if err := l.Close(); err != nil {
			t.Errorf("close listener: %v", err)
		}
		served.Wait()
	})

	t.Run("large messages", func(t *testing.T) {
		d := dialer(t, m)
		defer d.Close()
		c := dial(t, ctx, d, netip.AddrPortFrom(m.Guest, sctp.PortNGAP))
		for _, n := range []int{1, 1399, 1400, 1401, 20000, 60000} {
			b := make([]byte, n)
			for i := range b {
				b[i] = byte(i * 7)
			}
			if err := c.Send(ctx, sctp.Message{Stream: 1, PPID: sctp.PPIDNGAP, Data: b}); err != nil {
				t.Fatal(err)
			}
			got, err := c.Recv(ctx)
			if err != nil || !slices.Equal(got.Data, b) {
				t.Fatalf("%d bytes: %d came back, %v", n, len(got.Data), err)
			}
		}
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
	})

	t.Run("abort, refusal and loss of the kernel", func(t *testing.T) {
		d := dialer(t, m)
		defer d.Close()
		if _, err := d.Dial(ctx, netip.AddrPortFrom(m.Guest, 9)); !errors.Is(err, sctp.ErrAborted) {
			t.Errorf("closed port: %v, want ErrAborted", err)
		}
		addr := netip.AddrPortFrom(m.Guest, 4000)
		if out, err := m.Run(ctx, fmt.Sprintf("%s -serve %s >/mnt/killed 2>&1 & echo $! >/mnt/pid", peer, addr)); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		c := dial(t, ctx, d, addr)
		if err := c.Send(ctx, sctp.Message{Data: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Recv(ctx); err != nil {
			t.Fatal(err)
		}
		if out, err := m.Run(ctx, "kill -9 $(cat /mnt/pid)"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if _, err := c.Recv(ctx); !errors.Is(err, io.EOF) && !errors.Is(err, sctp.ErrAborted) {
			t.Errorf("after the peer's process died: %v, want the end", err)
		}
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
		m.In(func() {
			var err error
			if d, err = sctp.NewDialer(ctx, sctp.Config{Mode: sctp.ModeRaw, Local: netip.AddrPortFrom(m.Host, 0), Heartbeat: time.Second, MaxRetrans: 2, RTOMax: time.Second}); err != nil {
				t.Errorf("dialer: %v", err)
			}
		})
		if t.Failed() {
			return
		}
		defer d.Close()
		c = dial(t, ctx, d, netip.AddrPortFrom(m.Guest, sctp.PortNGAP))
		quiet, stop := context.WithTimeout(ctx, 6*time.Second)
		if _, err := c.Recv(quiet); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("idle association with heartbeats: %v, want it to live", err)
		}
		stop()
		if out, err := m.Run(ctx, "ip link set vec0 down"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if _, err := c.Recv(ctx); !errors.Is(err, sctp.ErrAborted) {
			t.Errorf("after the link went down: %v, want ErrAborted", err)
		}
		c.Abort()
	})
	if t.Failed() {
		out, err := m.Run(ctx, "cat /mnt/serve*")
		t.Logf("the kernel's servers say: %s (%v)", out, err)
	}
}

func dialer(t *testing.T, m *umltest.Machine) (d sctp.DialCloser) {
	t.Helper()
	m.In(func() {
		var err error
		if d, err = sctp.NewDialer(context.Background(), sctp.Config{Mode: sctp.ModeRaw, Local: netip.AddrPortFrom(m.Host, 0)}); err != nil {
			t.Errorf("dialer: %v", err)
		}
	})
	if d == nil {
		t.FailNow()
	}
	return d
}

// dial tries until the peer listens.
func dial(t *testing.T, ctx context.Context, d sctp.Dialer, addr netip.AddrPort) sctp.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		c, err := d.Dial(ctx, addr)
		if err == nil {
			return c
		}
		if !errors.Is(err, sctp.ErrAborted) {
			t.Fatalf("dial: %v", err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// client sends requests of burst messages, each of which is echoed, and returns
// the median time.
func client(t *testing.T, ctx context.Context, c sctp.Conn, burst int) time.Duration {
	t.Helper()
	took := make([]time.Duration, 0, pairs)
	for i := range pairs {
		b := make([]byte, size)
		b[0], b[1] = byte(i), byte(i>>8)
		start := time.Now()
		for range burst {
			if err := c.Send(ctx, sctp.Message{Stream: uint16(i % 2), PPID: sctp.PPIDNGAP, Data: b}); err != nil {
				t.Fatalf("send %d: %v", i, err)
			}
		}
		for range burst {
			m, err := c.Recv(ctx)
			if err != nil || m.Stream != uint16(i%2) || m.PPID != sctp.PPIDNGAP || !slices.Equal(m.Data, b) {
				t.Fatalf("answer %d: %d bytes on stream %d with PPID %d, %v", i, len(m.Data), m.Stream, m.PPID, err)
			}
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// serve echoes until the listener closes.
func serve(t *testing.T, ctx context.Context, l sctp.Listener) {
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := l.Accept(ctx)
		if err != nil {
			if !errors.Is(err, sctp.ErrClosed) {
				t.Errorf("accept: %v", err)
			}
			return
		}
		conns.Go(func() {
			for {
				m, err := c.Recv(ctx)
				if err != nil {
					if !errors.Is(err, io.EOF) {
						t.Errorf("recv: %v, want io.EOF at the end", err)
					}
					break
				}
				if err := c.Send(ctx, m); err != nil {
					t.Errorf("send: %v", err)
				}
			}
			if err := c.Close(ctx); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}
