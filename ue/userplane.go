package ue

import (
	"context"
	"sync/atomic"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/tun"
)

// plane is the user plane of one PDU session, shared by the loop, the session's
// reader and the radio's receiver without a lock.
type plane struct {
	path atomic.Pointer[path]   // nil: no bearer
	dev  atomic.Pointer[device] // nil: no interface
	ask  atomic.Bool            // the loop has been told that packets wait

	upPackets, upBytes, upDropped atomic.Uint64
	downPackets, downBytes        atomic.Uint64
}

type path struct {
	radio Radio
	qfi   ident.QFI
}

type device struct{ tun.Device }

func (p *plane) count(s *SessionStatus) {
	s.UplinkPackets, s.UplinkBytes, s.UplinkDropped = p.upPackets.Load(), p.upBytes.Load(), p.upDropped.Load()
	s.DownlinkPackets, s.DownlinkBytes = p.downPackets.Load(), p.downBytes.Load()
}

// iface is the IP interface of a session, open or being opened.
type iface struct {
	cancel context.CancelFunc
	opened chan struct{} // closed when Host.Up has returned
	dev    tun.Device    // set on the loop
}

// openInterface calls Host.Up off the loop. An interface of the same session that
// is still being opened is waited for, so that a Host sees one at a time.
func (l *loop) openInterface(ctx context.Context, info SessionInfo) {
	l.closeInterface(info.ID)
	before := l.ifaces[info.ID]
	ctx, cancel := context.WithCancel(ctx)
	f := &iface{cancel: cancel, opened: make(chan struct{})}
	l.ifaces[info.ID] = f
	u := l.u
	l.wg.Go(func() {
		if before != nil {
			<-before.opened
		}
		dev, err := u.deps.Host.Up(ctx, info)
		close(f.opened)
		posted := u.post(ctx, func(l *loop) {
			if l.ifaces[info.ID] != f || ctx.Err() != nil {
				if err == nil {
					dev.Close()
				}
				return
			}
			if err == nil {
				f.dev = dev
				u.planes[info.ID].dev.Store(&device{dev})
				l.wg.Go(func() { u.uplink(info.ID, dev) })
			}
			l.m.interfaceUp(info, err)
		})
		if posted != nil && err == nil {
			dev.Close()
		}
	})
}

func (l *loop) closeInterface(id ident.PDUSessionID) {
	f := l.ifaces[id]
	if f == nil {
		return
	}
	f.cancel()
	l.u.planes[id].dev.Store(nil)
	if f.dev != nil {
		f.dev.Close()
		f.dev = nil
	}
}

func (l *loop) closeInterfaces() {
	for id := range l.ifaces {
		l.closeInterface(id)
	}
}

// maxBatch bounds the packets read at once: 64 buffers of one MTU per session.
const maxBatch = 64

// uplink moves packets from the interface to the radio until the interface closes.
func (u *UE) uplink(id ident.PDUSessionID, dev tun.Device) {
	p := &u.planes[id]
	n := max(1, min(dev.BatchSize(), maxBatch))
	bufs, sizes, packets := make([][]byte, n), make([]int, n), make([][]byte, n)
	for i := range bufs {
		bufs[i] = make([]byte, max(dev.MTU(), 1500))
	}
	for {
		k, err := dev.Read(bufs, sizes, 0)
		if err != nil {
			return
		}
		to := p.path.Load()
		if to == nil {
			p.upDropped.Add(uint64(k))
			u.askForBearer(id, p)
			continue
		}
		total := 0
		for i := range k {
			packets[i] = bufs[i][:sizes[i]]
			total += sizes[i]
		}
		p.upPackets.Add(uint64(k))
		p.upBytes.Add(uint64(total))
		to.radio.SendPackets(id, to.qfi, packets[:k])
	}
}

// askForBearer tells the loop once that packets wait; it never blocks.
func (u *UE) askForBearer(id ident.PDUSessionID, p *plane) {
	if !p.ask.CompareAndSwap(false, true) {
		return
	}
	select {
	case u.inbox <- func(l *loop) { p.ask.Store(false); l.m.uplinkPending(id) }:
	default:
		p.ask.Store(false)
	}
}

// downlink is the radio's receiver.
func (u *UE) downlink(id ident.PDUSessionID, packets [][]byte) {
	if int(id) >= len(u.planes) {
		return
	}
	p := &u.planes[id]
	dev := p.dev.Load()
	if dev == nil {
		return
	}
	n, err := dev.Write(packets, 0)
	if err != nil {
		n = max(n, 0) // the interface is closing
	}
	total := 0
	for _, b := range packets[:n] {
		total += len(b)
	}
	p.downPackets.Add(uint64(n))
	p.downBytes.Add(uint64(total))
}
