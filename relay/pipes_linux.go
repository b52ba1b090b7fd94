package relay

import "golang.org/x/sys/unix"

const (
	// pipeSize is asked for; where the kernel refuses, its default serves.
	pipeSize = 1 << 20
	// sparePipes is how many empty pipes a loop keeps.
	sparePipes = 8
	// maxPipes bounds a loop's pipes, each of two descriptors: those in use hold bytes
	// for a side that is slow. Bytes of further links are copied, not spliced.
	maxPipes = 512
)

// noPipe is the index of no pipe.
const noPipe = -1

// pipe is a kernel buffer that bytes are spliced through.
type pipe struct {
	r, w int32
	size int32
}

// pipes belong to one loop.
type pipes struct {
	limit int
	all   []pipe // closed ones are in gone
	spare []int32
	gone  []int32
}

// take returns the index of an empty pipe, or noPipe.
func (p *pipes) take() int32 {
	if n := len(p.spare); n > 0 {
		i := p.spare[n-1]
		p.spare = p.spare[:n-1]
		return i
	}
	if len(p.all)-len(p.gone) >= p.limit {
		return noPipe
	}
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return noPipe
	}
	size, err := unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	if err != nil { // more than an unprivileged user may have
		size, err = unix.FcntlInt(uintptr(fds[0]), unix.F_GETPIPE_SZ, 0)
	}
	if err != nil || size < bufferedMax { // the user has too many of them
		unix.Close(fds[0])
		unix.Close(fds[1])
		return noPipe
	}
	new := pipe{r: int32(fds[0]), w: int32(fds[1]), size: int32(size)}
	if n := len(p.gone); n > 0 {
		i := p.gone[n-1]
		p.gone = p.gone[:n-1]
		p.all[i] = new
		return i
	}
	p.all = append(p.all, new)
	return int32(len(p.all) - 1)
}

// release takes a pipe back; one that is not empty is closed.
func (p *pipes) release(i int32, empty bool) {
	if empty && len(p.spare) < sparePipes {
		p.spare = append(p.spare, i)
		return
	}
	closeFD(p.all[i].r)
	closeFD(p.all[i].w)
	p.gone = append(p.gone, i)
}

// close closes the spare ones; no other is left when a loop ends.
func (p *pipes) close() {
	for _, i := range p.spare {
		closeFD(p.all[i].r)
		closeFD(p.all[i].w)
	}
	p.spare = nil
}
