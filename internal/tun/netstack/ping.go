package netstack

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Ping sends one ICMP echo request with size octets of data to dst and waits for the
// reply. It returns the round-trip time, or the error of ctx if no reply came.
func (s *Stack) Ping(ctx context.Context, dst netip.Addr, size int) (time.Duration, error) {
	transport, request, reply := icmp.ProtocolNumber4, byte(header.ICMPv4Echo), byte(header.ICMPv4EchoReply)
	if !dst.Unmap().Is4() {
		transport, request, reply = icmp.ProtocolNumber6, byte(header.ICMPv6EchoRequest), byte(header.ICMPv6EchoReply)
	}
	fail := func(err error) (time.Duration, error) { return 0, fmt.Errorf("ping %v: %w", dst, err) }
	wq := new(waiter.Queue)
	ep, terr := s.stack.NewEndpoint(transport, protocolOf(dst), wq)
	if terr != nil {
		return fail(asError(terr))
	}
	defer ep.Close()
	entry, readable := waiter.NewChannelEntry(waiter.ReadableEvents)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	if terr := ep.Connect(tcpip.FullAddress{NIC: nic, Addr: address(dst)}); terr != nil {
		return fail(asError(terr))
	}

	// Type, code, checksum, identifier, sequence number; the stack fills in the
	// checksum and an identifier of this socket's own.
	msg := make([]byte, header.ICMPv4MinimumSize+size)
	msg[0] = request
	msg[7] = 1
	start := time.Now()
	if _, terr := ep.Write(bytes.NewReader(msg), tcpip.WriteOptions{}); terr != nil {
		return fail(asError(terr))
	}
	for {
		select {
		case <-readable:
		case <-ctx.Done():
			return fail(ctx.Err())
		}
		var answer bytes.Buffer
		if _, terr := ep.Read(&answer, tcpip.ReadOptions{}); terr != nil {
			if _, again := terr.(*tcpip.ErrWouldBlock); again {
				continue
			}
			return fail(asError(terr))
		}
		if b := answer.Bytes(); len(b) >= header.ICMPv4MinimumSize && b[0] == reply && bytes.Equal(b[8:], msg[8:]) {
			return time.Since(start), nil
		}
	}
}
