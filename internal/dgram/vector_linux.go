package dgram

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2): x/sys declares only its first half.
type mmsghdr struct {
	Hdr unix.Msghdr
	Len uint32
	_   [unsafe.Sizeof(uintptr(0)) - 4]byte
}

// sockaddr has room for either family. Ports are in network byte order.
type sockaddr struct {
	family uint16
	port   [2]byte
	rest   [24]byte // v4: address; v6: flow label, address, scope
}

const (
	sizeInet4 = 16
	sizeInet6 = 28
)

// vector is the scratch memory of one caller of recvmmsg or sendmmsg. It keeps
// the closures that the poller calls, so that a batch costs no allocation.
// (golang.org/x/net's ReadBatch allocates an address per datagram.)
type vector struct {
	hdrs  [maxBatch]mmsghdr
	iovs  [maxBatch]unix.Iovec
	names [maxBatch]sockaddr
	count int

	n          int
	errno      syscall.Errno
	recv, send func(fd uintptr) bool
}

func newVector() *vector {
	v := &vector{}
	v.recv = func(fd uintptr) bool { return v.call(unix.SYS_RECVMMSG, fd) }
	v.send = func(fd uintptr) bool { return v.call(unix.SYS_SENDMMSG, fd) }
	return v
}

// call reports false where the poller should wait.
func (v *vector) call(trap, fd uintptr) bool {
	n, _, errno := unix.Syscall6(trap, fd, uintptr(unsafe.Pointer(&v.hdrs[0])), uintptr(v.count), unix.MSG_DONTWAIT, 0, 0)
	v.n, v.errno = int(n), errno
	return errno != unix.EAGAIN
}

func (v *vector) point(i int, buf []byte) {
	v.iovs[i] = unix.Iovec{}
	if len(buf) > 0 {
		v.iovs[i].Base = &buf[0]
		v.iovs[i].SetLen(len(buf))
	}
	h := &v.hdrs[i]
	h.Len = 0
	h.Hdr = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&v.names[i])), Iov: &v.iovs[i]}
	h.Hdr.SetIovlen(1)
}

func (v *vector) forRead(ds []Datagram) {
	v.count = len(ds)
	for i := range ds {
		v.point(i, ds[i].Buf)
		v.hdrs[i].Hdr.Namelen = uint32(unsafe.Sizeof(v.names[i]))
	}
}

// forWrite prepares the longest prefix of ds that can be sent; the error is for
// the first datagram.
func (v *vector) forWrite(ds []Datagram, inet6 bool) error {
	for i := range ds {
		d := &ds[i]
		n, err := v.names[i].set(d.Addr, inet6)
		if err == nil && (d.N < 0 || d.N > len(d.Buf)) {
			err = fmt.Errorf("dgram: write to %s: %d bytes of a buffer of %d", d.Addr, d.N, len(d.Buf))
		}
		if err != nil {
			if i == 0 {
				return err
			}
			v.count = i
			return nil
		}
		v.point(i, d.Buf[:d.N])
		v.hdrs[i].Hdr.Namelen = n
	}
	v.count = len(ds)
	return nil
}

func (s *sockaddr) set(ap netip.AddrPort, inet6 bool) (uint32, error) {
	addr := ap.Addr()
	binary.BigEndian.PutUint16(s.port[:], ap.Port())
	switch {
	case !addr.IsValid(), ap.Port() == 0:
		return 0, fmt.Errorf("dgram: write to %s: no such address", ap)
	case inet6:
		a := addr.As16() // maps IPv4, which a dual-stack socket takes
		s.family = unix.AF_INET6
		s.rest = [24]byte{}
		copy(s.rest[4:20], a[:])
		binary.NativeEndian.PutUint32(s.rest[20:], zoneIndex(addr))
		return sizeInet6, nil
	case addr.Unmap().Is4():
		a := addr.Unmap().As4()
		s.family = unix.AF_INET
		copy(s.rest[:4], a[:])
		clear(s.rest[4:12])
		return sizeInet4, nil
	}
	return 0, fmt.Errorf("dgram: write to %s from an IPv4 socket", ap)
}

func (s *sockaddr) addrPort() netip.AddrPort {
	port := binary.BigEndian.Uint16(s.port[:])
	switch s.family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(s.rest[:4])), port)
	case unix.AF_INET6:
		addr := netip.AddrFrom16([16]byte(s.rest[4:20])).Unmap()
		if scope := binary.NativeEndian.Uint32(s.rest[20:]); scope != 0 && addr.Is6() {
			addr = addr.WithZone(zoneName(scope))
		}
		return netip.AddrPortFrom(addr, port)
	}
	return netip.AddrPort{}
}
