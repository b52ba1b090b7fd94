package soak

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// kind is one kind of connections in the mix.
type kind struct {
	name    string
	workers int
	to      access
	tls     func(*soak) *tls.Config // of each connection; nil: what goes for to
	held    time.Duration           // not paced, but held open for so long
	do      func(ctx context.Context, s *soak, c halfCloser) (moved int64, err error)

	done    atomic.Int64
	resumed atomic.Int64 // of done, their TLS sessions
	moved   atomic.Int64
	failed  atomic.Int64
	rate    float64 // a second, as measured without a brake
}

type halfCloser interface {
	net.Conn
	CloseWrite() error
}

const (
	bulkSize = 1 << 20
	halfSize = 64 << 10
	patience = 30 * time.Second // for one connection
)

// resumedKind is the kind whose TLS sessions are resumed.
const resumedKind = "resumed"

func mix() []*kind {
	return []*kind{
		{name: "short", workers: 8, do: echo(64)},
		{name: "bulk", workers: 2, do: upload},
		{name: "half-close", workers: 2, do: download},
		{name: "tls", workers: 4, to: secure, do: echo(1024)},
		{name: "certificate", workers: 2, to: guarded, do: echo(64)},
		{name: resumedKind, workers: 2, to: guarded, tls: resuming, do: echo(64)},
		stranger("cert-missing", alertCertificateRequired),
		stranger("cert-foreign", alertUnknownCA),
		stranger("cert-forged", alertUnknownCA),
		stranger("cert-revoked", alertCertificateRevoked),
		{name: "idle", workers: 50, held: 5 * time.Second, do: idle},
	}
}

// echo sends n bytes and wants them back, and then the end.
func echo(n int) func(context.Context, *soak, halfCloser) (int64, error) {
	return func(_ context.Context, _ *soak, c halfCloser) (int64, error) {
		if err := echoed(c, n, true); err != nil {
			return 0, err
		}
		return int64(2 * n), ended(c)
	}
}

func echoed(c halfCloser, n int, first bool) error {
	sent := make([]byte, n+1)
	_, _ = io.ReadFull(newBytes(rand.Uint64()), sent) // it has no end
	sent[0] = askEcho
	out := sent
	if !first {
		out = sent[1:]
	}
	if _, err := c.Write(out); err != nil {
		return err
	}
	got := make([]byte, n)
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, sent[1:]) {
		return errBytes
	}
	return nil
}

var errBytes = errors.New("the bytes are not those that were sent")

// ended ends the client's side and waits for the device's end.
func ended(c halfCloser) error {
	if err := c.CloseWrite(); err != nil {
		return err
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return fmt.Errorf("read %d bytes, %w; want the end", n, err)
	}
	return nil
}

// upload sends much, ends its side, and wants the device to have got it all.
func upload(_ context.Context, _ *soak, c halfCloser) (int64, error) {
	sum := sha256.New()
	if _, err := c.Write([]byte{askSink}); err != nil {
		return 0, err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(c, sum)}, io.LimitReader(newBytes(rand.Uint64()), bulkSize), make([]byte, blockSize)); err != nil {
		return 0, err
	}
	if err := c.CloseWrite(); err != nil {
		return 0, err
	}
	got, err := io.ReadAll(c)
	if err == nil && !bytes.Equal(got, sum.Sum(nil)) {
		err = errBytes
	}
	return bulkSize, err
}

// download ends its side first and then wants everything from the device.
func download(_ context.Context, _ *soak, c halfCloser) (int64, error) {
	seed := rand.Uint64()
	ask := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte{askSend}, halfSize), seed)
	if _, err := c.Write(ask); err != nil {
		return 0, err
	}
	if err := c.CloseWrite(); err != nil {
		return 0, err
	}
	got, err := io.ReadAll(c)
	if err != nil {
		return 0, err
	}
	want := make([]byte, halfSize)
	_, _ = io.ReadFull(newBytes(seed), want) // it has no end
	if !bytes.Equal(got, want) {
		return 0, errBytes
	}
	return halfSize, nil
}

// idle talks at the beginning and at the end of its time.
func idle(ctx context.Context, _ *soak, c halfCloser) (int64, error) {
	if err := echoed(c, 16, true); err != nil {
		return 0, err
	}
	_ = pause(ctx, 5*time.Second)
	if err := echoed(c, 16, false); err != nil {
		return 0, err
	}
	return 64, ended(c)
}

// pause reports whether ctx outlived d.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// once is one connection of a kind. Its outcome is counted.
func (s *soak) once(ctx context.Context, k *kind) {
	moved, err := s.converse(ctx, k, s.open[k.to][rand.N(len(s.open[k.to]))])
	if err != nil {
		k.failed.Add(1)
		s.fault(k.name, err)
		return
	}
	k.done.Add(1)
	k.moved.Add(moved)
}

func (s *soak) converse(ctx context.Context, k *kind, e entry) (int64, error) {
	var config *tls.Config
	switch {
	case k.tls != nil:
		config = k.tls(s)
	case k.to != plain:
		config = s.trusting(s.certificate)
	}
	c, err := s.dial(ctx, e.at, config)
	if err != nil {
		return 0, fmt.Errorf("connect: %w", err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience + k.held)) // fails only on a closed connection
	moved, err := k.do(ctx, s, c)
	if t, ok := c.(*tls.Conn); ok && err == nil && t.ConnectionState().DidResume {
		k.resumed.Add(1)
	}
	return moved, err
}

// dial connects to an entry, with TLS unless config is nil. What has begun is not given up:
// the audit log would have it and the client would not.
func (s *soak) dial(ctx context.Context, at netip.AddrPort, config *tls.Config) (halfCloser, error) {
	d := net.Dialer{Timeout: patience}
	raw, err := d.DialContext(context.WithoutCancel(ctx), "tcp", at.String())
	if err != nil {
		return nil, err
	}
	s.connected.Add(1)
	if config == nil {
		return raw.(*net.TCPConn), nil
	}
	c := tls.Client(raw, config)
	_ = c.SetDeadline(time.Now().Add(patience)) // as above
	if err := c.HandshakeContext(context.WithoutCancel(ctx)); err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

// run runs the whole mix until ctx ends: with load 0 as fast as it goes, else at that part
// of what was measured. It returns when the last connection has ended.
func (s *soak) run(ctx context.Context, load float64) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, k := range s.mix {
		interval := time.Duration(0)
		if load > 0 && k.held == 0 && k.rate > 0 {
			interval = time.Duration(float64(k.workers) / (k.rate * load) * float64(time.Second))
		}
		for i := range k.workers {
			wg.Go(func() {
				next := time.Now().Add(interval * time.Duration(i) / time.Duration(k.workers))
				for pause(ctx, time.Until(next)) {
					s.once(ctx, k)
					// A worker that is late makes up for it, within reason.
					next = next.Add(interval)
					if behind := time.Now().Add(-time.Second); interval == 0 || next.Before(behind) {
						next = behind
					}
				}
			})
		}
	}
}
