package datapath

import "sync/atomic"

// Counters is what has happened to packets since New. Every packet that was read
// is in exactly one of the counters of its direction.
type Counters struct {
	// From N3.
	UplinkPackets, UplinkBytes uint64 // forwarded to N6
	Malformed                  uint64 // not GTP-U, or not IP inside
	UnknownTEID                uint64
	Spoofed                    uint64 // source address is not the UE's
	UnknownExtension           uint64
	UnknownMessage             uint64
	EchoRequests               uint64 // all answered
	EchoResponses              uint64
	ErrorIndicationsReceived   uint64 // of the peer that they are about
	ErrorIndicationsForeign    uint64 // of anybody else: dropped
	EndMarkersReceived         uint64
	NotificationsReceived      uint64 // Supported Extension Headers Notification

	// From N6.
	DownlinkPackets, DownlinkBytes uint64 // forwarded to N3
	NotIP                          uint64
	UnknownUE                      uint64

	// Both directions.
	NoRule       uint64 // the session has no PDR for it
	ActionDrop   uint64 // its FAR says so
	Buffered     uint64 // its FAR says buffer: dropped
	GateClosed   uint64
	RateExceeded uint64

	// Handed over but not accepted; these were counted as forwarded.
	N3SendFailed, N6WriteFailed uint64

	ErrorIndicationsSent uint64
	NotificationsSent    uint64
	RepliesSuppressed    uint64 // Error Indications and notifications over the rate
	EndMarkersSent       uint64
	LostEvents           uint64
}

// Status is a copy of the datapath's state.
type Status struct {
	Sessions int
	Counters Counters
}

// Status returns the counters and the number of sessions.
func (p *Plain) Status() Status {
	p.sessions.mu.Lock()
	n := len(p.sessions.byID)
	p.sessions.mu.Unlock()
	return Status{Sessions: n, Counters: p.count.read()}
}

// outcome says what became of a packet.
type outcome uint8

const (
	forwarded outcome = iota
	malformed
	unknownTEID
	spoofed
	unknownExtension
	unknownMessage
	echoRequest
	echoResponse
	errorIndicationReceived
	errorIndicationForeign
	endMarkerReceived
	notificationReceived
	notIP
	unknownUE
	noRule
	actionDrop
	buffered
	gateClosed
	rateExceeded
	outcomes
)

// tally is one goroutine's counts of a batch; add brings it to the counters.
type tally struct {
	outcomes [outcomes]uint64
	bytes    uint64
	failed   uint64 // not accepted by the other side
}

type counters struct {
	outcomes                                            [outcomes]atomic.Uint64
	upPackets, upBytes, downPackets, downBytes          atomic.Uint64
	n3Failed, n6Failed                                  atomic.Uint64
	errorIndicationsSent, notificationsSent, suppressed atomic.Uint64
	endMarkersSent, lostEvents                          atomic.Uint64
}

// add brings t to c and clears t.
func (c *counters) add(t *tally, uplink bool) {
	for o := outcome(1); o < outcomes; o++ {
		if t.outcomes[o] != 0 {
			c.outcomes[o].Add(t.outcomes[o])
		}
	}
	if n := t.outcomes[forwarded]; n != 0 && uplink {
		c.upPackets.Add(n)
		c.upBytes.Add(t.bytes)
	} else if n != 0 {
		c.downPackets.Add(n)
		c.downBytes.Add(t.bytes)
	}
	if t.failed != 0 && uplink {
		c.n6Failed.Add(t.failed)
	} else if t.failed != 0 {
		c.n3Failed.Add(t.failed)
	}
	*t = tally{}
}

func (c *counters) read() Counters {
	of := func(o outcome) uint64 { return c.outcomes[o].Load() }
	return Counters{
		UplinkPackets: c.upPackets.Load(), UplinkBytes: c.upBytes.Load(),
		Malformed: of(malformed), UnknownTEID: of(unknownTEID), Spoofed: of(spoofed),
		UnknownExtension: of(unknownExtension), UnknownMessage: of(unknownMessage),
		EchoRequests: of(echoRequest), EchoResponses: of(echoResponse),
		ErrorIndicationsReceived: of(errorIndicationReceived), ErrorIndicationsForeign: of(errorIndicationForeign),
		EndMarkersReceived:    of(endMarkerReceived),
		NotificationsReceived: of(notificationReceived),
		DownlinkPackets:       c.downPackets.Load(), DownlinkBytes: c.downBytes.Load(),
		NotIP: of(notIP), UnknownUE: of(unknownUE),
		NoRule: of(noRule), ActionDrop: of(actionDrop), Buffered: of(buffered),
		GateClosed: of(gateClosed), RateExceeded: of(rateExceeded),
		N3SendFailed: c.n3Failed.Load(), N6WriteFailed: c.n6Failed.Load(),
		ErrorIndicationsSent: c.errorIndicationsSent.Load(), NotificationsSent: c.notificationsSent.Load(),
		RepliesSuppressed: c.suppressed.Load(), EndMarkersSent: c.endMarkersSent.Load(), LostEvents: c.lostEvents.Load(),
	}
}
