package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tidwall/wal"
)

const segmentSize = 4 << 20

// entryLog is the log of one slot. append and dropTo belong to one goroutine; read and
// sync may be called from others.
type entryLog struct {
	dir string

	mu   sync.Mutex // guards log: reads of it change its caches
	log  *wal.Log
	last uint64 // index of the last entry
}

// openLog opens a log, or begins one. What a process that was killed left unfinished at
// its end is cut off. More than that is put aside, as <dir>.bad-tail-<time>, and a log that
// cannot be read at all as <dir>.bad-<time>: aside is the name.
func openLog(dir string) (l *entryLog, aside string, err error) {
	w, err := openWAL(dir)
	if errors.Is(err, wal.ErrCorrupt) {
		if aside, err = cutTail(dir); err == nil {
			w, err = openWAL(dir)
		}
	}
	if errors.Is(err, wal.ErrCorrupt) {
		aside = dir + ".bad-" + strconv.FormatInt(time.Now().UnixNano(), 10)
		if err = os.Rename(dir, aside); err == nil {
			w, err = openWAL(dir)
		}
	}
	if err != nil {
		return nil, aside, fmt.Errorf("audit spool %s: %w", dir, err)
	}
	l = &entryLog{dir: dir, log: w}
	if l.last, err = w.LastIndex(); err != nil {
		return nil, aside, errors.Join(err, w.Close())
	}
	return l, aside, nil
}

func openWAL(dir string) (*wal.Log, error) {
	return wal.Open(dir, &wal.Options{
		NoSync: true, SegmentSize: segmentSize, SegmentCacheSize: 2, NoCopy: true, AllowEmpty: true, DirPerms: 0o700, FilePerms: 0o600,
	})
}

// reserveBytes are kept free for compact on a full disk: some 1,500 connections live on.
const reserveBytes = 256 << 10

func reserved(dir string) string { return filepath.Join(dir, "reserve") }

// reserve takes them if they are to be had.
func reserve(dir string) {
	path := reserved(dir)
	if f, err := os.Stat(path); err == nil && f.Size() == reserveBytes {
		return
	}
	if os.WriteFile(path, make([]byte, reserveBytes), 0o600) != nil {
		_ = os.Remove(path) // of no use
	}
}

// segments returns the files that a log consists of, the one that entries are appended to
// last.
func segments(dir string) (paths []string, err error) {
	files, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if len(f.Name()) == segmentName && !f.IsDir() {
			paths = append(paths, filepath.Join(dir, f.Name()))
		}
	}
	return paths, nil
}

// segmentName is the length of a segment's name, which is the index of its first entry.
const segmentName = 20

// lastSegment returns the file that entries are appended to; "" if there is none.
func lastSegment(dir string) (string, error) {
	paths, err := segments(dir)
	if err != nil || len(paths) == 0 {
		return "", err
	}
	return paths[len(paths)-1], nil
}

// whole returns how many entries a segment begins with, at most limit, and their size. An
// entry is a varint with its length, and its bytes.
func whole(b []byte, limit uint64) (entries uint64, size int) {
	for entries < limit {
		n, used := binary.Uvarint(b[size:])
		if used <= 0 || n > uint64(len(b)-size-used) {
			break
		}
		size += used + int(n)
		entries++
	}
	return entries, size
}

// unfinished bounds what is left of an entry that was not written to its end.
const unfinished = 4 << 10

// cutTail removes an unfinished entry from the end of a log: a write of which the
// kernel took a part when the process was killed, or the machine crashed. If it is more,
// there is damage with entries behind it: that is put aside, in a file of this name.
func cutTail(dir string) (aside string, err error) {
	path, err := lastSegment(dir)
	if err != nil || path == "" {
		return "", err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	_, size := whole(b, math.MaxUint64)
	if len(b)-size > unfinished {
		aside = dir + ".bad-tail-" + strconv.FormatInt(time.Now().UnixNano(), 10)
		if err := os.WriteFile(aside, b[size:], 0o600); err != nil {
			return "", err
		}
	}
	return aside, os.Truncate(path, int64(size))
}

// mend makes the segments before the last, of which opening a log reads nothing, such that
// each of their entries can be read: in one that is damaged, those from the damage on become
// empty ones. What it was is put aside, as <dir>.bad-<index>-<time>.
func mend(dir string) (aside []string, err error) {
	paths, err := segments(dir)
	if err != nil || len(paths) == 0 {
		return nil, err
	}
	next, err := firstIndex(paths[len(paths)-1])
	for _, path := range slices.Backward(paths[:len(paths)-1]) {
		if err != nil {
			break
		}
		end := next
		if next, err = firstIndex(path); err != nil {
			break
		}
		var b []byte
		if b, err = os.ReadFile(path); err != nil {
			break
		}
		n, size := whole(b, end-next)
		if n == end-next && size == len(b) {
			continue
		}
		bad := dir + ".bad-" + strconv.FormatUint(next, 10) + "-" + strconv.FormatInt(time.Now().UnixNano(), 10)
		if err = os.Rename(path, bad); err == nil {
			aside = append(aside, bad)
			err = os.WriteFile(path, append(b[:size:size], make([]byte, end-next-n)...), 0o600) // an empty entry is a zero
		}
	}
	if err != nil {
		return aside, fmt.Errorf("audit spool %s: %w", dir, err)
	}
	return aside, nil
}

func firstIndex(segment string) (uint64, error) {
	return strconv.ParseUint(filepath.Base(segment), 10, 64)
}

// append writes entries, given by their ends in data, and returns the index of the
// first. After an error the log must be closed and opened again.
func (l *entryLog) append(data []byte, ends []int) (first uint64, err error) {
	var b wal.Batch
	begin := 0
	first = l.last + 1
	for i, end := range ends {
		b.Write(first+uint64(i), data[begin:end])
		begin = end
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.log.WriteBatch(&b); err != nil {
		return 0, err
	}
	l.last += uint64(len(ends))
	return first, nil
}

// read calls f with the entries from index first on, until it returns false or there
// are no more. f may not keep what it gets.
func (l *entryLog) read(first uint64, f func(index uint64, entry []byte) bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	begin, err := l.log.FirstIndex()
	if err != nil {
		return err
	}
	for i := max(first, begin); i <= l.last; i++ {
		b, err := l.log.Read(i)
		if err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if !f(i, b) {
			return nil
		}
	}
	return nil
}

// dropTo removes the entries up to an index.
func (l *entryLog) dropTo(index uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	begin, err := l.log.FirstIndex()
	if err != nil || index < begin {
		return err
	}
	return l.log.TruncateFront(index + 1)
}

// sync makes what was appended survive a crash of the machine. It does not hold up the
// others: the library's own would.
func (l *entryLog) sync() error {
	path, err := lastSegment(l.dir)
	if err != nil || path == "" {
		return err
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it was replaced just now, by one that is on disk
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (l *entryLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Close()
}
