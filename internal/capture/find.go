package capture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/gopacket/pcapgo"
)

// Find reports, for each needle, whether one of the packets written so far holds it.
// After Close it fails.
func (c *File) Find(needles [][]byte) ([]bool, error) {
	c.mu.Lock()
	if c.f == nil {
		c.mu.Unlock()
		return nil, errors.New("capture: the file is closed")
	}
	err := errors.Join(c.err, c.buf.Flush())
	path := c.f.Name()
	c.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("capture %s: %w", path, err)
	}
	found := make([]bool, len(needles))
	for {
		packet, _, err := r.ReadPacketData()
		// The last packet may have been written in part by now.
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("capture %s: %w", path, err)
		}
		for i, n := range needles {
			found[i] = found[i] || bytes.Contains(packet, n)
		}
	}
}

// Find is File.Find of what has been captured so far.
func (l *Live) Find(needles [][]byte) ([]bool, error) { return l.file.Find(needles) }
