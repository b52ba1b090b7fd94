package outer

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

// maxPlaces bounds the places of one question to the manager.
const maxPlaces = 4096

// cutDevice cuts the connections to a device that has left an address, those that are being
// set up too.
func (l *loop) cutDevice(imsi ident.IMSI, at netip.Addr) {
	var gone []*conn
	for _, of := range []ident.IMSI{imsi, ""} {
		for p := range l.devices[of] {
			cs, _ := p.list()
			for _, c := range cs {
				if c.leads(imsi, at) {
					gone = append(gone, c)
				}
			}
		}
	}
	cutAll(gone, errDeviceLeft)
}

// review asks the manager which devices have left without the relay's being told, and does
// as cutDevice does. Another call while it asks has it ask once more.
func (l *loop) review(life context.Context) {
	if l.reviews != nil {
		select {
		case l.reviews <- struct{}{}:
		default: // it will
		}
		return
	}
	l.reviews = make(chan struct{}, 1)
	l.reviews <- struct{}{}
	d, ok := l.deps.Resolver.(Departures)
	if !ok {
		return
	}
	l.tasks.Go(func() {
		for {
			select {
			case <-l.reviews:
				l.reviewAll(life, d)
			case <-life.Done():
				return
			}
		}
	})
}

// reviewAll is one review. It goes on until the manager has answered, or life ends.
func (r *Relay) reviewAll(life context.Context, d Departures) {
	by := map[manager.Place][]*conn{}
	r.mu.Lock()
	ps := make([]*port, 0, len(r.entries))
	for _, p := range r.entries {
		ps = append(ps, p)
	}
	r.mu.Unlock()
	for _, p := range ps {
		cs, _ := p.list()
		for _, c := range cs {
			if at, ok := c.place(); ok {
				by[at] = append(by[at], c)
			}
		}
	}
	places := make([]manager.Place, 0, len(by))
	for at := range by {
		places = append(places, at)
	}
	for some := range slices.Chunk(places, maxPlaces) {
		var gone []*conn
		for _, at := range r.departed(life, d, some) {
			for _, c := range by[at] { // not those that came since: the device may be back
				if c.leads(at.IMSI, at.Address) {
					gone = append(gone, c)
				}
			}
		}
		cutAll(gone, errDeviceLeft)
	}
}

// departed asks the manager until it answers, or life ends.
func (r *Relay) departed(life context.Context, d Departures, places []manager.Place) []manager.Place {
	for told := false; ; told = true {
		ctx, cancel := context.WithTimeout(life, r.cfg.ResolveTimeout)
		left, err := d.Departed(ctx, places)
		cancel()
		if err == nil {
			return left
		}
		if !told && life.Err() == nil {
			r.log.Warn("not known for now which devices have left", "error", err)
		}
		pause := time.NewTimer(recheckPause)
		select {
		case <-pause.C:
		case <-life.Done():
			pause.Stop()
			return nil
		}
	}
}
