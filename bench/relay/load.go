package relay

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Ports of the server that the relays lead to.
const (
	portEcho   = 7  // returns bytes
	portSink   = 9  // counts bytes and answers with the count, 8 bytes, after the client's FIN
	portSource = 19 // sends bytes until the client is gone
)

const bulkBuffer = 256 << 10

// ServeLoad is the server: it accepts on the three ports of an address until ctx ends.
func ServeLoad(ctx context.Context, at netip.Addr, ready func()) error {
	open := map[*net.TCPListener]func(*net.TCPConn){}
	for port, handle := range map[uint16]func(*net.TCPConn){portEcho: echo, portSink: sink, portSource: source} {
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, port)))
		if err != nil {
			for o := range open {
				o.Close()
			}
			return fmt.Errorf("server: %w", err)
		}
		open[l] = handle
	}
	return serve(ctx, open, ready)
}

// serve hands what listeners accept to their handlers until ctx ends, and closes all.
func serve(ctx context.Context, listeners map[*net.TCPListener]func(*net.TCPConn), ready func()) error {
	var wg sync.WaitGroup
	for l, handle := range listeners {
		wg.Go(func() {
			stop := context.AfterFunc(ctx, func() { l.Close() })
			defer stop()
			for {
				c, err := l.AcceptTCP()
				if err != nil {
					return
				}
				wg.Go(func() {
					stop := context.AfterFunc(ctx, func() { c.Close() })
					defer stop()
					defer c.Close()
					handle(c)
				})
			}
		})
	}
	ready()
	<-ctx.Done()
	wg.Wait()
	return nil
}

