package relay

import (
	"net/netip"
	"time"
)

// Call asks an inner relay for a connection to a device (R15), over one that has served
// another client or a new one. That is used again, too, if the inner relay agrees.
type Call struct {
	To      netip.AddrPort // the inner relay
	Request Request        // without Early
	// Early, if not nil, returns Request.Early when the inner relay has been reached. It
	// is called on a loop, at most once.
	Early   func() []byte
	Timeout time.Duration
	// Fresh has the inner relay asked on a new connection.
	Fresh bool
	// Answered is called once, on a loop, with the connection to the device, which it
	// owns, or with the error: the inner relay's Refusal, os.ErrDeadlineExceeded, why it
	// was cut, or what failed; asked is whether the inner relay had got the request. If the
	// call was cut before Begin, or the Relayer has stopped, Begin calls it.
	Answered func(device *Socket, asked bool, err error)
}

// Greeting is an inner relay's part of it: to read a request, connect to the device and
// say so.
type Greeting struct {
	Timeout time.Duration // of the request
	// Wait is how long GreetAgain waits for the request to begin, from when Timeout counts.
	// 0: as long as that.
	Wait        time.Duration
	DialTimeout time.Duration
	TCP         TCPOptions // of the connection to the device
	// Requested, called on a loop, says where a request leads, or why not.
	Requested func(Request) (device netip.AddrPort, why Refusal)
	// Again, if not nil, lets the outer relay use its connection for another request when
	// the link that Join made of both connections has ended in order, and what it is
	// called with, on a loop, is for GreetAgain.
	Again func(*Socket)
	// Ended is called once, on a loop, with both connections, which it owns, or with why
	// there are none: the outer relay has been told, and err is what is behind it, if
	// anything is; after GreetAgain, also with nothing at all: there was no other request.
	// If the Relayer has stopped, Greet or GreetAgain calls it.
	Ended func(outer, device *Socket, why Refusal, err error)
}
