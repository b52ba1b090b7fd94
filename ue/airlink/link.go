package airlink

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/dgram"
)

// defaultKeepalive is the period of pings; four silent periods end a link.
const defaultKeepalive = 500 * time.Millisecond

const silentPeriods = 4

// link is one TCP connection with its UDP peer, from either side.
type link struct {
	conn      net.Conn
	keepalive time.Duration
	peer      netip.AddrPort // of user datagrams; set before the link is used

	mu  sync.Mutex // serialises writes and guards buf
	buf []byte
}

// write sends one frame. A frame that cannot be sent within the silent periods ends
// the link.
func (l *link) write(f frame) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, err := appendFrame(l.buf[:0], f)
	if err != nil {
		return err
	}
	l.buf = b
	if err := l.conn.SetWriteDeadline(time.Now().Add(silentPeriods * l.keepalive)); err != nil {
		return err
	}
	if _, err := l.conn.Write(b); err != nil {
		l.conn.Close()
		return err
	}
	return nil
}

// read returns the next frame other than a ping.
func (l *link) read(r interface{ Read([]byte) (int, error) }) (frame, error) {
	for {
		if err := l.conn.SetReadDeadline(time.Now().Add(silentPeriods * l.keepalive)); err != nil {
			return frame{}, err
		}
		f, err := readFrame(r)
		if err != nil || f.typ != framePing {
			return f, err
		}
	}
}

// ping writes pings until ctx ends or the link does.
func (l *link) ping(ctx context.Context) {
	t := time.NewTicker(l.keepalive)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if l.write(frame{typ: framePing}) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// userPeer joins the address of the TCP peer with the UDP port it named.
func userPeer(c net.Conn, port uint16) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: peer address: %w", ErrProtocol, err)
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), port), nil
}

// batch is how many datagrams travel at once, maxPacket the largest user packet.
const (
	batch     = 64
	maxPacket = 9216
)

// sender writes user packets in batches out of pooled memory.
type sender struct {
	conn dgram.Conn
	pool sync.Pool // *scratch
}

type scratch struct {
	ds  [batch]dgram.Datagram
	mem [batch][]byte
}

// send sends packets under one header; it returns how many went out.
func (s *sender) send(h userPacket, to netip.AddrPort, packets [][]byte) (sent int) {
	t, _ := s.pool.Get().(*scratch)
	if t == nil {
		t = new(scratch)
	}
	defer s.pool.Put(t)
	for len(packets) > 0 {
		k := min(len(packets), batch)
		n := 0
		for _, p := range packets[:k] {
			if len(p) > maxPacket {
				continue
			}
			if cap(t.mem[n]) < userHeader+len(p) {
				t.mem[n] = make([]byte, max(2048, userHeader+len(p)))
			}
			b := t.mem[n][:cap(t.mem[n])]
			h.put(b)
			copy(b[userHeader:], p)
			t.ds[n] = dgram.Datagram{Buf: b, N: userHeader + len(p), Addr: to}
			n++
		}
		m, _ := s.conn.WriteBatch(t.ds[:n]) // the caller counts what did not go
		sent += m
		packets = packets[k:]
	}
	return sent
}

// receive reads user datagrams until conn closes and hands runs of packets with the
// same header to deliver, valid during the call. reject counts the others.
func receive(conn dgram.Conn, deliver func(h userPacket, from netip.AddrPort, packets [][]byte), reject func()) error {
	ds := make([]dgram.Datagram, batch)
	for i := range ds {
		ds[i].Buf = make([]byte, maxPacket+userHeader)
	}
	run := make([][]byte, 0, batch)
	for {
		n, err := conn.ReadBatch(ds)
		if err != nil {
			return err
		}
		var h userPacket
		var from netip.AddrPort
		for i := range ds[:n] {
			u, p, ok := parseUser(ds[i].Buf[:ds[i].N])
			if !ok {
				reject()
				continue
			}
			if len(run) > 0 && (u != h || ds[i].Addr != from) {
				deliver(h, from, run)
				run = run[:0]
			}
			h, from = u, ds[i].Addr
			run = append(run, p)
		}
		if len(run) > 0 {
			deliver(h, from, run)
			run = run[:0]
		}
	}
}
