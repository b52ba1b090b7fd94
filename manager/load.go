package manager

// Load takes what an outer relay says about itself. One that says that it drains gets
// no new entries from then on.
func (rs *RelaySession) Load(l RelayLoad) {
	f := &rs.svc.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	last, bytes := rs.load.At, rs.load.Up+rs.load.Down
	if d := l.At.Sub(last); !last.IsZero() && d > 0 && l.Up+l.Down >= bytes {
		rs.rate = (rs.rate + float64(l.Up+l.Down-bytes)/d.Seconds()) / 2 // half of it old, so that it does not jump
	}
	rs.load, rs.live = l, l.Live
	if l.Draining && !rs.draining && rs.cause == nil {
		rs.draining = true
		if f.byRelay[rs.key()] == rs {
			delete(f.byRelay, rs.key())
		}
		f.movedLocked()
	}
}
