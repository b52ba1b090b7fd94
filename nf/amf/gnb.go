package amf

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/sctp"
	"github.com/simreach/simreach/internal/wire/ngap"
)

// gnb is one NG association. Its reader goroutine is serveGNB; anyone may send.
type gnb struct {
	conn sctp.Conn

	// registry's lock guards these
	up        bool // NG Setup succeeded
	id        ident.GNBID
	name      string
	supported []ngap.SupportedTA
	conns     map[uint32]*n2conn // by RAN UE NGAP ID
	reset     chan struct{}      // closed by NG RESET ACKNOWLEDGE; nil when none is awaited

	warned sync.Map // what was already logged once, by kind
}

// n2conn is a UE-associated logical NG-connection.
type n2conn struct {
	gnb    *gnb
	gnbID  ident.GNBID // of gnb when the connection was made
	amf    int64
	ran    uint32
	stream uint16 // SCTP stream of the UE, both ways (TS 38.412 clause 7)

	// registry's lock guards these
	owner     *ue
	releasing bool
	gone      bool
	guard     *time.Timer

	// the owner's worker owns these
	location ident.Location
	context  contextState
	wanted   bool           // the gNB asked for a UE context (UE Context Request IE)
	waiting  []ngap.Message // PDU session procedures held back until the context is set up
}

// contextState is how far the gNB's UE context is.
type contextState int

const (
	contextNone contextState = iota
	contextPending
	contextReady
)

func (c *n2conn) ids() ngap.UEIDs { return ngap.UEIDs{AMF: c.amf, RAN: c.ran} }

// serveGNB reads one association until it ends.
func (a *AMF) serveGNB(ctx context.Context, g *gnb) {
	a.stats.gnbs.Add(1)
	for {
		m, err := g.conn.Recv(ctx)
		if err != nil {
			a.endGNB(ctx, g, err)
			return
		}
		a.stats.ngapReceived.Add(1)
		if m.PPID != sctp.PPIDNGAP {
			a.stats.ngapUndecodable.Add(1)
			a.logOnce(g, "ppid", "discarded SCTP message with another payload protocol", "ppid", m.PPID)
			continue
		}
		msg, err := ngap.Decode(m.Data)
		if err != nil {
			a.undecodable(ctx, g, m.Stream, err)
			continue
		}
		a.dispatch(ctx, g, m.Stream, msg)
	}
}

// endGNB handles the end of an association: its UEs go to CM-IDLE and stay
// registered (TS 23.502 clause 4.2.6).
func (a *AMF) endGNB(ctx context.Context, g *gnb, err error) {
	lost := a.reg.removeGNB(g)
	if ctx.Err() != nil {
		a.hangUp(ctx, g)
		return
	}
	a.stats.gnbsLost.Add(1)
	left := errors.Is(err, io.EOF)
	if left || errors.Is(err, sctp.ErrClosed) {
		a.log.Info("gNB left", "gnb", gnbName(g.id), "ues", len(lost))
	} else {
		a.log.Warn("gNB lost", "gnb", gnbName(g.id), "ues", len(lost), "error", err)
	}
	a.connsLost(lost)
	if left {
		a.hangUp(ctx, g)
		return
	}
	g.conn.Abort()
}

// hangUp ends an association in order, or takes part in the end that the gNB began;
// by ABORT if that takes too long.
func (a *AMF) hangUp(ctx context.Context, g *gnb) {
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.DrainTimeout)
	defer cancel()
	if err := g.conn.Close(closing); err != nil && !errors.Is(err, sctp.ErrClosed) {
		g.conn.Abort()
	}
}

// connsLost tells the owners that connections are gone without further signalling.
func (a *AMF) connsLost(lost []*n2conn) {
	for _, c := range lost {
		if u := a.reg.ownerOf(c); u != nil {
			u.post(func(u *ue) { u.n2Lost(c) })
		}
	}
}

// send encodes m and sends it to g on stream. A gNB that takes nothing for
// SendTimeout is aborted, which its reader then notices.
func (a *AMF) send(ctx context.Context, g *gnb, stream uint16, m ngap.Message) {
	b, err := ngap.Encode(m)
	if err != nil {
		a.stats.encodeFailures.Add(1)
		a.log.Error("cannot encode NGAP message", "procedure", m.Procedure(), "error", err)
		return
	}
	sctx, cancel := context.WithTimeout(ctx, a.cfg.SendTimeout)
	defer cancel()
	err = g.conn.Send(sctx, sctp.Message{Stream: stream, PPID: sctp.PPIDNGAP, Data: b})
	if errors.Is(err, sctp.ErrStream) && stream != 0 {
		// The peer has more streams towards us than we have towards it.
		err = g.conn.Send(sctx, sctp.Message{PPID: sctp.PPIDNGAP, Data: b})
	}
	if err != nil {
		a.stats.sendFailures.Add(1)
		// That the association has ended its reader tells.
		if !errors.Is(err, sctp.ErrClosed) && !errors.Is(err, sctp.ErrShutdown) {
			a.logOnce(g, "send", "cannot send to gNB", "error", err)
		}
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			g.conn.Abort()
		}
		return
	}
	a.stats.ngapSent.Add(1)
}

// logOnce logs at level Warn the first time it sees kind on this association, at
// Debug after that: a peer cannot fill the log.
func (a *AMF) logOnce(g *gnb, kind, msg string, args ...any) {
	args = append(args, "conn", g.conn.RemoteAddr())
	if _, seen := g.warned.LoadOrStore(kind, true); seen {
		a.log.Debug(msg, args...)
		return
	}
	a.log.Warn(msg, args...)
}
