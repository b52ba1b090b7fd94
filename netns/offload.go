package netns

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolValue is struct ethtool_value of linux/ethtool.h.
type ethtoolValue struct{ cmd, data uint32 }

// ifreqData is struct ifreq with ifr_data.
type ifreqData struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// ethtool performs one request that takes and returns a value.
func ethtool(fd int, ifname string, v ethtoolValue) (uint32, error) {
	req := ifreqData{data: unsafe.Pointer(&v)}
	copy(req.name[:unix.IFNAMSIZ-1], ifname)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); e != 0 {
		return 0, e
	}
	return v.data, nil
}

// FillChecksums turns transmit checksum offload off at an interface, so that
// packets leave it with their checksums filled in. Between kernels of one machine
// a checksum may otherwise stay unfilled all the way (CHECKSUM_PARTIAL); a reader
// of whole packets, such as userspace SCTP on a raw socket, cannot tell such a
// packet from a damaged one.
func (n *NS) FillChecksums(ifname string) error {
	err := n.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if _, err := ethtool(fd, ifname, ethtoolValue{cmd: unix.ETHTOOL_STXCSUM}); err != nil {
			return err
		}
		now, err := ethtool(fd, ifname, ethtoolValue{cmd: unix.ETHTOOL_GTXCSUM})
		if err == nil && now != 0 {
			err = errors.New("the driver does not turn it off")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("checksum offload of %s in %s: %w", ifname, n.name, err)
	}
	return nil
}
