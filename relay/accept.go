package relay

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// acceptPause is how long to leave a listener alone when descriptors ran out.
const acceptPause = 50 * time.Millisecond

// TemporaryAccept reports whether a listener works on after an error of Accept: the
// connection was gone already, or descriptors or memory are short.
func TemporaryAccept(err error) bool {
	for _, e := range []error{syscall.ECONNABORTED, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Pause waits until Accept is worth another try; false means that ctx ended.
func Pause(ctx context.Context) bool {
	t := time.NewTimer(acceptPause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
