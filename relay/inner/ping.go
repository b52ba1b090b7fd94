package inner

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// PingRequest asks for ICMP echo requests to a device, one after the other.
type PingRequest struct {
	Device  netip.Addr
	Count   int           // 1 to 5
	Timeout time.Duration // for each answer, more than 0 and at most 3 s
}

// PingResult is what became of a PingRequest.
type PingResult struct {
	Sent, Received int
	RTT            time.Duration // the mean of those received; 0: none
}

// errPing is wrapped by refusals of a PingRequest.
var errPing = errors.New("ping: the request is not valid")

// Ping reaches a device with what Deps.Ping gives. It returns errors.ErrUnsupported
// without that, and otherwise what Deps.Ping returns. It may be called from any
// goroutine; it blocks until all is answered or has timed out, or ctx ends.
func (r *Relay) Ping(ctx context.Context, q PingRequest) (PingResult, error) {
	if q.Count < 1 || q.Count > 5 || q.Timeout <= 0 || q.Timeout > 3*time.Second || !q.Device.IsValid() || q.Device.IsMulticast() || q.Device.IsUnspecified() {
		return PingResult{}, errPing
	}
	if r.ping == nil {
		return PingResult{}, errors.ErrUnsupported
	}
	return r.ping(ctx, q)
}

// KernelPing is Deps.Ping over the kernel's network, in the network namespace of the
// calling thread. It uses a ping socket, which needs no privilege where
// net.ipv4.ping_group_range allows it, or else a raw one. A device that does not answer
// is no error.
func KernelPing(ctx context.Context, q PingRequest) (PingResult, error) {
	device := q.Device.Unmap()
	network, raw, any4or6 := "udp4", "ip4:icmp", "0.0.0.0"
	if device.Is6() {
		network, raw, any4or6 = "udp6", "ip6:ipv6-icmp", "::"
	}
	conn, err := icmp.ListenPacket(network, any4or6)
	var to net.Addr = &net.UDPAddr{IP: device.AsSlice(), Zone: device.Zone()}
	if err != nil {
		first := err
		if conn, err = icmp.ListenPacket(raw, any4or6); err != nil {
			return PingResult{}, fmt.Errorf("ping %s: %w", device, errors.Join(first, err))
		}
		to = &net.IPAddr{IP: device.AsSlice(), Zone: device.Zone()}
	}
	defer conn.Close()
	// A cancelled ctx wakes the read at once.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	return exchange(ctx, conn, to, q)
}

// exchange sends and awaits. Answers are told apart by 16 random bytes: the identifier is
// the kernel's on a ping socket, and a raw one hears what others are sent.
func exchange(ctx context.Context, conn net.PacketConn, to net.Addr, q PingRequest) (PingResult, error) {
	var res PingResult
	var total time.Duration
	var nonce [16]byte
	rand.Read(nonce[:])
	for seq := range q.Count {
		request, err := echoRequest(q.Device, uint16(seq+1), nonce[:])
		if err != nil {
			return res, fmt.Errorf("ping %s: %w", q.Device, err)
		}
		start := time.Now()
		if err := conn.SetReadDeadline(start.Add(q.Timeout)); err != nil {
			return res, fmt.Errorf("ping %s: %w", q.Device, err)
		}
		if ctx.Err() != nil { // the deadline just set may have undone the one of ctx
			return res, ctx.Err()
		}
		if _, err := conn.WriteTo(request, to); err != nil {
			// No route to the device is an answer, too.
			res.Sent++
			continue
		}
		res.Sent++
		switch err := awaitEcho(conn, q.Device, uint16(seq+1), nonce[:]); {
		case err == nil:
			res.Received++
			total += time.Since(start)
		case ctx.Err() != nil:
			return res, ctx.Err()
		case !isTimeout(err):
			return res, fmt.Errorf("ping %s: %w", q.Device, err)
		}
	}
	if res.Received > 0 {
		res.RTT = total / time.Duration(res.Received)
	}
	return res, nil
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

func echoRequest(device netip.Addr, seq uint16, nonce []byte) ([]byte, error) {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(binary.BigEndian.Uint16(nonce)), Seq: int(seq), Data: nonce}}
	if device.Unmap().Is6() {
		m.Type = ipv6.ICMPTypeEchoRequest
	}
	return m.Marshal(nil)
}

// awaitEcho reads until the answer to a request comes.
func awaitEcho(conn net.PacketConn, device netip.Addr, seq uint16, nonce []byte) error {
	buf := make([]byte, 1500)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		if isEchoReply(buf[:n], device.Unmap().Is6(), seq, nonce) {
			return nil
		}
	}
}

// isEchoReply reports whether b, ICMP without an IP header, answers a request (RFC 792,
// RFC 4443 clause 4.2).
func isEchoReply(b []byte, v6 bool, seq uint16, nonce []byte) bool {
	proto, want := 1, icmp.Type(ipv4.ICMPTypeEchoReply)
	if v6 {
		proto, want = 58, ipv6.ICMPTypeEchoReply
	}
	m, err := icmp.ParseMessage(proto, b)
	if err != nil || m.Type != want {
		return false
	}
	e, ok := m.Body.(*icmp.Echo)
	return ok && e.Seq == int(seq) && string(e.Data) == string(nonce)
}
