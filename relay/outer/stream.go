package outer

import (
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// stream is a CONNECT stream of HTTP/2 as a relay.Conn. What waits belongs to its
// handler, without whose return the client is not told of the end; what is written
// must be over by then.
type stream struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	req      *http.Request
	answered bool // of the handler
	ended    chan struct{}

	writing sync.Mutex // held while writing; guards over
	over    bool       // the handler has returned or will

	mu     sync.Mutex // guards the rest
	reset  bool
	closed bool // nothing is to be written any more
	gone   bool // nor read
}

func newStream(w http.ResponseWriter, req *http.Request) *stream {
	return &stream{w: w, control: http.NewResponseController(w), req: req, ended: make(chan struct{})}
}

// accept tells the client that the device is reached.
func (s *stream) accept() error {
	s.answered = true
	s.w.WriteHeader(http.StatusOK)
	return s.control.Flush()
}

// abort resets the stream, as the HTTP server does when the time for writing is over,
// and wakes a writer that is blocked.
func (s *stream) abort() { _ = s.control.SetWriteDeadline(time.Unix(1, 0)) } // fails only if the client is gone

// wait waits for the end of what is written. It is called by the handler, which returns
// then.
func (s *stream) wait() {
	<-s.ended
	s.mu.Lock()
	reset := s.reset
	s.mu.Unlock()
	if reset {
		s.abort()
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	s.over = true
}

// Read implements net.Conn. After CloseWrite it ends: HTTP/2 ends both directions then.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.req.Body.Read(b)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case s.gone:
			err = net.ErrClosed
		case s.closed:
			err = io.EOF
		}
	}
	return n, err
}

// Write implements net.Conn.
func (s *stream) Write(b []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.over {
		return 0, net.ErrClosed
	}
	n, err := s.w.Write(b)
	if err == nil {
		err = s.control.Flush()
	}
	return n, err
}

// CloseWrite ends the stream.
func (s *stream) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked()
	return nil
}

func (s *stream) closeLocked() {
	if !s.closed {
		s.closed = true
		close(s.ended)
	}
}

// SetLinger makes Close a reset of the stream, if sec is 0.
func (s *stream) SetLinger(sec int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reset = sec == 0
	return nil
}

// Close implements net.Conn.
func (s *stream) Close() error {
	s.mu.Lock()
	s.gone = true
	s.closeLocked()
	s.mu.Unlock()
	return s.req.Body.Close()
}

// LocalAddr implements net.Conn.
func (s *stream) LocalAddr() net.Addr {
	if a, ok := s.req.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		return a
	}
	return &net.TCPAddr{}
}

// RemoteAddr implements net.Conn. It is not known here.
func (s *stream) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// SetDeadline implements net.Conn, as the other two do. Once the handler has returned
// there is nothing that a deadline could end.
func (s *stream) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (s *stream) SetReadDeadline(t time.Time) error {
	return s.deadline(s.control.SetReadDeadline, t)
}

// SetWriteDeadline implements net.Conn.
func (s *stream) SetWriteDeadline(t time.Time) error {
	return s.deadline(s.control.SetWriteDeadline, t)
}

func (s *stream) deadline(set func(time.Time) error, t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	return set(t)
}
