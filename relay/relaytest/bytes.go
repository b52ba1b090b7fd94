package relaytest

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
)

// stream is an endless text that only its seed knows: a byte that is lost, doubled or
// moved shows.
type stream struct{ random *rand.ChaCha8 }

func newStream(seed byte) stream { return stream{rand.NewChaCha8([32]byte{seed})} }

// write sends n bytes in writes of changing sizes.
func (s stream) write(to io.Writer, n int64) error {
	buf := make([]byte, 256<<10)
	sizes := rand.New(rand.NewPCG(1, uint64(n)))
	for n > 0 {
		b := buf[:min(int64(1+sizes.IntN(len(buf))), n)]
		_, _ = s.random.Read(b) // never fails
		if _, err := to.Write(b); err != nil {
			return fmt.Errorf("%d bytes before the end: %w", n, err)
		}
		n -= int64(len(b))
	}
	return nil
}

// verify reads n bytes that must be the stream's.
func (s stream) verify(from io.Reader, n int64) error {
	got, want := make([]byte, 256<<10), make([]byte, 256<<10)
	for left := n; left > 0; {
		m, err := from.Read(got[:min(int64(len(got)), left)])
		_, _ = s.random.Read(want[:m])
		if !bytes.Equal(got[:m], want[:m]) {
			return fmt.Errorf("the bytes from %d on are not those that were sent", n-left)
		}
		if left -= int64(m); err != nil && left > 0 {
			return fmt.Errorf("%d of %d bytes arrived: %w", n-left, n, err)
		}
	}
	return nil
}

// expectEnd fails unless the next read says EOF.
func (r *run) expectEnd(from io.Reader, why string) {
	if n, err := from.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		r.stop("%s: read %d bytes, %v; want EOF", why, n, err)
	}
}

func (r *run) say(to io.Writer, text string) {
	_, err := io.WriteString(to, text)
	r.must(err, "write")
}

func (r *run) hear(from io.Reader, text, why string) {
	got := make([]byte, len(text))
	if _, err := io.ReadFull(from, got); err != nil || string(got) != text {
		r.stop("%s: read %q, %v; want %q", why, got, err, text)
	}
}

// all waits for goroutines, each of which reports once, and fails with the first error.
func (r *run) all(errs ...<-chan error) {
	for _, e := range errs {
		r.must(<-e, "copy")
	}
}

// begin runs f in a goroutine of the case.
func begin(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}
