package relay

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// copyTCP copies between kernel sockets until EOF, for which it returns nil. It
// waits without a buffer and then moves exactly what has arrived: a buffer or a
// splice pipe is held only while bytes move, and they are counted as they do.
func (d *direction) copyTCP(r *Relayer, dst, src *net.TCPConn) error {
	w, err := newWaiter(src)
	if err != nil {
		return readError{err}
	}
	limited := io.LimitedReader{R: src}
	for {
		n, err := w.readable()
		if err != nil {
			return readError{err}
		}
		if n >= spliceMin {
			limited.N = int64(n)
			d.writing.Store(true)
			m, err := dst.ReadFrom(&limited)
			d.writing.Store(false)
			d.count(int(m))
			if err != nil {
				// The bytes were there, so it is the writing that failed.
				return writeError{err}
			}
			continue
		}
		buf := r.buffer()
		_, err = d.move(buf[:])
		r.buffers.Put(buf)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// peekHead is readHead for kernel sockets: two calls for a head that comes in one
// piece.
func peekHead(c *net.TCPConn) ([]byte, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	head := make([]byte, 0, 1024)
	for {
		if len(head) >= MaxHead {
			return nil, ErrHeadTooLarge
		}
		if len(head) == cap(head) {
			head = slices.Grow(head, min(len(head), MaxHead-len(head)))
		}
		space := head[len(head):min(cap(head), MaxHead)]
		n, err := receive(raw, space, unix.MSG_PEEK)
		if err != nil {
			return nil, err
		}
		// The empty line may have begun before these bytes.
		from := max(0, len(head)-len(headEnd)+1)
		end := bytes.Index(head[from:len(head)+n], []byte(headEnd))
		if end >= 0 {
			n = from + end + len(headEnd) - len(head)
		}
		m, err := receive(raw, space[:n], 0)
		if err != nil {
			return nil, err
		}
		head = head[:len(head)+m]
		if end >= 0 && m == n {
			return head, nil
		}
	}
}

// Arrived reads what has arrived at a connection that is OfKernel, at most limit bytes,
// without waiting; nil if nothing has. The end of the connection, in whatever way, is left
// for the next who reads.
func Arrived(c net.Conn, limit int) (b []byte) {
	switch c := c.(type) {
	case *acceptedConn:
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.conn != nil {
			return Arrived(c.conn, limit)
		}
		return arrivedNow(c.fd, limit)
	case *net.TCPConn:
		if raw, err := c.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { b = arrivedNow(int32(fd), limit) }) // fails only if it is closed
		}
	}
	return b
}

// receive waits for bytes as Read does, with flags of recv(2). The end is
// io.ErrUnexpectedEOF.
func receive(raw syscall.RawConn, b []byte, flags int) (n int, err error) {
	rerr := raw.Read(func(fd uintptr) bool {
		for {
			n, _, err = unix.Recvfrom(int(fd), b, flags)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	switch {
	case rerr != nil:
		return 0, rerr
	case err != nil:
		return 0, os.NewSyscallError("recv", err)
	case n == 0:
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}

// watchReset blocks until c, which has received FIN, is reset, and returns that
// error. It returns nil when c is closed or its read deadline passes, and at once
// for connections that are not the kernel's.
func watchReset(c Conn) error {
	w := waiterOf(c)
	if w == nil {
		return nil
	}
	err := w.hangup()
	if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// resetOf returns the error of a connection that has failed, without waiting; nil
// also for connections that are not the kernel's.
func resetOf(c Conn) error {
	w := waiterOf(c)
	if w == nil {
		return nil
	}
	if err := w.raw.Control(func(fd uintptr) { w.isHup(fd) }); err != nil {
		return nil // closed: somebody has noticed
	}
	return w.err
}

// arrival returns what waits until something has arrived at c; nil where only Read can.
func arrival(c Conn) func() error {
	h, ok := c.(Holder)
	if _, plain := c.(*net.TCPConn); !ok && !plain {
		return nil
	}
	w := waiterOf(c)
	if w == nil {
		return nil
	}
	return func() error {
		if h != nil && h.Holds() {
			return nil
		}
		return w.arrival()
	}
}

// waiter waits for events of a socket in the runtime's poller, without reading.
type waiter struct {
	raw     syscall.RawConn
	fds     [1]unix.PollFd
	n       int
	err     error
	asked   bool // by isThere, whether something is there
	isThere func(fd uintptr) bool
	isReady func(fd uintptr) bool
	isHup   func(fd uintptr) bool
}

// waiterOf returns a waiter for what c stands on; nil if that is not the kernel's, or gone.
func waiterOf(c Conn) *waiter {
	t := socketOf(c)
	if t == nil {
		return nil
	}
	w, err := newWaiter(t)
	if err != nil {
		return nil
	}
	return w
}

func newWaiter(c *net.TCPConn) (*waiter, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	w := &waiter{raw: raw}
	// The functions are made once: a closure per wait would be garbage.
	w.isThere = func(fd uintptr) bool {
		woken := w.asked
		w.asked = true
		return woken || w.poll(fd, unix.POLLIN) != 0
	}
	w.isReady = func(fd uintptr) bool {
		if w.poll(fd, unix.POLLIN) == 0 {
			return false
		}
		w.n, w.err = unix.IoctlGetInt(int(fd), unix.TIOCINQ)
		return true
	}
	w.isHup = func(fd uintptr) bool {
		if w.poll(fd, 0)&(unix.POLLERR|unix.POLLHUP) == 0 {
			return false
		}
		// POLLHUP without an error is both directions having ended in order.
		e, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && e != 0 {
			err = os.NewSyscallError("poll", syscall.Errno(e))
		}
		w.err = err
		return true
	}
	return w, nil
}

func (w *waiter) poll(fd uintptr, events int16) int16 {
	w.fds[0] = unix.PollFd{Fd: int32(fd), Events: events}
	if n, err := unix.Poll(w.fds[:], 0); n <= 0 || err != nil {
		return 0 // EINTR does not happen with a zero timeout
	}
	return w.fds[0].Revents
}

// arrival waits until there is something to read. That may turn out to be nothing.
func (w *waiter) arrival() error {
	w.asked = false
	return w.raw.Read(w.isThere)
}

// readable waits until a read would not block and returns how many bytes wait: 0
// when the read will say EOF or fail.
func (w *waiter) readable() (int, error) {
	if err := w.raw.Read(w.isReady); err != nil {
		return 0, err
	}
	return w.n, w.err
}

// hangup waits until the socket has failed or both its directions have ended.
func (w *waiter) hangup() error {
	w.err = nil
	if err := w.raw.Read(w.isHup); err != nil {
		return err
	}
	return w.err
}

// disconnect resets a kernel socket's connection and leaves closing it to others; of
// other connections nothing is done.
func disconnect(c Conn) {
	t := socketOf(c)
	if t == nil {
		return
	}
	if raw, err := t.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { resetNow(int32(fd)) }) // fails only if it is closed
	}
}

// setUserTimeout sets TCP_USER_TIMEOUT, in whole milliseconds.
func setUserTimeout(c *net.TCPConn, d time.Duration) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Control(func(fd uintptr) {
		ms := int((d + time.Millisecond - 1) / time.Millisecond)
		serr = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, ms))
	})
	return errors.Join(err, serr)
}
