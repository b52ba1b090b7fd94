package sctp

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
	"time"
)

// Supervision of the peer, RFC 9260 clauses 8.1 and 8.3. pion retransmits for
// ever, and its own HEARTBEAT goes out without the parameter that it must have.

// watch is what the packet path tells the supervisor.
type watch struct {
	sent     atomic.Uint32 // highest TSN sent
	acked    atomic.Uint32 // highest TSN acknowledged in sequence
	shutdown atomic.Bool   // our SHUTDOWN or SHUTDOWN ACK waits for its answer
	heard    atomic.Bool   // an answer came since the supervisor looked
	nonce    [12]byte      // parameter of our HEARTBEATs
	kick     chan struct{} // one token: something unacknowledged went out
}

func (w *watch) init(tsn uint32) {
	w.sent.Store(tsn - 1)
	w.acked.Store(tsn - 1)
	w.kick = make(chan struct{}, 1)
	copy(w.nonce[:], appendTLV(nil, 1, nil)) // Heartbeat Info
	w.nonce[3] = byte(len(w.nonce))
	binary.BigEndian.PutUint32(w.nonce[4:], randomTag())
	binary.BigEndian.PutUint32(w.nonce[8:], randomTag())
}

func (w *watch) outstanding() bool {
	return before(w.acked.Load(), w.sent.Load()) || w.shutdown.Load()
}

// onData and onShutdown are called by pion's write loop only.
func (w *watch) onData(tsn uint32) {
	quiet := !w.outstanding()
	if before(w.sent.Load(), tsn) {
		w.sent.Store(tsn)
	}
	if quiet {
		w.token()
	}
}

func (w *watch) onShutdown() {
	w.shutdown.Store(true)
	w.token()
}

func (w *watch) token() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// onSack and onHeartbeatAck are called by the Stack's reader only.
func (w *watch) onSack(cumulative uint32) {
	w.heard.Store(true)
	if before(w.acked.Load(), cumulative) && !before(w.sent.Load(), cumulative) {
		w.acked.Store(cumulative)
	}
}

func (w *watch) onHeartbeatAck(value []byte) {
	if bytes.Equal(value, w.nonce[:]) {
		w.heard.Store(true)
	}
}

// supervise counts the times that the peer leaves something unanswered for a
// retransmission timeout, and ends the association when there were too many in a
// row. On an idle association it asks by HEARTBEAT.
func (a *assoc) supervise() {
	cfg := a.st.cfg
	asked := false // a HEARTBEAT is out
	missed := 0
	busy := false // the timer runs for an answer, not for the idle interval
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	idle := func() {
		busy = false
		if cfg.Heartbeat > 0 {
			timer.Reset(cfg.Heartbeat)
		} else {
			timer.Stop()
		}
	}
	await := func() {
		busy = true
		timer.Reset(min(cfg.RTOInitial<<min(missed, 16), cfg.RTOMax))
	}
	idle()
	for {
		select {
		case <-a.done:
			return
		case <-a.watch.kick:
			if !busy {
				await()
			}
			continue
		case <-timer.C:
		}
		heard := a.watch.heard.Swap(false)
		if heard {
			missed, asked = 0, false
		}
		outstanding := a.watch.outstanding()
		switch {
		case heard && outstanding:
			await()
			continue
		case heard && busy: // all answered
			idle()
			continue
		case outstanding || asked:
			if missed++; missed > cfg.MaxRetrans {
				a.end(&AbortError{Reason: AbortLost})
				return
			}
		case heard: // traffic within the interval made the HEARTBEAT needless
			idle()
			continue
		}
		if !a.watch.shutdown.Load() {
			asked = true
			a.writeChunk(ctHeartbeat, 0, a.watch.nonce[:])
		}
		await()
	}
}
