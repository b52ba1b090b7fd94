package inproc

import (
	"time"

	"github.com/simreach/simreach/internal/capture"
	"github.com/simreach/simreach/internal/tun"
)

// tap is a Device that records what passes.
type tap struct {
	tun.Device
	file *capture.File
}

// Read implements tun.Device.
func (t tap) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	n, err := t.Device.Read(bufs, sizes, offset)
	now := time.Now()
	for i := range n {
		t.file.Packet(now, bufs[i][offset:offset+sizes[i]])
	}
	return n, err
}

// Write implements tun.Device.
func (t tap) Write(bufs [][]byte, offset int) (int, error) {
	now := time.Now()
	for _, b := range bufs {
		t.file.Packet(now, b[offset:])
	}
	return t.Device.Write(bufs, offset)
}
