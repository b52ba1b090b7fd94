package rpc

import (
	"encoding/binary"
	"fmt"
	"io"
)

// On a connection for questions both sides send frames: a length of four bytes, the
// most significant first, and a message of that many bytes (question.go). A frame without
// a message is a ping from the relay, and the manager's answer to it.
const (
	lengthSize = 4
	// maxQuestion and maxRoute bound the message of a frame: a question has two
	// addresses and some names, an answer also a ticket and the ranges of an entry
	// and one of its devices together, at most 128.
	maxQuestion = 4 << 10
	maxRoute    = 64 << 10
	readSize    = 16 << 10
)

// frames reads frames, as many as come with one read. It belongs to one goroutine.
type frames struct {
	from     io.Reader
	max      int // bytes of one message
	buf      []byte
	at, upTo int // what of buf has been read and not returned
}

func newFrames(from io.Reader, longest int) *frames {
	return &frames{from: from, max: longest, buf: make([]byte, readSize)}
}

// fill reads once, and at least one byte if err is nil. The errors are those of the
// connection.
func (f *frames) fill() error {
	if f.at > 0 {
		f.upTo = copy(f.buf, f.buf[f.at:f.upTo])
		f.at = 0
	}
	if need := f.missing(); need > len(f.buf) {
		f.buf = append(make([]byte, 0, need), f.buf[:f.upTo]...)[:need]
	}
	n, err := f.from.Read(f.buf[f.upTo:])
	f.upTo += n
	if n > 0 {
		return nil // the error comes again
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// missing returns the size of the frame that begins the buffer, of which next has checked
// the length; 0 if that is not known.
func (f *frames) missing() int {
	if f.upTo-f.at < lengthSize {
		return 0
	}
	return lengthSize + int(binary.BigEndian.Uint32(f.buf[f.at:]))
}

// next returns the message of the next frame, which is valid until fill; false if fill
// must be called first. errMessage: it is too long, and nothing behind it can be read.
func (f *frames) next() ([]byte, bool, error) {
	if f.upTo-f.at < lengthSize {
		return nil, false, nil
	}
	length := binary.BigEndian.Uint32(f.buf[f.at:])
	if int64(length) > int64(f.max) {
		return nil, false, fmt.Errorf("%w: a frame of %d bytes", errMessage, length)
	}
	end := f.at + lengthSize + int(length)
	if end > f.upTo {
		return nil, false, nil
	}
	m := f.buf[f.at+lengthSize : end : end]
	f.at = end
	return m, true, nil
}

// appendPing appends a frame without a message.
func appendPing(b []byte) []byte { return append(b, 0, 0, 0, 0) }

// beginFrame appends room for a length, which endFrame fills in.
func beginFrame(b []byte) ([]byte, int) { return append(b, 0, 0, 0, 0), len(b) }

func endFrame(b []byte, begin int) []byte {
	binary.BigEndian.PutUint32(b[begin:], uint32(len(b)-begin-lengthSize))
	return b
}
