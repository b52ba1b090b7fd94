package relay

import (
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// framedConn is a connection to an inner relay on which frames are spoken, for a link on
// goroutines: one may read, and another one write. When both directions have ended in
// order, closing it has it wait for another client on its event loop.
type framedConn struct {
	Conn
	tcp     *net.TCPConn // Conn; what else it can do knows nothing of frames
	loop    *loop
	pool    *pool
	in, out framing
	ended   bool // fin was received

	// What Write passes on, kept so that no frame costs an allocation.
	head  [frameHead]byte
	parts [2][]byte
	both  net.Buffers // parts
}

// NetConn returns what the frames go over.
func (c *framedConn) NetConn() net.Conn { return c.tcp }

// Holds implements Holder: the end comes with the last bytes.
func (c *framedConn) Holds() bool { return c.ended }

// Read reads what the device sends.
func (c *framedConn) Read(b []byte) (int, error) {
	for !c.ended {
		n, err := c.Conn.Read(b)
		switch {
		case !c.in.framed:
			return n, err
		case err == io.EOF: // the other relay has gone
			return 0, os.NewSyscallError("recv", unix.ECONNRESET)
		case err != nil:
			return 0, err
		}
		payload, fin, e := c.in.unwrap(b[:n])
		if e != 0 {
			return 0, os.NewSyscallError("recv", e)
		}
		if c.ended = fin; len(payload) > 0 {
			return len(payload), nil
		}
	}
	return 0, io.EOF
}

// Write sends bytes of the client.
func (c *framedConn) Write(b []byte) (int, error) {
	if !c.out.framed || len(b) == 0 {
		return c.Conn.Write(b)
	}
	c.out.wrap(c.head[:], len(b))
	c.parts = [...][]byte{c.head[:], b}
	c.both = c.parts[:]
	n, err := c.both.WriteTo(c.tcp)
	return max(int(n)-frameHead, 0), err
}

// CloseWrite ends the client's direction.
func (c *framedConn) CloseWrite() error {
	if !c.out.framed {
		return c.Conn.CloseWrite()
	}
	_, err := c.Conn.Write(frames(frameFin))
	c.out.said = err == nil
	return err
}

// Close must come after the last Read and the last Write.
func (c *framedConn) Close() error {
	if c.ended && c.out.said && !c.in.begun {
		if s, ok := NewSocket(c.tcp); ok { // or it was reset, or there is no descriptor
			w := &waiting{pool: c.pool, released: c.in.free, socket: s}
			c.loop.newLink(&Link{task: w}).Begin()
			return nil
		}
	}
	return c.Conn.Close()
}
