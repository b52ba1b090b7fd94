package sctp

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	firstEphemeral = 49152 // IANA's dynamic ports; wraps to zero at the end
	backlog        = 128   // associations that wait for Accept
	maxPacket      = 65535
	maxReadErrors  = 100 // in a row, after which a carrier counts as broken
)

// StackConfig is how the associations of a Stack behave. The zero value is what
// RFC 9260 clause 16 recommends.
type StackConfig struct {
	Heartbeat  time.Duration // HB.interval on an idle association; zero: 30 s; negative: no heartbeats
	MaxRetrans int           // Association.Max.Retrans: unanswered tries before the association is lost; zero: 10
	MaxInit    int           // Max.Init.Retransmits; zero: 8
	RTOInitial time.Duration // of the handshake and of heartbeats; zero: 1 s
	RTOMax     time.Duration // zero: 60 s
	Streams    int           // outbound streams asked for; zero: 64, at most 65535
	Window     int           // receive window and send buffer in bytes; zero: 1 MiB
	MTU        int           // largest SCTP packet that we send, in bytes; zero: 1400; 512 to 8192
	Log        *slog.Logger  // nil discards
}

// Validate tells what is wrong with c.
func (c StackConfig) Validate() error {
	switch {
	case c.MaxRetrans < 0, c.MaxInit < 0, c.RTOInitial < 0, c.RTOMax < 0:
		return errors.New("sctp: negative limit")
	case c.Streams < 0 || c.Streams > maxOutStreams:
		return fmt.Errorf("sctp: %d streams, want at most %d", c.Streams, maxOutStreams)
	case c.Window != 0 && (c.Window < minWindow || c.Window > 1<<30):
		return fmt.Errorf("sctp: window of %d bytes, want %d to %d", c.Window, minWindow, 1<<30)
	case c.MTU != 0 && (c.MTU < 512 || c.MTU > pionPacket):
		return fmt.Errorf("sctp: MTU %d, want 512 to %d", c.MTU, pionPacket)
	}
	return nil
}

func (c StackConfig) withDefaults() StackConfig {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	defD := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	defD(&c.Heartbeat, 30*time.Second)
	def(&c.MaxRetrans, 10)
	def(&c.MaxInit, 8)
	defD(&c.RTOInitial, time.Second)
	defD(&c.RTOMax, time.Minute)
	def(&c.Streams, 64)
	def(&c.Window, 1<<20)
	def(&c.MTU, 1400)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Stats counts what a Stack has seen. All but Associations only grow.
type Stats struct {
	Associations   int    // live now
	PacketsIn      uint64 // well-formed packets
	PacketsOut     uint64
	BadChecksum    uint64
	Malformed      uint64 // packets or chunks whose form is wrong
	BadTag         uint64 // verification tag of another association
	BadCookie      uint64 // COOKIE ECHO not ours, stale or misplaced
	OutOfTheBlue   uint64 // no association; answered or not (clause 8.4)
	UnknownChunks  uint64
	Refused        uint64 // INITs answered with ABORT
	Overrun        uint64 // packets dropped because the reader is too far behind
	Restarts       uint64
	WriteErrors    uint64
	DuplicateInits uint64 // INIT for an association or handshake that exists
}

type counters struct {
	in, out, badChecksum, malformed, badTag, badCookie, blue, unknown,
	refused, overrun, restarts, writeErrors, duplicateInits atomic.Uint64
}

// Stack is one SCTP endpoint in userspace: it multiplexes associations by peer
// address and port pair over one Carrier. It runs one goroutine, which reads the
// carrier until Close; associations own theirs.
type Stack struct {
	carrier Carrier
	cfg     StackConfig
	secret  []byte // of cookies; never logged
	count   counters
	reader  sync.WaitGroup

	mu        sync.Mutex // guards what follows
	listeners map[uint16]*listener
	assocs    map[assocKey]*assoc
	dials     map[assocKey]*dial
	used      map[uint16]int // local ports in use, and how often
	closed    bool
	retire    bool // close once the last association has gone
}

// assocKey tells associations apart (clause 1.3: we are single-homed).
type assocKey struct {
	peer          netip.Addr
	local, remote uint16
}

// NewStack starts reading the carrier, which now belongs to the Stack: Close
// closes it. cfg must be valid.
func NewStack(c Carrier, cfg StackConfig) (*Stack, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	st := &Stack{
		carrier:   c,
		cfg:       cfg.withDefaults(),
		secret:    make([]byte, 32),
		listeners: make(map[uint16]*listener),
		assocs:    make(map[assocKey]*assoc),
		dials:     make(map[assocKey]*dial),
		used:      make(map[uint16]int),
	}
	if _, err := io.ReadFull(rand.Reader, st.secret); err != nil {
		return nil, fmt.Errorf("sctp: cookie secret: %w", err)
	}
	st.reader.Go(st.read)
	return st, nil
}

// Close aborts every association, closes listeners and carrier and joins the
// reader.
func (st *Stack) Close() error {
	st.mu.Lock()
	if st.closed {
		st.mu.Unlock()
		return ErrClosed
	}
	st.closed = true
	var ls []*listener
	for _, l := range st.listeners {
		ls = append(ls, l)
	}
	var as []*assoc
	for _, a := range st.assocs {
		as = append(as, a)
	}
	for _, d := range st.dials {
		d.fail(ErrClosed)
	}
	st.mu.Unlock()
	for _, l := range ls {
		_ = l.Close()
	}
	for _, a := range as {
		a.Abort()
	}
	err := st.carrier.Close()
	st.reader.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("sctp: close carrier: %w", err)
	}
	return nil
}

