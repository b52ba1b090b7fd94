package rpc

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"
)

// A message leaves with its prefix, whole if it fits, and nothing is lost or added
// however the bytes come and however small the buffer is.
func TestMessagesAreWhole(t *testing.T) {
	one := append([]byte{0, 0, 0, 0, 3}, "abc"...)
	two := append([]byte{0, 0, 0, 1, 0}, bytes.Repeat([]byte("x"), 256)...)
	empty := []byte{2, 0, 0, 0, 0}
	stream := bytes.Join([][]byte{one, two, empty, one}, nil)
	m := &messages{ReadCloser: io.NopCloser(iotest.OneByteReader(bytes.NewReader(stream)))}
	buf := make([]byte, 512)
	for _, want := range [][]byte{one, two, empty, one} {
		n, err := m.Read(buf)
		if err != nil || !bytes.Equal(buf[:n], want) {
			t.Errorf("read %q, %v; want %q", buf[:n], err, want)
		}
	}
	if n, err := m.Read(buf); n != 0 || err != io.EOF {
		t.Errorf("at the end %d, %v", n, err)
	}
	for _, size := range []int{1, 4, 5, 6, 100} {
		for cut := range len(stream) + 1 {
			m := &messages{ReadCloser: io.NopCloser(iotest.HalfReader(bytes.NewReader(stream[:cut])))}
			var got []byte
			for {
				n, err := m.Read(buf[:size])
				got = append(got, buf[:n]...)
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got, stream[:cut]) {
				t.Fatalf("buffer of %d, cut at %d: %q; want %q", size, cut, got, stream[:cut])
			}
		}
	}
}
