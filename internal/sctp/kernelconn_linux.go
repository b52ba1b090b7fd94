package sctp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// kernelConn is an association of the kernel's. It has no goroutine.
//
// After a restart of the peer the kernel keeps the socket and goes on with the
// new association; ours ends with AbortRestart and aborts that one, so that the
// peer dials again and the Listener gets it.
type kernelConn struct {
	file          *os.File
	raw           syscall.RawConn
	local, remote netip.AddrPort

	reading chan struct{} // token of Recv and Close
	buf     []byte        // a message being received; token holder's
	oob     []byte        // token holder's
	recvErr error         // token holder's: once set, for ever
	stopped atomic.Bool
	restart atomic.Bool
	stop    chan struct{} // closed by Close and Abort
}

func newKernelConn(fd int) (Conn, error) {
	f, raw, err := polled(fd)
	if err != nil {
		return nil, err
	}
	return wrapKernel(f, raw)
}

func wrapKernel(f *os.File, raw syscall.RawConn) (Conn, error) {
	c := &kernelConn{
		file: f, raw: raw,
		reading: make(chan struct{}, 1),
		buf:     make([]byte, 0, 1<<16),
		oob:     make([]byte, 256),
		stop:    make(chan struct{}),
	}
	c.reading <- struct{}{}
	var lerr, rerr error
	err := raw.Control(func(fd uintptr) {
		var sa unix.Sockaddr
		if sa, lerr = unix.Getsockname(int(fd)); lerr == nil {
			c.local = addrPort(sa)
		}
		if sa, rerr = unix.Getpeername(int(fd)); rerr == nil {
			c.remote = addrPort(sa)
		}
		_ = unix.SetsockoptString(int(fd), unix.IPPROTO_SCTP, optNoDelay, string(binary.NativeEndian.AppendUint32(nil, 1)))
	})
	if err = errors.Join(err, lerr); err != nil { // a peer that is gone already shows in Recv
		_ = f.Close()
		return nil, wrapSys("addresses", err)
	}
	return c, nil
}

func (c *kernelConn) LocalAddr() netip.AddrPort  { return c.local }
func (c *kernelConn) RemoteAddr() netip.AddrPort { return c.remote }

func (c *kernelConn) Recv(ctx context.Context) (Message, error) {
	select {
	case <-c.reading:
	case <-c.stop:
		return Message{}, ErrClosed
	case <-ctx.Done():
		return Message{}, ctx.Err()
	}
	defer func() { c.reading <- struct{}{} }()
	if c.stopped.Load() {
		return Message{}, ErrClosed
	}
	return c.receive(ctx)
}

// receive reads one message. The token is held.
func (c *kernelConn) receive(ctx context.Context) (Message, error) {
	for c.recvErr == nil {
		if cap(c.buf)-len(c.buf) < 1<<15 { // a long message comes in parts
			c.buf = slices.Grow(c.buf, 1<<16)
		}
		free := c.buf[len(c.buf):cap(c.buf)]
		var n, oobn, flags int
		var operr error
		err := await(ctx, c.file.SetReadDeadline, func() error {
			return c.raw.Read(func(fd uintptr) bool {
				n, oobn, flags, _, operr = unix.Recvmsg(int(fd), free, c.oob, 0)
				return operr != unix.EAGAIN //nolint:errorlint // an errno
			})
		})
		switch {
		case err != nil:
			if c.stopped.Load() && ctx.Err() == nil {
				return Message{}, ErrClosed
			}
			return Message{}, err
		case errors.Is(operr, unix.EINTR):
			continue
		case operr != nil:
			c.recvErr = kernelError("recvmsg", operr)
			if errors.Is(c.recvErr, ErrShutdown) {
				c.recvErr = io.EOF
			}
		case n == 0 && flags&msgNotification == 0:
			c.recvErr = io.EOF
		case flags&msgNotification != 0:
			c.notification(free[:n])
		default:
			c.buf = c.buf[:len(c.buf)+n]
			if flags&unix.MSG_EOR == 0 {
				continue
			}
			m, err := message(slices.Clone(c.buf), c.oob[:oobn])
			c.buf = c.buf[:0]
			return m, err
		}
	}
	return Message{}, c.recvErr
}