// closeWhenIdle closes the carrier now or after the last association. It joins
// the reader only in the first case.
func (st *Stack) closeWhenIdle() {
	st.mu.Lock()
	st.retire = true
	idle := st.idleLocked()
	st.mu.Unlock()
	if idle {
		_ = st.carrier.Close()
		st.reader.Wait()
	}
}

func (st *Stack) idleLocked() bool {
	if st.retire && len(st.assocs) == 0 && len(st.dials) == 0 && len(st.listeners) == 0 {
		st.closed = true
		return true
	}
	return false
}

// Stats is a copy of the counters.
func (st *Stack) Stats() Stats {
	st.mu.Lock()
	n := len(st.assocs)
	st.mu.Unlock()
	c := &st.count
	return Stats{
		Associations: n, PacketsIn: c.in.Load(), PacketsOut: c.out.Load(), BadChecksum: c.badChecksum.Load(),
		Malformed: c.malformed.Load(), BadTag: c.badTag.Load(), BadCookie: c.badCookie.Load(),
		OutOfTheBlue: c.blue.Load(), UnknownChunks: c.unknown.Load(), Refused: c.refused.Load(),
		Overrun: c.overrun.Load(), Restarts: c.restarts.Load(), WriteErrors: c.writeErrors.Load(),
		DuplicateInits: c.duplicateInits.Load(),
	}
}

// Listen accepts associations to port; zero chooses a free one. Closing the
// listener leaves accepted associations alone.
func (st *Stack) Listen(port uint16) (Listener, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return nil, ErrClosed
	}
	if port == 0 {
		var err error
		if port, err = st.freePortLocked(); err != nil {
			return nil, err
		}
	} else if st.listeners[port] != nil {
		return nil, fmt.Errorf("sctp: listen on port %d: address in use", port)
	}
	l := &listener{
		st:    st,
		addr:  netip.AddrPortFrom(st.carrier.LocalAddr(), port),
		ready: make(chan *assoc, backlog),
		done:  make(chan struct{}),
	}
	st.listeners[port] = l
	st.used[port]++
	return l, nil
}

// freePortLocked draws an ephemeral port.
func (st *Stack) freePortLocked() (uint16, error) {
	for range 1 << 10 {
		port := uint16(randomTag()) | firstEphemeral
		if st.used[port] == 0 {
			return port, nil
		}
	}
	return 0, errors.New("sctp: no free port")
}

func (st *Stack) releaseLocked(port uint16) {
	if st.used[port]--; st.used[port] <= 0 {
		delete(st.used, port)
	}
}

// randomTag is a random number other than zero. Tags and initial TSNs must not
// be guessed (clause 5.3.1), so they come from the cryptographic source, whose
// Read never fails.
func randomTag() uint32 {
	for {
		var b [4]byte
		_, _ = rand.Read(b[:])
		if v := binary.BigEndian.Uint32(b[:]); v != 0 {
			return v
		}
	}
}

// remove takes an association out that has ended.
func (st *Stack) remove(a *assoc) {
	st.mu.Lock()
	if st.assocs[a.key] == a {
		delete(st.assocs, a.key)
	}
	st.releaseLocked(a.key.local)
	idle := !st.closed && st.idleLocked()
	st.mu.Unlock()
	if idle {
		_ = st.carrier.Close()
	}
}

// write sends a sealed packet. Errors count: for SCTP they are loss.
func (st *Stack) write(b []byte, src netip.Addr, dst netip.AddrPort) {
	if err := st.carrier.WritePacket(b, src, dst); err != nil {
		st.count.writeErrors.Add(1)
		return
	}
	st.count.out.Add(1)
}

