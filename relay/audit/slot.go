package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// maxSlots bounds how many processes of one relay there may be.
const maxSlots = 64

// errNoSlot says that maxSlots processes use the folder.
var errNoSlot = errors.New("audit spool: too many processes share the folder")

// slot is one process's place in the folder, while it is locked.
type slot struct {
	n    int
	dir  string
	lock *os.File
}

func slotDir(dir string, n int) string { return filepath.Join(dir, strconv.Itoa(n)) }

// takeSlot locks slot n; nil if another process has it. The kernel unlocks it when the
// process ends, however that happens.
func takeSlot(dir string, n int) (*slot, error) {
	f, err := os.OpenFile(slotDir(dir, n)+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit spool: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, f.Close()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("audit spool: lock %s: %w", f.Name(), err), f.Close())
	}
	return &slot{n, slotDir(dir, n), f}, nil
}

// firstSlot locks the first slot that is free.
func firstSlot(dir string) (*slot, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit spool: %w", err)
	}
	for n := range maxSlots {
		if s, err := takeSlot(dir, n); s != nil || err != nil {
			return s, err
		}
	}
	return nil, errNoSlot
}

// leftSlots locks the slots with a log whose owner is gone.
func leftSlots(dir string, mine int) (out []*slot, err error) {
	for n := range maxSlots {
		if n == mine {
			continue
		}
		if _, err := os.Stat(slotDir(dir, n)); err != nil {
			continue // it has no log
		}
		s, err := takeSlot(dir, n)
		if err != nil {
			return out, err
		}
		if s != nil {
			out = append(out, s)
		}
	}
	return out, nil
}

// release unlocks the slot. The lock's file stays: who opened it meanwhile would lock
// another one than who opens it next.
func (s *slot) release() error { return s.lock.Close() }
