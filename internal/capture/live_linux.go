package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Live copies every frame of an interface to a File until Close.
type Live struct {
	sock *os.File
	file *File
	done chan error
}

// Interface starts capturing on an interface of the calling thread's network
// namespace, in promiscuous mode: on a bridge that means all of its ports'
// traffic. It takes the file over and closes it in Close. It needs CAP_NET_RAW.
func Interface(ifindex int, file *File) (*Live, error) {
	proto := binary.BigEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff})
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		proto = proto>>8 | proto<<8 // the kernel wants network order
	}
	// Protocol 0 receives nothing: until Bind, the frames of every interface would
	// come in.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("capture: packet socket: %w", err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: ifindex})
	}
	if err == nil {
		err = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(ifindex), Type: unix.PACKET_MR_PROMISC})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("capture: packet socket: %w", err), unix.Close(fd))
	}
	l := &Live{sock: os.NewFile(uintptr(fd), "packet"), file: file, done: make(chan error, 1)}
	go func() { l.done <- l.copy() }()
	return l, nil
}

func (l *Live) copy() error {
	rc, err := l.sock.SyscallConn()
	if err != nil {
		return err
	}
	r := reader{file: l.file, frame: make([]byte, snapLen), oob: make([]byte, 256)}
	for {
		err := rc.Read(func(fd uintptr) bool { return !errors.Is(r.next(fd), unix.EAGAIN) })
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// Close asked for the end: what the kernel has queued still counts.
			err = rc.Control(func(fd uintptr) {
				for r.next(fd) == nil {
				}
			})
			return err
		}
		if err != nil {
			return fmt.Errorf("capture: %w", err)
		}
	}
}

// reader moves one frame at a time from a packet socket to a file.
type reader struct {
	file       *File
	frame, oob []byte
}

func (r *reader) next(fd uintptr) error {
	n, on, _, _, err := unix.Recvmsg(int(fd), r.frame, r.oob, 0)
	if err == nil {
		r.file.Packet(stamp(r.oob[:on]), r.frame[:n])
	}
	return err
}

// stamp returns the kernel's receive time, or now.
func stamp(oob []byte) time.Time {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err == nil {
		for _, m := range msgs {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
				return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
			}
		}
	}
	return time.Now()
}

// Close ends the capture and closes the file. Frames that the kernel has already
// queued are still written.
func (l *Live) Close() error {
	err := l.sock.SetReadDeadline(time.Unix(1, 0))
	return errors.Join(err, <-l.done, l.sock.Close(), l.file.Close())
}