// read is the Stack's goroutine.
func (st *Stack) read() {
	buf := make([]byte, maxPacket)
	chunks := make([]chunk, 0, 64)
	for failed := 0; ; {
		n, src, dst, err := st.carrier.ReadPacket(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if failed++; failed == maxReadErrors {
				st.cfg.Log.Error("sctp carrier does not read any more, associations will be lost", "error", err)
				return
			}
			continue
		}
		failed = 0
		p, err := parsePacket(buf[:n], chunks)
		switch {
		case errors.Is(err, errChecksum):
			st.count.badChecksum.Add(1)
		case err != nil:
			st.count.malformed.Add(1)
		default:
			chunks = p.chunks
			st.count.in.Add(1)
			st.handle(p, netip.AddrPortFrom(src.Addr().Unmap(), src.Port()), dst.Unmap())
		}
	}
}

// handle routes one packet. from is the peer as the carrier names it, to the
// local address.
func (st *Stack) handle(p packet, from netip.AddrPort, to netip.Addr) {
	if from.Addr().IsMulticast() || to.IsMulticast() || from.Addr().IsUnspecified() {
		st.count.blue.Add(1)
		return // clause 8.4 rule 1
	}
	k := assocKey{from.Addr(), p.dst, p.src}
	first := p.chunks[0]
	for i, c := range p.chunks {
		if (c.typ == ctInit || c.typ == ctInitAck || c.typ == ctShutdownComplete) && (len(p.chunks) > 1 || i > 0) {
			st.count.malformed.Add(1) // clause 6.10: never bundled
			return
		}
	}
	switch first.typ {
	case ctInit:
		st.onInit(k, p, from, to)
		return
	case ctCookieEcho:
		st.onCookieEcho(k, p, from, to)
		return
	}
	st.mu.Lock()
	a, d := st.assocs[k], st.dials[k]
	st.mu.Unlock()
	switch {
	case a != nil:
		if !a.tagFits(p.tag, first) {
			st.count.badTag.Add(1)
			return
		}
		if first.typ != ctInitAck { // a late one: clause 5.2.3
			a.input(p, p.chunks, from)
		}
	case d != nil && first.typ != ctShutdownAck: // clause 8.5.1 E)
		st.onDialPacket(d, p, from, to)
	default:
		st.outOfTheBlue(p, from, to)
	}
}

// outOfTheBlue answers a packet without association, clause 8.4.
func (st *Stack) outOfTheBlue(p packet, from netip.AddrPort, to netip.Addr) {
	st.count.blue.Add(1)
	for _, c := range p.chunks {
		switch c.typ {
		case ctAbort, ctShutdownComplete, ctCookieAck: // rules 2, 6 and 7
			return
		case ctError:
			if firstCause(c.value) == causeStaleCookie {
				return
			}
		}
	}
	if !st.answersFor(p.dst) {
		return
	}
	typ := ctAbort
	if p.chunks[0].typ == ctShutdownAck { // rule 5
		typ = ctShutdownComplete
	}
	b := newPacket(p.dst, p.src, p.tag, chunkHeader)
	st.write(seal(appendChunk(b, typ, flagT, nil)), to, from)
}

// answersFor tells whether an unknown packet for port is ours to answer. On a
// raw socket another process may own the port.
func (st *Stack) answersFor(port uint16) bool {
	st.mu.Lock()
	owned := st.used[port] > 0
	st.mu.Unlock()
	if owned {
		return true
	}
	if c, ok := st.carrier.(sharedCarrier); ok {
		return c.Exclusive()
	}
	return true
}

// listener is a port of a Stack.
type listener struct {
	st    *Stack
	addr  netip.AddrPort
	owner bool // Close also retires the Stack
	ready chan *assoc
	done  chan struct{}
}

func (l *listener) Accept(ctx context.Context) (Conn, error) {
	select {
	case <-l.done:
		return nil, ErrClosed
	default:
	}
	select {
	case a := <-l.ready:
		return a, nil
	case <-l.done:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *listener) Addr() netip.AddrPort { return l.addr }

func (l *listener) Close() error {
	l.st.mu.Lock()
	if l.st.listeners[l.addr.Port()] != l {
		l.st.mu.Unlock()
		return ErrClosed
	}
	delete(l.st.listeners, l.addr.Port())
	l.st.releaseLocked(l.addr.Port())
	close(l.done)
	l.st.mu.Unlock()
	// Nobody adds to ready any more: that happens under the lock, for a listener
	// found in the map.
	for {
		select {
		case a := <-l.ready:
			a.Abort()
			continue
		default:
		}
		break
	}
	if l.owner {
		l.st.closeWhenIdle()
	}
	return nil
}
