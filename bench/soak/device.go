package soak

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
)

// What a client asks of a device is the first byte of its connection.
const (
	askEcho = 'e' // bytes come back, until the client ends its side
	askSink = 's' // after the client's FIN comes the SHA-256 of what it sent
	askSend = 'd' // a size and a seed, 8 bytes each, then FIN: bytes of that seed come, then FIN
)

const blockSize = 32 << 10

// serveDevice is a device: it serves until ctx ends and has no connection left then.
func serveDevice(ctx context.Context, l *net.TCPListener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			return
		}
		wg.Go(func() {
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			defer c.Close()
			answer(c)
		})
	}
}

// answer does what one client asks. A client that goes away ends it.
func answer(c *net.TCPConn) {
	var ask [1]byte
	if _, err := io.ReadFull(c, ask[:]); err != nil {
		return
	}
	switch ask[0] {
	case askEcho:
		// Without the pipe that package net would hold for every connection.
		_, _ = io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, make([]byte, 4096))
	case askSink:
		sum := sha256.New()
		if _, err := io.CopyBuffer(sum, struct{ io.Reader }{c}, make([]byte, blockSize)); err != nil {
			return
		}
		_, _ = c.Write(sum.Sum(nil))
	case askSend:
		var what [16]byte
		if _, err := io.ReadFull(c, what[:]); err != nil {
			return
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			return // the client's FIN comes first
		}
		_, _ = io.CopyN(c, newBytes(binary.BigEndian.Uint64(what[8:])), int64(binary.BigEndian.Uint64(what[:])))
	}
}

// newBytes returns the bytes of a seed, without an end.
func newBytes(seed uint64) io.Reader {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

// listenDevice opens a device's listener.
func listenDevice(at netip.Addr) (*net.TCPListener, error) {
	return net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
}