// notification reads a struct sctp_assoc_change: type, flags, length, state. The
// end of an association shows there; the socket itself need not become readable
// once more.
func (c *kernelConn) notification(b []byte) {
	ne := binary.NativeEndian
	if len(b) < 10 || ne.Uint16(b) != noteAssocChange {
		return
	}
	switch ne.Uint16(b[8:]) {
	case stateLost:
		c.recvErr = &AbortError{Reason: AbortByPeer}
		_ = c.raw.Control(func(fd uintptr) {
			if e, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && e == int(unix.ETIMEDOUT) {
				c.recvErr = &AbortError{Reason: AbortLost}
			}
		})
	case stateShutdown:
		c.recvErr = io.EOF
	case stateRestart:
		c.restart.Store(true)
		c.recvErr = &AbortError{Reason: AbortRestart}
		c.linger()
	}
}

// message reads struct sctp_rcvinfo: stream, sequence number, flags, PPID...
func message(data, oob []byte) (Message, error) {
	m := Message{Data: data}
	cmsgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return m, wrapSys("recvmsg", err)
	}
	for _, cm := range cmsgs {
		if cm.Header.Level == unix.IPPROTO_SCTP && cm.Header.Type == cmsgRcvInfo && len(cm.Data) >= rcvInfoLen {
			m.Stream = binary.NativeEndian.Uint16(cm.Data)
			m.PPID = binary.BigEndian.Uint32(cm.Data[8:]) // as the peer wrote it
			return m, nil
		}
	}
	return m, errors.New("sctp: kernel: message without receive information")
}

func (c *kernelConn) Send(ctx context.Context, m Message) error {
	if err := checkMessage(m, maxOutStreams); err != nil {
		return err
	}
	if c.stopped.Load() {
		return ErrClosed
	}
	if c.restart.Load() {
		return &AbortError{Reason: AbortRestart}
	}
	oob := sendInfo(m)
	var operr error
	err := await(ctx, c.file.SetWriteDeadline, func() error {
		return c.raw.Write(func(fd uintptr) bool {
			_, operr = unix.SendmsgN(int(fd), m.Data, oob, nil, unix.MSG_NOSIGNAL)
			return operr != unix.EAGAIN //nolint:errorlint // an errno
		})
	})
	switch {
	case err != nil:
		return err
	case errors.Is(operr, unix.EINVAL):
		return fmt.Errorf("%w: %d", ErrStream, m.Stream)
	case errors.Is(operr, unix.EMSGSIZE):
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(m.Data))
	case operr != nil:
		return kernelError("sendmsg", operr)
	}
	return nil
}

// sendInfo builds a control message with struct sctp_sndinfo: stream, flags,
// PPID, context, association.
func sendInfo(m Message) []byte {
	ne := binary.NativeEndian
	b := make([]byte, unix.CmsgSpace(sndInfoLen))
	// struct cmsghdr: length (as wide as a pointer), level, type
	if unix.SizeofCmsghdr == 16 {
		ne.PutUint64(b, uint64(unix.CmsgLen(sndInfoLen)))
	} else {
		ne.PutUint32(b, uint32(unix.CmsgLen(sndInfoLen)))
	}
	ne.PutUint32(b[unix.SizeofCmsghdr-8:], unix.IPPROTO_SCTP)
	ne.PutUint32(b[unix.SizeofCmsghdr-4:], cmsgSndInfo)
	data := b[unix.CmsgLen(0):]
	ne.PutUint16(data, m.Stream)
	binary.BigEndian.PutUint32(data[4:], m.PPID)
	return b
}

// Close sends SHUTDOWN and reads until the peer has confirmed it.
func (c *kernelConn) Close(ctx context.Context) error {
	if c.stopped.Swap(true) {
		return ErrClosed
	}
	close(c.stop)
	_ = c.file.SetReadDeadline(time.Unix(1, 0)) // wakes Recv
	<-c.reading
	_ = c.file.SetReadDeadline(time.Time{})
	var operr error
	if err := c.raw.Control(func(fd uintptr) { operr = unix.Shutdown(int(fd), unix.SHUT_WR) }); err != nil {
		return ErrClosed // Abort was faster
	}
	if operr != nil && !errors.Is(operr, unix.ENOTCONN) {
		c.recvErr = kernelError("shutdown", operr)
	}
	for {
		if _, err := c.receive(ctx); err != nil {
			if cause := ctx.Err(); cause != nil {
				c.linger()
				_ = c.file.Close()
				return cause
			}
			return c.closeFile()
		}
	}
}

func (c *kernelConn) closeFile() error {
	if err := c.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("sctp: close: %w", err)
	}
	return nil
}

// linger makes the coming close an ABORT.
func (c *kernelConn) linger() {
	_ = c.raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	})
}

// Abort closes the socket, which wakes Recv and Send.
func (c *kernelConn) Abort() {
	if !c.stopped.Swap(true) {
		close(c.stop)
	}
	c.linger()
	_ = c.file.Close()
}
