package netstack

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// asError gives a stack error the type that the same condition has on a kernel
// socket, so that callers tell refused from unreachable with errors.Is.
func asError(err tcpip.Error) error {
	switch err.(type) {
	case nil:
		return nil
	case *tcpip.ErrConnectionRefused:
		return syscall.ECONNREFUSED
	case *tcpip.ErrConnectionReset:
		return syscall.ECONNRESET
	case *tcpip.ErrConnectionAborted, *tcpip.ErrAborted:
		return syscall.ECONNABORTED
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	case *tcpip.ErrHostUnreachable, *tcpip.ErrHostDown:
		return syscall.EHOSTUNREACH
	case *tcpip.ErrNetworkUnreachable, *tcpip.ErrNoNet:
		return syscall.ENETUNREACH
	case *tcpip.ErrPortInUse, *tcpip.ErrDuplicateAddress:
		return syscall.EADDRINUSE
	case *tcpip.ErrBadLocalAddress, *tcpip.ErrNoPortAvailable:
		return syscall.EADDRNOTAVAIL
	case *tcpip.ErrMessageTooLong:
		return syscall.EMSGSIZE
	case *tcpip.ErrClosedForSend:
		return syscall.EPIPE
	}
	return errors.New(err.String())
}

// retyped are the errors whose type the socket adapter loses: it keeps their text
// only.
var retyped = []tcpip.Error{
	&tcpip.ErrConnectionRefused{}, &tcpip.ErrConnectionReset{}, &tcpip.ErrConnectionAborted{}, &tcpip.ErrAborted{},
	&tcpip.ErrTimeout{}, &tcpip.ErrHostUnreachable{}, &tcpip.ErrNetworkUnreachable{}, &tcpip.ErrMessageTooLong{},
	&tcpip.ErrClosedForSend{},
}

// retype gives an error of the socket adapter the type that package net gives it.
// closed tells that the socket was closed here.
func retype(err error, closed *atomic.Bool) error {
	if err == nil {
		return nil
	}
	op, ok := errors.AsType[*net.OpError](err)
	switch {
	case !ok && closed.Load():
		return net.ErrClosed
	case !ok:
		return err
	case closed.Load():
		op.Err = net.ErrClosed
	case op.Timeout():
		op.Err = os.ErrDeadlineExceeded
	default:
		for _, e := range retyped {
			if op.Err.Error() == e.String() {
				op.Err = asError(e)
			}
		}
	}
	return op
}
