package sctp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"

	psctp "github.com/pion/sctp"
)

const (
	maxOutStreams = 65535
	maxInStreams  = 2048 // streams on which we let the peer send
	// MaxMessage is the largest message that Send takes, in bytes. TS 38.412
	// leaves the size open; stock cores and gNBs stay far below.
	MaxMessage = 1 << 18

	inboxSize = 1024 // packets between the Stack's reader and pion
)

// checkMessage refuses what no association can carry.
func checkMessage(m Message, streams int) error {
	switch {
	case int(m.Stream) >= streams:
		return fmt.Errorf("%w: %d of %d", ErrStream, m.Stream, streams)
	case len(m.Data) == 0:
		return errors.New("sctp: empty message")
	case len(m.Data) > MaxMessage:
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(m.Data))
	}
	return nil
}

// assoc is an association of a Stack and a Conn. Its goroutines are pion's three
// and one that supervises the peer; all of them end when done closes.
//
// Packets come in through input, on the Stack's goroutine, which answers what
// pion cannot. The rest waits in inbox until pion's read loop takes it: see
// pionConn. That loop also moves complete messages from pion to queue, in the
// order in which they arrived, whatever their streams.
type assoc struct {
	st         *Stack
	key        assocKey
	myTag      uint32
	peerTag    uint32
	outStreams int
	local      netip.AddrPort
	dst        atomic.Pointer[netip.AddrPort] // where the carrier reaches the peer

	pion       *psctp.Association
	inbox      chan inbound
	done       chan struct{} // closed by end
	watch      watch
	supervisor sync.WaitGroup

	shutdownAckSent atomic.Bool
	violated        atomic.Bool // pion sent ABORT

	streamMu sync.Mutex
	streams  map[uint16]*psctp.Stream

	wake chan struct{} // one token: Recv should look

	mu         sync.Mutex // guards what follows
	queue      []Message
	queued     int   // bytes in queue
	stopped    bool  // Close or Abort was called
	recvErr    error // once queue is empty
	ended      bool
	space      chan struct{} // closed and replaced when the send buffer may have room
	sack       []byte        // value of the last SACK sent
	advertised int           // window in it
	parked     *inbound      // DATA that came while the window was closed
}

// establishLocked makes the association whose handshake has ended. The Stack's
// mutex is held.
func (st *Stack) establishLocked(k assocKey, mine, peer initChunk, from netip.AddrPort, to netip.Addr) (*assoc, error) {
	if !to.IsValid() {
		to = st.carrier.LocalAddr()
	}
	a := &assoc{
		st: st, key: k, myTag: mine.tag, peerTag: peer.tag,
		outStreams: int(min(mine.outbound, peer.inbound)),
		local:      netip.AddrPortFrom(to, k.local),
		inbox:      make(chan inbound, inboxSize),
		done:       make(chan struct{}),
		streams:    make(map[uint16]*psctp.Stream),
		wake:       make(chan struct{}, 1),
		space:      make(chan struct{}),
	}
	a.dst.Store(&from)
	a.watch.init(mine.tsn)
	var err error
	a.pion, err = psctp.ClientWithOptions(
		psctp.WithNetConn(&pionConn{a: a}),
		psctp.WithSNAP(appendChunk(nil, ctInit, 0, mine.append(nil)), appendChunk(nil, ctInit, 0, peer.append(nil))),
		psctp.WithLoggerFactory(noLog{}),
		psctp.WithEnableInterleaving(false),
		psctp.WithMTU(uint32(st.cfg.MTU)),
		psctp.WithMaxReceiveBufferSize(uint32(st.cfg.Window)),
		psctp.WithMaxMessageSize(MaxMessage),
		psctp.WithRTOMax(float64(st.cfg.RTOMax.Milliseconds())),
	)
	if err != nil {
		return nil, fmt.Errorf("establish: %w", err)
	}
	st.assocs[k] = a
	st.used[k.local]++
	a.supervisor.Go(a.supervise)
	return a, nil
}

// tagFits checks the verification tag, clause 8.5.1.
func (a *assoc) tagFits(tag uint32, first chunk) bool {
	if (first.typ == ctAbort || first.typ == ctShutdownComplete) && first.flags&flagT != 0 {
		return tag == a.peerTag
	}
	return tag == a.myTag
}

// LocalAddr has the address that the peer used, or the bound one where the
// carrier cannot tell.
func (a *assoc) LocalAddr() netip.AddrPort { return a.local }

