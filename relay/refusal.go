package relay

import (
	"errors"
	"net"
	"net/http"
	"os"
	"syscall"
)

// Refusal is a stable word for why an inner relay did not connect: it travels in
// the header X-Simreach-Error and is an error.
type Refusal string

// Refusals.
const (
	DeviceRefused     Refusal = "device-refused"     // the device reset the connection attempt
	DeviceUnreachable Refusal = "device-unreachable" // there is no way to its address
	DeviceTimeout     Refusal = "device-timeout"     // it did not answer in time
	TicketInvalid     Refusal = "ticket-invalid"     // missing, forged, expired, used, or for somebody else
	BadRequest        Refusal = "bad-request"        // not a CONNECT as it should be
	Overloaded        Refusal = "overloaded"         // too much at one time
	Draining          Refusal = "draining"           // the relay is stopping
	UnknownRefusal    Refusal = "inner-refused"      // the peer gave no reason that we know
)

// refusals maps the known ones to HTTP status codes.
var refusals = map[Refusal]int{
	DeviceRefused:     http.StatusBadGateway,
	DeviceUnreachable: http.StatusBadGateway,
	DeviceTimeout:     http.StatusGatewayTimeout,
	TicketInvalid:     http.StatusProxyAuthRequired,
	BadRequest:        http.StatusBadRequest,
	Overloaded:        http.StatusServiceUnavailable,
	Draining:          http.StatusServiceUnavailable,
}

// Error implements error.
func (r Refusal) Error() string { return "inner relay: " + string(r) }

// ClassifyDial returns the refusal for an error of connecting to a device.
func ClassifyDial(err error) Refusal {
	var ne net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return DeviceRefused
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &ne) && ne.Timeout(), errors.Is(err, syscall.ETIMEDOUT):
		return DeviceTimeout
	}
	return DeviceUnreachable
}