func echo(c *net.TCPConn) {
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if n > 0 {
			if _, werr := c.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func sink(c *net.TCPConn) {
	buf := make([]byte, bulkBuffer)
	var total uint64
	for {
		n, err := c.Read(buf)
		total += uint64(n)
		if err != nil {
			break
		}
	}
	_, _ = c.Write(binary.BigEndian.AppendUint64(nil, total))
}

func source(c *net.TCPConn) {
	buf := make([]byte, bulkBuffer)
	for {
		if _, err := c.Write(buf); err != nil {
			return
		}
	}
}

// Load is one task of the client.
type Load struct {
	Kind    string        // bulk-up, bulk-down, connect, pingpong, idle, handshake
	To      string        // address:port
	Streams int           // how many at one time
	For     time.Duration // how long
	TLS     string        // server name; empty: plain TCP
	Resume  bool          // TLS sessions are resumed
}

// Figures are what a Load measured.
type Figures struct {
	BitsPerSecond float64       `json:"bits_per_second,omitempty"`
	Bytes         uint64        `json:"bytes,omitempty"`
	PerSecond     float64       `json:"per_second,omitempty"`
	P50           time.Duration `json:"p50,omitempty"`
	P99           time.Duration `json:"p99,omitempty"`
	Done          int           `json:"done,omitempty"` // connections or handshakes
	Failed        int           `json:"failed,omitempty"`
}

// cipherSuite is the one that Go's client prefers where the processor has AES. The peers'
// configuration has to agree.
const cipherSuite = tls.TLS_AES_128_GCM_SHA256

// dialer opens connections of a load.
type dialer struct {
	load Load
	tls  *tls.Config
	d    net.Dialer
}

func (l Load) dialer() *dialer {
	d := &dialer{load: l}
	if l.TLS != "" {
		// The bench measures relays, not trust: every variant has a certificate of the
		// run's own making.
		// One key exchange for all, too: the peers' libraries do not have the hybrid ones
		// that Go would choose with ours, and that cost more.
		d.tls = &tls.Config{
			ServerName: l.TLS, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519},
		}
		if l.Resume {
			d.tls.ClientSessionCache = tls.NewLRUClientSessionCache(l.Streams)
		}
	}
	return d
}

func (d *dialer) dial(ctx context.Context) (net.Conn, error) {
	c, err := d.d.DialContext(ctx, "tcp", d.load.To)
	if err != nil || d.tls == nil {
		return c, err
	}
	t := tls.Client(c, d.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	if got := t.ConnectionState().CipherSuite; got != cipherSuite {
		c.Close()
		return nil, fmt.Errorf("%s encrypts with %s: relays are compared with %s", d.load.To, tls.CipherSuiteName(got), tls.CipherSuiteName(cipherSuite))
	}
	return t, nil
}

type halfCloser interface{ CloseWrite() error }

// Run runs the load; hold, for idle connections, is waited for with them open.
func (l Load) Run(ctx context.Context, opened func(), hold <-chan struct{}) (Figures, error) {
	ctx, cancel := context.WithTimeout(ctx, l.For+30*time.Second)
	defer cancel()
	switch l.Kind {
	case "bulk-up", "bulk-down":
		return l.bulk(ctx)
	case "connect", "handshake":
		return l.connect(ctx)
	case "pingpong":
		return l.pingPong(ctx)
	case "idle":
		return l.idle(ctx, opened, hold)
	}
	return Figures{}, fmt.Errorf("unknown load %q", l.Kind)
}

// bulk sends or receives on all streams for the time and counts what arrived.
func (l Load) bulk(ctx context.Context) (Figures, error) {
	d := l.dialer()
	conns := make([]net.Conn, l.Streams)
	for i := range conns {
		c, err := d.dial(ctx)
		if err != nil {
			return Figures{}, err
		}
		defer c.Close()
		conns[i] = c
	}
	begin := time.Now()
	until := begin.Add(l.For)
	var total atomic.Uint64
	var wg sync.WaitGroup
	errs := make(chan error, len(conns))
	for _, c := range conns {
		wg.Go(func() {
			n, err := l.stream(c, until)
			total.Add(n)
			if err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	close(errs)
	if err := <-errs; err != nil {
		return Figures{}, err
	}
	n := total.Load()
	return Figures{Bytes: n, BitsPerSecond: float64(n) * 8 / took.Seconds()}, nil
}

func (l Load) stream(c net.Conn, until time.Time) (uint64, error) {
	buf := make([]byte, bulkBuffer)
	if l.Kind == "bulk-down" {
		var total uint64
		_ = c.SetReadDeadline(until)
		for {
			n, err := c.Read(buf)
			total += uint64(n)
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				return total, nil
			}
			if err != nil {
				return total, err
			}
		}
	}
	for time.Now().Before(until) {
		if _, err := c.Write(buf); err != nil {
			return 0, err
		}
	}
	if err := c.(halfCloser).CloseWrite(); err != nil {
		return 0, err
	}
	var answer [8]byte
	_ = c.SetReadDeadline(until.Add(20 * time.Second))
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return 0, fmt.Errorf("the server's count: %w", err)
	}
	return binary.BigEndian.Uint64(answer[:]), nil
}

// connect opens, has one byte echoed and closes, on all streams one after the other.
// A handshake is the same: the byte proves that it was whole.
func (l Load) connect(ctx context.Context) (Figures, error) {
	d := l.dialer()
	until := time.Now().Add(l.For)
	var done, failed atomic.Int64
	var last atomic.Pointer[error]
	begin := time.Now()
	var wg sync.WaitGroup
	for range l.Streams {
		wg.Go(func() {
			for time.Now().Before(until) && ctx.Err() == nil {
				if err := once(ctx, d); err != nil {
					failed.Add(1)
					last.Store(&err)
					continue
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	f := Figures{Done: int(done.Load()), PerSecond: float64(done.Load()) / time.Since(begin).Seconds(), Failed: int(failed.Load())}
	if done.Load() == 0 {
		if err := last.Load(); err != nil {
			return f, *err
		}
		return f, errors.New("no connection")
	}
	return f, nil
}

func once(ctx context.Context, d *dialer) error {
	c, err := d.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	b := [1]byte{42}
	if _, err := c.Write(b[:]); err != nil {
		return err
	}
	_, err = io.ReadFull(c, b[:])
	return err
}

// pingPong has 64 bytes echoed again and again on standing connections.
func (l Load) pingPong(ctx context.Context) (Figures, error) {
	d := l.dialer()
	h := hdrhistogram.New(1, int64(10*time.Second), 3)
	c, err := d.dial(ctx)
	if err != nil {
		return Figures{}, err
	}
	defer c.Close()
	buf := make([]byte, 64)
	until := time.Now().Add(l.For)
	_ = c.SetDeadline(until.Add(10 * time.Second))
	for i := 0; time.Now().Before(until); i++ {
		begin := time.Now()
		if _, err := c.Write(buf); err != nil {
			return Figures{}, err
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			return Figures{}, err
		}
		if i >= 100 { // warm
			_ = h.RecordValue(int64(time.Since(begin)))
		}
	}
	return Figures{P50: time.Duration(h.ValueAtQuantile(50)), P99: time.Duration(h.ValueAtQuantile(99))}, nil
}

// idle opens connections, has one byte echoed on each and keeps them until hold ends.
func (l Load) idle(ctx context.Context, opened func(), hold <-chan struct{}) (Figures, error) {
	d := l.dialer()
	for range l.Streams {
		c, err := d.dial(ctx)
		if err != nil {
			return Figures{}, err
		}
		defer c.Close()
		b := [1]byte{42}
		if _, err := c.Write(b[:]); err != nil {
			return Figures{}, err
		}
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return Figures{}, err
		}
	}
	opened()
	select {
	case <-hold:
	case <-ctx.Done():
	}
	return Figures{}, nil
}
