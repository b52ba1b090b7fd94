//go:build linux

package tun

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/songgao/water"
	"golang.org/x/sys/unix"
)

// DefaultMTU is the MTU of a new Linux TUN.
const DefaultMTU = 1500

// batchSize is how many packets one wake-up may move. A TUN has no call that moves
// several packets, so a batch saves wake-ups of the Go scheduler, not system calls.
const batchSize = 64

// Config describes a Linux TUN interface.
type Config struct {
	// Name of the interface, at most 15 bytes; empty lets the kernel choose
	// ("tun0", "tun1", ...). The interface is created if it does not exist.
	Name string `yaml:"name"`
	// MTU in bytes, 68 to 65535; 0 means DefaultMTU. On N6 choose it so that the
	// outer packet still fits the N3 link: see package datapath.
	MTU int `yaml:"mtu"`
}

// Validate reports the first field that is out of range.
func (c Config) Validate() error {
	if len(c.Name) >= unix.IFNAMSIZ {
		return fmt.Errorf("tun: name %q: want at most %d bytes", c.Name, unix.IFNAMSIZ-1)
	}
	if c.MTU != 0 && (c.MTU < 68 || c.MTU > 65535) {
		return fmt.Errorf("tun: mtu %d: want 68 to 65535", c.MTU)
	}
	return nil
}

// Linux is a TUN interface of the Linux kernel, without packet information header
// and without offloads. It does not outlive its last descriptor.
type Linux struct {
	name string
	mtu  int
	file io.Closer
	raw  syscall.RawConn

	closed atomic.Bool // tells Read and Write why the descriptor is gone

	// rd is the state of the Read in progress. It belongs to the one reader; being
	// part of the device it costs no allocation per call.
	rd struct {
		bufs   [][]byte
		sizes  []int
		offset int
		n      int
		err    error
		step   func(fd uintptr) bool
	}
	writers sync.Pool // of *writeState
}

var _ Device = (*Linux)(nil)

// Open creates or attaches to the TUN interface of cfg in the network namespace of
// the calling thread. The device stays in that namespace wherever it is used from
// later. It is left without address and down: package netns configures it. Packets
// written while the interface is down are not accepted. The Device is a *Linux.
func Open(cfg Config) (Device, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	mtu := cfg.MTU
	if mtu == 0 {
		mtu = DefaultMTU
	}
	ifce, err := water.New(water.Config{
		DeviceType:             water.TUN,
		PlatformSpecificParams: water.PlatformSpecificParams{Name: cfg.Name},
	})
	if err != nil {
		return nil, fmt.Errorf("open tun %q: %w", cfg.Name, err)
	}
	d, err := newLinux(ifce, mtu)
	if err != nil {
		ifce.Close()
		return nil, fmt.Errorf("open tun %q: %w", ifce.Name(), err)
	}
	return d, nil
}

func newLinux(ifce *water.Interface, mtu int) (*Linux, error) {
	// The library opens the descriptor non-blocking, so the file is in the runtime's
	// poller; its raw connection is what makes a batch per wake-up possible.
	sc, ok := ifce.ReadWriteCloser.(syscall.Conn)
	if !ok {
		return nil, errors.New("device has no raw connection")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	// Programs started from here must not keep the interface alive.
	if err := raw.Control(func(fd uintptr) { unix.CloseOnExec(int(fd)) }); err != nil {
		return nil, err
	}
	if err := setMTU(ifce.Name(), mtu); err != nil {
		return nil, fmt.Errorf("set mtu %d: %w", mtu, err)
	}
	d := &Linux{name: ifce.Name(), mtu: mtu, file: ifce, raw: raw}
	d.rd.step = d.readStep
	d.writers.New = func() any {
		w := new(writeState)
		w.step = w.writeStep
		return w
	}
	return d, nil
}

// setMTU needs a socket of the same namespace; the caller is still in it.
func setMTU(name string, mtu int) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	var req struct {
		name [unix.IFNAMSIZ]byte
		mtu  int32
		_    [20]byte // struct ifreq is 40 bytes
	}
	copy(req.name[:], name)
	req.mtu = int32(mtu)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCSIFMTU, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return os.NewSyscallError("SIOCSIFMTU", errno)
	}
	return nil
}

// Read waits for one packet, then takes what else is there without waiting. A
// packet longer than its buffer is cut off by the kernel.
func (d *Linux) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	rd := &d.rd
	rd.bufs, rd.sizes, rd.offset, rd.n, rd.err = bufs, sizes, offset, 0, nil
	err := d.raw.Read(rd.step)
	rd.bufs, rd.sizes = nil, nil
	if rd.n > 0 {
		return rd.n, nil
	}
	return 0, d.closedOr("read", err, rd.err)
}

// readStep is called by the poller when the descriptor may be readable; false
// means wait.
func (d *Linux) readStep(fd uintptr) bool {
	rd := &d.rd
	for rd.n < min(len(rd.bufs), len(rd.sizes), batchSize) {
		n, err := unix.Read(int(fd), rd.bufs[rd.n][rd.offset:])
		switch err {
		case nil:
			rd.sizes[rd.n] = n
			rd.n++
		case unix.EINTR:
		case unix.EAGAIN:
			return rd.n > 0
		default:
			rd.err = err
			return true
		}
	}
	return true
}

// Write hands over each packet; the kernel refuses those it cannot read and all of
// them while the interface is down, which is not an error.
func (d *Linux) Write(bufs [][]byte, offset int) (int, error) {
	w := d.writers.Get().(*writeState)
	w.bufs, w.offset, w.next, w.accepted, w.err = bufs, offset, 0, 0, nil
	err := d.raw.Write(w.step)
	n, werr := w.accepted, w.err
	w.bufs = nil
	d.writers.Put(w)
	if err == nil && werr == nil {
		return n, nil
	}
	return n, d.closedOr("write", err, werr)
}

type writeState struct {
	bufs           [][]byte
	offset         int
	next, accepted int
	err            error
	step           func(fd uintptr) bool
}

func (w *writeState) writeStep(fd uintptr) bool {
	for w.next < len(w.bufs) {
		_, err := unix.Write(int(fd), w.bufs[w.next][w.offset:])
		switch err {
		case nil:
			w.accepted++
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		case unix.EBADFD: // the interface was deleted
			w.err = err
			return true
		default: // EIO: interface down; EINVAL: not IP; ENOMEM, ENOBUFS: dropped
		}
		w.next++
	}
	return true
}

func (d *Linux) closedOr(op string, errs ...error) error {
	// A raw connection does not say os.ErrClosed itself.
	if d.closed.Load() {
		return os.ErrClosed
	}
	return fmt.Errorf("%s tun %s: %w", op, d.name, errors.Join(errs...))
}

// MTU is the MTU the interface was opened with.
func (d *Linux) MTU() int { return d.mtu }

// Name is the interface's name in the namespace where it was opened.
func (d *Linux) Name() string { return d.name }

// BatchSize is the most packets one Read returns.
func (d *Linux) BatchSize() int { return batchSize }

// Close removes the interface and wakes a blocked Read.
func (d *Linux) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	if err := d.file.Close(); err != nil {
		return fmt.Errorf("close tun %s: %w", d.name, err)
	}
	return nil
}
