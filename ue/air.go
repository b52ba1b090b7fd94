// Package ue simulates user equipment: the USIM, the 5GMM and 5GSM machines, and
// the IP interface of each PDU session. A UE owns one goroutine (its loop) and
// those of its user plane; Run joins them. It reaches a gNB only through Air and
// knows nothing of N2 or N3.
package ue

import (
	"context"
	"errors"

	"github.com/simreach/simreach/internal/ident"
)

// ErrRadioLinkFailure ends a Radio whose gNB went away or stopped answering.
var ErrRadioLinkFailure = errors.New("ue: radio link failure")

// Air is the simulated Uu interface of one gNB as a UE sees it. RRC, PDCP and the
// layers below are not simulated: an RRC connection carries NAS messages and user
// packets. It is implemented by a gNB in the same process and, across processes,
// by a link to it.
type Air interface {
	// Cell is where the gNB is, as its system information broadcasts it. It waits
	// for the gNB to answer.
	Cell(ctx context.Context) (Cell, error)
	// Connect sets up an RRC connection whose first message is req.NAS. It returns
	// an error if the gNB is unreachable or refuses.
	Connect(ctx context.Context, req ConnectRequest) (Radio, error)
}

// Cell is what a UE reads from system information.
type Cell struct {
	Name     string
	Location ident.Location
}

// ConnectRequest is an RRC setup request with its setup complete.
type ConnectRequest struct {
	Cause uint8 // RRC establishment cause: 3 mo-Signalling, 4 mo-Data
	STMSI *ident.STMSI
	NAS   []byte
}

// Radio is one RRC connection. Its events come in order on Events, which is closed
// after a Released event. Methods may be called from any goroutine.
type Radio interface {
	// SendNAS sends one uplink NAS message.
	SendNAS(ctx context.Context, nas []byte) error
	// Events delivers what the gNB sends. The receiver must keep reading.
	Events() <-chan RadioEvent
	// SendPackets sends user packets of one PDU session: each is a whole IP
	// packet. The radio keeps no reference after it returns. Packets for a session
	// without bearer are dropped and counted.
	SendPackets(id ident.PDUSessionID, qfi ident.QFI, packets [][]byte)
	// SetReceiver registers who takes downlink user packets, before any bearer is
	// up. It is called from one goroutine at a time; packets are the callee's only
	// during the call.
	SetReceiver(func(id ident.PDUSessionID, packets [][]byte))
	// Close drops the connection from the UE's side (radio lost or powered off).
	Close() error
}

// RadioEvent is one of DownlinkNAS, BearerUp, BearerDown and Released.
type RadioEvent interface{ radioEvent() }

// DownlinkNAS is a NAS message from the network.
type DownlinkNAS struct{ NAS []byte }

// BearerUp says user packets of a PDU session can flow, with the QFIs set up.
type BearerUp struct {
	Session ident.PDUSessionID
	QFIs    []ident.QFI
}

// BearerDown says they no longer can.
type BearerDown struct{ Session ident.PDUSessionID }

// Released ends the RRC connection: Err is nil after an orderly release and wraps
// ErrRadioLinkFailure when the gNB was lost.
type Released struct{ Err error }

func (DownlinkNAS) radioEvent() {}
func (BearerUp) radioEvent()    {}
func (BearerDown) radioEvent()  {}
func (Released) radioEvent()    {}
