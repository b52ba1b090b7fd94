package manager

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// paced calls f so many times a second, those that were missed at once. The kernel's clock
// ticks, and what waits for it is woken by the poller, as in a relay; a Ticker at 10,000 a
// second brings several of its ticks together.
func paced(ctx context.Context, rate int, length time.Duration, f func()) (err error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("timerfd_create", err)
	}
	clock := os.NewFile(uintptr(fd), "clock") // its reads wait in the poller
	defer func() { err = errors.Join(err, clock.Close()) }()
	every := unix.NsecToTimespec(int64(time.Second) / int64(rate))
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil); err != nil {
		return os.NewSyscallError("timerfd_settime", err)
	}
	var ticks [8]byte
	for end := time.Now().Add(length); time.Now().Before(end); {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := clock.Read(ticks[:]); err != nil {
			return err
		}
		for range binary.NativeEndian.Uint64(ticks[:]) {
			f()
		}
	}
	return nil
}
