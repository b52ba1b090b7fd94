package datapath

import "github.com/simreach/simreach/internal/ident"

// Session is the whole rule set of one session.
type Session struct {
	ID   ident.SEID // ours, unique
	PDRs []PDR      // in any order
	FARs []FAR
	QERs []QER
	URRs []URR
}

// PDR is a packet detection rule (TS 29.244 clause 5.2.1). Of those that match, the
// one with the lowest Precedence is carried out.
type PDR struct {
	ID         uint16
	Precedence uint32

	// Uplink rules match G-PDUs from N3 for TEID, with QFI if HasQFI; the others
	// match packets from the N6 device of Network for UE.
	Uplink  bool
	TEID    ident.TEID
	HasQFI  bool
	QFI     ident.QFI
	Network ident.DNN
	// UE is the address of the UE: the destination downlink; uplink the source,
	// and if absent there, that of any other rule of the session. An IPv6 prefix
	// must be a /64.
	UE ident.UEAddress

	FAR  uint32
	QERs []uint32
	URRs []uint32
}

// Action is what a FAR does with a packet.
type Action uint8

// Actions.
const (
	Drop    Action = iota // discard
	Forward               // uplink to the N6 device of Network, downlink to Outer
	Buffer                // discard, for want of buffers, and count
)

// FAR is a forwarding action rule.
type FAR struct {
	ID     uint32
	Action Action
	// Notify makes the first packet that meets Buffer a DownlinkData event. Every
	// Apply arms it anew.
	Notify  bool
	Network ident.DNN   // uplink: where to; empty means that of the PDR
	Outer   ident.FTEID // downlink: the tunnel of the gNB
}

// QER is a QoS enforcement rule. It applies to the packets of all PDRs of its
// session that name it.
type QER struct {
	ID                           uint32
	HasQFI                       bool
	QFI                          ident.QFI  // written into downlink packets
	MBR                          ident.AMBR // bit/s of user packets; 0 is unlimited
	UplinkClosed, DownlinkClosed bool       // gates
}

// URR is a usage reporting rule: it counts the user packets that were forwarded.
type URR struct {
	ID uint32
	// VolumeLimit makes a VolumeReached event once the bytes of both directions
	// together, as Usage tells them, reach it; 0 is none.
	VolumeLimit uint64
}

// Usage is what a URR counted since it was first applied.
type Usage struct {
	UplinkBytes, DownlinkBytes     uint64
	UplinkPackets, DownlinkPackets uint64
}

// Bytes is the volume of both directions.
func (u Usage) Bytes() uint64 { return u.UplinkBytes + u.DownlinkBytes }

// EventKind says what an Event is about.
type EventKind uint8

// Events.
const (
	// ErrorIndication: the peer of the tunnel Peer says that it does not know it.
	ErrorIndication EventKind = iota + 1
	// VolumeReached: a URR of Session reached its VolumeLimit.
	VolumeReached
	// DownlinkData: PDR of Session met a packet while buffering.
	DownlinkData
)

// Event is something that packets brought about and the control plane has to know.
type Event struct {
	Kind    EventKind
	Session ident.SEID
	PDR     uint16
	URR     uint32
	Peer    ident.FTEID
}

// eventQueue is how many events may wait. Events beyond are lost and counted; those
// of a rule are made again by its next packet.
const eventQueue = 1024

// Events is read by one goroutine. It is never closed.
func (p *Plain) Events() <-chan Event { return p.events }

// post never blocks; false means that the event is lost.
func (p *Plain) post(e Event) bool {
	select {
	case p.events <- e:
		return true
	default:
		p.count.lostEvents.Add(1)
		if p.first(warnEvents) {
			p.log.Warn("event queue full")
		}
		return false
	}
}
