// Package scratch makes directories that end with the process: those that it does not
// remove, since it was killed, Clean does. It starts no goroutine.
package scratch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// lockName is a file in each directory, which its process holds locked: the kernel
// releases the lock whatever kills the process, and that is how Clean tells. What has
// no such file is nobody's that Clean knows.
const lockName = ".simreach-lock"

// prefix starts the name of every directory.
const prefix = "simreach-"

// Dir is a directory of this process.
type Dir struct {
	Path string
	lock *os.File
}

// New makes a directory among the temporary ones, called after what it is for.
func New(what string) (*Dir, error) {
	for {
		path, err := os.MkdirTemp("", prefix+what+"-")
		if err != nil {
			return nil, err
		}
		lock, err := take(path, os.O_CREATE)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EWOULDBLOCK) {
			continue // Clean was faster: it removes what it found without a holder
		}
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(path))
		}
		return &Dir{path, lock}, nil
	}
}

// take locks a directory. The error is fs.ErrNotExist when it is gone.
func take(path string, flags int) (*os.File, error) {
	name := filepath.Join(path, lockName)
	f, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOFOLLOW|flags, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		_, err = os.Lstat(name)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

// Remove removes the directory with all that is in it.
func (d *Dir) Remove() error { return errors.Join(os.RemoveAll(d.Path), d.lock.Close()) }

// Clean removes the directories of processes that have died, and returns them. It
// leaves alone what this user may not touch.
func Clean() (removed []string, err error) {
	entries, err := os.ReadDir(os.TempDir())
	errs := []error{err}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		path := filepath.Join(os.TempDir(), e.Name())
		lock, err := take(path, 0)
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		err = (&Dir{path, lock}).Remove()
		if errs = append(errs, err); err == nil {
			removed = append(removed, path)
		}
	}
	return removed, errors.Join(errs...)
}
