package relaytest

import (
	"errors"
	"io"
	"math/rand/v2"
)

// narrow: several connections at once, with sockets that hold little, carry bytes both
// ways in pieces of all sizes: each is read and written in part only, again and again,
// and whoever waits must be woken every time. The kernel takes 200 ms for each window's
// worth where that is less than a segment, so there is not much to carry.
func narrow(r *run) {
	conns, n := 64, int64(96<<10)
	switch {
	case r.Lossy:
		conns, n = 4, 64<<10
	case Full():
		n = 2 << 20
	}
	var all []<-chan error
	for i := range conns {
		c, d := r.open()
		for k, ends := range [][2]End{{c, d}, {d, c}} {
			from, to, seed := ends[0], ends[1], byte(2*i+k)
			shrink(from, 4<<10<<(i%5)) // 4 to 64 KiB
			shrink(to, 4<<10<<(i%3))
			all = append(all,
				begin(func() error { return errors.Join(newStream(seed).write(from, n), from.CloseWrite()) }),
				begin(func() error {
					sip := &sips{from: to, random: rand.New(rand.NewPCG(uint64(seed), 1))}
					if err := newStream(seed).verify(sip, n); err != nil {
						return err
					}
					if m, err := to.Read(make([]byte, 1)); m != 0 || err != io.EOF {
						return errors.Join(errors.New("no FIN after the last byte"), err)
					}
					return nil
				}))
		}
	}
	r.all(all...)
}

// shrink bounds what a socket holds, where it lets itself be told.
func shrink(e End, size int) {
	if s, ok := e.(interface {
		SetReadBuffer(int) error
		SetWriteBuffer(int) error
	}); ok {
		_, _ = s.SetReadBuffer(size), s.SetWriteBuffer(size) // a wish
	}
}

// sips reads a little at one time and much at another.
type sips struct {
	from   io.Reader
	random *rand.Rand
}

// Read implements io.Reader.
func (s *sips) Read(b []byte) (int, error) {
	return s.from.Read(b[:min(len(b), 1+s.random.IntN(1<<s.random.IntN(18)))])
}
