// Package sctp carries N2 (and any other SCTP user) over whichever transport
// the machine offers: the kernel's SCTP, a userspace association over raw IP
// protocol 132 or over UDP port 9899 (RFC 6951), or memory. The wire format is
// RFC 9260's in every form but the last. A Conn owns its goroutines and ends
// them in Close or Abort; a Listener ends those of associations not yet accepted.
package sctp

import (
	"context"
	"errors"
	"net/netip"
)

// Payload protocol identifiers (IANA registry of SCTP PPIDs).
const (
	PPIDNGAP uint32 = 60
)

// PortNGAP is the SCTP port of NGAP (TS 38.412 clause 7).
const PortNGAP = 38412

// ErrClosed is returned by a Conn or Listener that was closed on this side.
var ErrClosed = errors.New("sctp: closed")

// ErrAborted is returned by Recv and Send after the peer's ABORT, or after the
// association was lost (retransmissions exhausted).
var ErrAborted = errors.New("sctp: association aborted")

// Message is one SCTP user message. Data of a received message belongs to the
// receiver; Data given to Send may be reused once Send has returned.
type Message struct {
	Stream uint16
	PPID   uint32
	Data   []byte
}

// Conn is one association. Recv may be called from one goroutine at a time;
// Send, Close and Abort from any.
type Conn interface {
	// Recv waits for the next message. It returns io.EOF after the peer's
	// SHUTDOWN, ErrAborted after an ABORT or loss, ErrClosed after Close, or
	// ctx.Err().
	Recv(ctx context.Context) (Message, error)
	// Send queues m for ordered delivery on its stream; it blocks only while the
	// send buffer is full.
	Send(ctx context.Context, m Message) error
	// Close shuts down gracefully (SHUTDOWN), and aborts when ctx ends first.
	Close(ctx context.Context) error
	// Abort sends ABORT and frees everything at once.
	Abort()
	LocalAddr() netip.AddrPort
	RemoteAddr() netip.AddrPort
}

// Listener accepts associations.
type Listener interface {
	Accept(ctx context.Context) (Conn, error)
	Addr() netip.AddrPort
	Close() error
}

// Dialer opens associations to addr.
type Dialer interface {
	Dial(ctx context.Context, addr netip.AddrPort) (Conn, error)
}
