package ports

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// sock_diag(7): a request is a netlink header and inet_diag_req_v2, an answer is a
// header and inet_diag_msg.
const (
	diagByFamily  = 20 // SOCK_DIAG_BY_FAMILY
	diagRequest   = 56 // sizeof(struct inet_diag_req_v2)
	diagMessage   = 72 // sizeof(struct inet_diag_msg)
	diagID        = 4  // offset of struct inet_diag_sockid in a message
	diagIDSize    = 48
	stateSynRecv  = 3 // TCP_SYN_RECV
	netlinkHeader = unix.SizeofNlMsghdr
)

// handshake identifies a half-way handshake: the kernel's inet_diag_sockid, which
// has addresses, ports and a number that is never used twice.
type handshake [diagIDSize]byte

var errDiag = errors.New("sock_diag: malformed answer")

// halfOpen lists the handshakes to the ports of an address that wait for the
// client's ACK.
func halfOpen(address netip.Addr, ports map[uint16]bool) (map[handshake]bool, error) {
	out := map[handshake]bool{}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		err := listHandshakes(family, func(h handshake, local netip.AddrPort) {
			if ports[local.Port()] && (address.IsUnspecified() || local.Addr() == address) {
				out[h] = true
			}
		})
		if err != nil && (family == unix.AF_INET || !errors.Is(err, unix.ENOENT)) { // a kernel without IPv6
			return nil, fmt.Errorf("list handshakes: %w", err)
		}
	}
	return out, nil
}

func listHandshakes(family uint8, each func(handshake, netip.AddrPort)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	req := make([]byte, netlinkHeader+diagRequest)
	binary.NativeEndian.PutUint32(req[0:], uint32(len(req)))
	binary.NativeEndian.PutUint16(req[4:], diagByFamily)
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	req[netlinkHeader] = family
	req[netlinkHeader+1] = unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(req[netlinkHeader+4:], 1<<stateSynRecv)
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		done, err := parseDiag(buf[:n], each)
		if done || err != nil {
			return err
		}
	}
}

// parseDiag reads one datagram of answers; done says that it was the last.
func parseDiag(b []byte, each func(handshake, netip.AddrPort)) (done bool, err error) {
	for len(b) >= netlinkHeader {
		size := binary.NativeEndian.Uint32(b)
		if size < netlinkHeader || uint64(size) > uint64(len(b)) {
			return false, errDiag
		}
		body := b[netlinkHeader:size]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return false, errDiag
			}
			if errno := int32(binary.NativeEndian.Uint32(body)); errno < 0 {
				return false, os.NewSyscallError("sock_diag", unix.Errno(-errno))
			}
			return true, nil
		case diagByFamily:
			if len(body) < diagMessage {
				return false, errDiag
			}
			id := body[diagID : diagID+diagIDSize]
			local, _ := netip.AddrFromSlice(id[4:20])
			if body[0] == unix.AF_INET {
				local, _ = netip.AddrFromSlice(id[4:8])
			}
			each(handshake(id), netip.AddrPortFrom(local.Unmap(), binary.BigEndian.Uint16(id)))
		}
		b = b[min(uint64(size+3)&^3, uint64(len(b))):]
	}
	return false, nil
}
