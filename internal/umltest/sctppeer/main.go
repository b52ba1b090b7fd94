// Command sctppeer is the other end of an SCTP test: it runs on a kernel that has
// SCTP and uses plain one-to-one sockets, no code of ours, unless -transport asks
// for our kernel transport.
//
//	sctppeer -serve 198.18.0.2:38412            echo every message
//	sctppeer -dial 198.18.0.1:38412 -n 1000     send requests, wait for each answer
//
// A client prints "n=... median_us=... p99_us=... max_us=...".
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simreach/simreach/internal/sctp"
)

type options struct {
	serve, dial        string
	n, size, burst     int
	noDelay, transport bool
}

func main() {
	var o options
	flag.StringVar(&o.serve, "serve", "", "address to listen on")
	flag.StringVar(&o.dial, "dial", "", "address to call")
	flag.IntVar(&o.n, "n", 1000, "requests")
	flag.IntVar(&o.size, "size", 200, "bytes per message")
	flag.IntVar(&o.burst, "burst", 1, "messages per request; each is echoed")
	flag.BoolVar(&o.noDelay, "nodelay", false, "set SCTP_NODELAY")
	flag.BoolVar(&o.transport, "transport", false, "use simreach's kernel transport")
	flag.Parse()
	var err error
	switch {
	case o.serve != "":
		err = serve(o)
	case o.dial != "":
		err = client(o)
	default:
		err = errors.New("one of -serve and -dial")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sctppeer:", err)
		os.Exit(1)
	}
}

// peer is an association of either kind.
type peer interface {
	send(stream uint16, ppid uint32, data []byte) error
	recv() (stream uint16, ppid uint32, data []byte, err error) // no data: the end
	close() error
}

func client(o options) error {
	p, err := dial(o)
	if err != nil {
		return err
	}
	took := make([]time.Duration, 0, o.n)
	msg := make([]byte, o.size)
	for i := range o.n {
		start := time.Now()
		for j := range o.burst {
			binary.BigEndian.PutUint32(msg, uint32(i*o.burst+j))
			if err := p.send(uint16(i%2), sctp.PPIDNGAP, msg); err != nil {
				return err
			}
		}
		for j := range o.burst {
			stream, ppid, data, err := p.recv()
			if err != nil {
				return err
			}
			binary.BigEndian.PutUint32(msg, uint32(i*o.burst+j))
			if stream != uint16(i%2) || ppid != sctp.PPIDNGAP || !bytes.Equal(data, msg) {
				return fmt.Errorf("answer %d: %d bytes on stream %d with PPID %d", i, len(data), stream, ppid)
			}
		}
		took = append(took, time.Since(start))
	}
	if err := p.close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	slices.Sort(took)
	fmt.Printf("n=%d median_us=%d p99_us=%d max_us=%d\n", o.n,
		took[len(took)/2].Microseconds(), took[len(took)*99/100].Microseconds(), took[len(took)-1].Microseconds())
	return nil
}

func echo(p peer) {
	for {
		stream, ppid, data, err := p.recv()
		if err != nil || len(data) == 0 {
			_ = p.close()
			return
		}
		if err := p.send(stream, ppid, data); err != nil {
			_ = p.close()
			return
		}
	}
}

func serve(o options) error {
	addr, err := netip.ParseAddrPort(o.serve)
	if err != nil {
		return err
	}
	if o.transport {
		l, err := sctp.Listen(context.Background(), sctp.Config{Mode: sctp.ModeKernel, Local: addr})
		if err != nil {
			return err
		}
		for {
			c, err := l.Accept(context.Background())
			if err != nil {
				return err
			}
			go echo(ours{c})
		}
	}
	fd, err := socket(o)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if err := unix.Listen(fd, 16); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for {
		c, _, err := unix.Accept(fd)
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		go echo(plain(c))
	}
}

func dial(o options) (peer, error) {
	addr, err := netip.ParseAddrPort(o.dial)
	if err != nil {
		return nil, err
	}
	if o.transport {
		d, err := sctp.NewDialer(context.Background(), sctp.Config{Mode: sctp.ModeKernel})
		if err != nil {
			return nil, err
		}
		c, err := d.Dial(context.Background(), addr)
		return ours{c}, err
	}
	fd, err := socket(o)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return plain(fd), nil
}

// socket opens a blocking one-to-one socket that tells stream and PPID
// (SCTP_RECVRCVINFO is 32, SCTP_NODELAY 3).
func socket(o options) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_SCTP, 32, 1); err != nil {
		return -1, fmt.Errorf("SCTP_RECVRCVINFO: %w", err)
	}
	if o.noDelay {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_SCTP, 3, 1); err != nil {
			return -1, fmt.Errorf("SCTP_NODELAY: %w", err)
		}
	}
	return fd, nil
}

type plain int

func (p plain) send(stream uint16, ppid uint32, data []byte) error {
	oob := make([]byte, unix.CmsgSpace(16)) // SCTP_SNDINFO is 2
	binary.NativeEndian.PutUint64(oob, uint64(unix.CmsgLen(16)))
	binary.NativeEndian.PutUint32(oob[8:], unix.IPPROTO_SCTP)
	binary.NativeEndian.PutUint32(oob[12:], 2)
	binary.NativeEndian.PutUint16(oob[16:], stream)
	binary.BigEndian.PutUint32(oob[20:], ppid)
	return unix.Sendmsg(int(p), data, oob, nil, 0)
}

func (p plain) recv() (uint16, uint32, []byte, error) {
	buf, oob := make([]byte, 1<<17), make([]byte, 256)
	n, on, _, _, err := unix.Recvmsg(int(p), buf, oob, 0)
	if err != nil || n == 0 {
		return 0, 0, nil, err
	}
	cms, err := unix.ParseSocketControlMessage(oob[:on])
	if err != nil || len(cms) == 0 || len(cms[0].Data) < 12 {
		return 0, 0, nil, fmt.Errorf("no receive information: %w", err)
	}
	return binary.NativeEndian.Uint16(cms[0].Data), binary.BigEndian.Uint32(cms[0].Data[8:]), buf[:n], nil
}

// close shuts down and waits for the peer's confirmation.
func (p plain) close() error {
	_ = unix.Shutdown(int(p), unix.SHUT_WR)
	_, _, data, err := p.recv()
	if errors.Is(err, unix.ENOTCONN) { // over already
		err = nil
	}
	if err == nil && len(data) > 0 {
		err = errors.New("data after SHUTDOWN")
	}
	return errors.Join(err, unix.Close(int(p)))
}

type ours struct{ c sctp.Conn }

func (o ours) send(stream uint16, ppid uint32, data []byte) error {
	return o.c.Send(context.Background(), sctp.Message{Stream: stream, PPID: ppid, Data: data})
}

func (o ours) recv() (uint16, uint32, []byte, error) {
	m, err := o.c.Recv(context.Background())
	return m.Stream, m.PPID, m.Data, err
}

func (o ours) close() error { return o.c.Close(context.Background()) }
