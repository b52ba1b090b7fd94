package amf

import (
	"context"
	"fmt"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/ngap"
)

// ngReset is NG Reset initiated by the gNB (TS 38.413 clause 8.7.4.2.2): the
// connections named, or all, are released without further signalling, and the
// acknowledgement repeats a partial list in its order, unknown ones included.
func (a *AMF) ngReset(ctx context.Context, g *gnb, stream uint16, m *ngap.NGReset) {
	a.stats.ngResets.Add(1)
	ack := &ngap.NGResetAcknowledge{}
	var lost []*n2conn
	if m.All || len(m.Connections) == 0 {
		lost = a.reg.allConns(g)
	} else {
		ack.Connections = m.Connections
		for _, p := range m.Connections {
			if c := a.reg.findPartial(g, p); c != nil {
				lost = append(lost, c)
			}
		}
	}
	for _, c := range lost {
		a.reg.dropConn(c)
	}
	a.log.Info("NG Reset by gNB", "gnb", gnbName(g.id), "ues", len(lost))
	a.connsLost(lost)
	a.send(ctx, g, stream, ack)
}

// ResetNG resets the N2 connections of a gNB (TS 38.413 clause 8.7.4.2.1): those
// of the UEs named, or all when none is. The UEs go to CM-IDLE at once. It returns
// nil when the gNB has acknowledged, ErrUnknownGNB, ErrNoAnswer after N2Timeout,
// ErrStopped, or ctx.Err(). Operation and maintenance calls it, after a failure
// that lost UE state.
func (a *AMF) ResetNG(ctx context.Context, id ident.GNBID, supis ...ident.SUPI) error {
	g := a.reg.gnbByID(id)
	if g == nil {
		return fmt.Errorf("%w: %s", ErrUnknownGNB, gnbName(id))
	}
	m := &ngap.NGReset{Cause: ngap.MiscOMIntervention, All: len(supis) == 0}
	var lost []*n2conn
	if m.All {
		lost = a.reg.allConns(g)
	}
	for _, s := range supis {
		if u := a.reg.ueBySUPI(s); u != nil {
			for _, c := range a.reg.allConns(g) {
				if a.reg.ownerOf(c) == u {
					lost = append(lost, c)
					m.Connections = append(m.Connections, ngap.PartialIDs{AMF: &c.amf, RAN: &c.ran})
				}
			}
		}
	}
	if len(supis) > 0 && len(lost) == 0 {
		return nil
	}
	acked := a.reg.awaitReset(g)
	for _, c := range lost {
		a.reg.dropConn(c)
	}
	a.connsLost(lost)
	if !a.tasks.run(func(ctx context.Context) { a.send(ctx, g, 0, m) }) {
		return ErrStopped
	}
	timeout := time.NewTimer(a.cfg.N2Timeout)
	defer timeout.Stop()
	select {
	case <-acked:
		return nil
	case <-timeout.C:
		return fmt.Errorf("%w: NG Reset of %s", ErrNoAnswer, gnbName(id))
	case <-a.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ngResetAcknowledge wakes whoever awaits the acknowledgement.
func (a *AMF) ngResetAcknowledge(g *gnb) {
	a.reg.mu.Lock()
	defer a.reg.mu.Unlock()
	if g.reset != nil {
		close(g.reset)
		g.reset = nil
	}
}

// awaitReset returns a channel that the next NG RESET ACKNOWLEDGE of g closes.
func (r *registry) awaitReset(g *gnb) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g.reset == nil {
		g.reset = make(chan struct{})
	}
	return g.reset
}