// RemoteAddr has the peer's SCTP port.
func (a *assoc) RemoteAddr() netip.AddrPort { return netip.AddrPortFrom(a.key.peer, a.key.remote) }

// Recv is Conn's.
func (a *assoc) Recv(ctx context.Context) (Message, error) {
	for {
		a.mu.Lock()
		if len(a.queue) > 0 {
			m := a.queue[0]
			a.queue[0] = Message{}
			a.queue = a.queue[1:]
			a.queued -= len(m.Data)
			update := a.windowUpdateLocked()
			var parked *inbound
			if update != nil {
				parked, a.parked = a.parked, nil
			}
			a.mu.Unlock()
			switch {
			case parked != nil: // its SACK updates the window
				a.push(*parked)
			case update != nil:
				a.writeChunk(ctSack, 0, update)
			}
			return m, nil
		}
		err := a.recvErr
		a.mu.Unlock()
		if err != nil {
			return Message{}, err
		}
		select {
		case <-a.wake:
		case <-ctx.Done():
			return Message{}, ctx.Err()
		}
	}
}

// Send is Conn's.
func (a *assoc) Send(ctx context.Context, m Message) error {
	if err := checkMessage(m, a.outStreams); err != nil {
		return err
	}
	for {
		a.mu.Lock()
		err, space := a.sendErrLocked(), a.space
		a.mu.Unlock()
		if err != nil {
			return err
		}
		if n := a.pion.BufferedAmount(); n == 0 || n+len(m.Data) <= a.st.cfg.Window {
			break
		}
		select {
		case <-space:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s, err := a.stream(m.Stream)
	if err == nil {
		_, err = s.WriteSCTP(m.Data, psctp.PayloadProtocolIdentifier(m.PPID))
	}
	if err != nil { // the association ended, or is ending, meanwhile
		a.mu.Lock()
		defer a.mu.Unlock()
		if end := a.sendErrLocked(); end != nil {
			return end
		}
		if errors.Is(err, psctp.ErrPayloadDataStateNotExist) || errors.Is(err, psctp.ErrAssociationClosed) {
			return ErrShutdown
		}
		return fmt.Errorf("sctp: send to %s: %w", a.RemoteAddr(), err)
	}
	return nil
}

func (a *assoc) sendErrLocked() error {
	switch {
	case a.stopped:
		return ErrClosed
	case a.recvErr == io.EOF: //nolint:errorlint // ours, never wrapped
		return ErrShutdown
	}
	return a.recvErr
}

// stop makes Recv and Send return ErrClosed and discards what was not received.
// It reports false the second time.
func (a *assoc) stop() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return false
	}
	a.stopped = true
	a.recvErr = ErrClosed
	a.queue, a.queued = nil, 0
	a.notifyLocked()
	return true
}

func (a *assoc) notifyLocked() {
	close(a.space)
	a.space = make(chan struct{})
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// end finishes the association with what Recv shall say; the first call counts.
func (a *assoc) end(err error) {
	a.mu.Lock()
	if a.ended {
		a.mu.Unlock()
		return
	}
	a.ended = true
	if a.recvErr == nil {
		a.recvErr = err
	}
	a.notifyLocked()
	close(a.done)
	a.mu.Unlock()
	a.st.remove(a)
}

// Close is Conn's. It returns once the peer has confirmed the SHUTDOWN, or the
// association was over before; ctx.Err() if it had to abort; ErrClosed the second
// time.
func (a *assoc) Close(ctx context.Context) error {
	if !a.stop() {
		return ErrClosed
	}
	err := a.pion.Shutdown(ctx)
	if errors.Is(err, psctp.ErrShutdownNonEstablished) { // over, or the peer was first
		select {
		case <-a.done:
			err = nil
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		a.Abort()
		return err
	}
	a.end(ErrClosed)
	a.join()
	return nil
}

// Abort is Conn's.
func (a *assoc) Abort() {
	a.stop()
	select {
	case <-a.done:
	default:
		a.writeChunk(ctAbort, 0, appendTLV(nil, causeUserAbort, nil))
	}
	a.end(ErrClosed)
	a.join()
}

func (a *assoc) join() {
	_ = a.pion.Close() // only our pionConn's Close can fail, and it does not
	a.supervisor.Wait()
}

// writeChunk sends one chunk of our own past pion.
func (a *assoc) writeChunk(typ chunkType, flags uint8, value []byte) {
	b := newPacket(a.key.local, a.key.remote, a.peerTag, padded(chunkHeader+len(value)))
	a.st.write(seal(appendChunk(b, typ, flags, value)), a.local.Addr(), *a.dst.Load())
}
