package tuntest

import (
	"errors"
	"os"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPairCarriesBatchesBothWays(t *testing.T) {
	a, b := NewPair(100)
	for _, p := range [][2]*Channel{{a, b}, {b, a}} {
		if n, err := p[0].Write([][]byte{[]byte("__one"), []byte("__two"), make([]byte, 103)}, 2); n != 2 || err != nil {
			t.Errorf("write: %d, %v, want the 2 that fit the MTU", n, err)
		}
		bufs, sizes := [][]byte{make([]byte, 10), make([]byte, 10), make([]byte, 10)}, make([]int, 3)
		n, err := p[1].Read(bufs, sizes, 4)
		if n != 2 || err != nil || string(bufs[0][4:4+sizes[0]]) != "one" || string(bufs[1][4:4+sizes[1]]) != "two" {
			t.Errorf("read: %d, %v, %q", n, err, bufs)
		}
	}
	if a.Dropped() != 1 {
		t.Errorf("%d dropped, want 1", a.Dropped())
	}
	for range queueLength + 1 {
		a.Write([][]byte{{1}}, 0)
	}
	if a.Dropped() != 2 {
		t.Errorf("%d dropped, want 2: the queue is bounded", a.Dropped())
	}
}

func TestCloseWakesReaderInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := NewPair(100)
		done := make(chan error)
		go func() {
			_, err := a.Read([][]byte{make([]byte, 10)}, make([]int, 1), 0)
			done <- err
		}()
		synctest.Wait()
		a.Close()
		a.Close()
		if err := <-done; !errors.Is(err, os.ErrClosed) {
			t.Errorf("read: %v, want os.ErrClosed", err)
		}
		if _, err := a.Write([][]byte{{1}}, 0); !errors.Is(err, os.ErrClosed) {
			t.Errorf("write: %v, want os.ErrClosed", err)
		}
		if _, err := b.Write([][]byte{{1}}, 0); err != nil {
			t.Errorf("the other end: %v", err)
		}
	})
}
