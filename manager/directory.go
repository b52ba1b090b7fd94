package manager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

// DirectoryConfig configures a SessionDirectory.
type DirectoryConfig struct {
	// DNN is the data network whose sessions are reachable. Empty: any; of
	// several sessions of one device the latest counts.
	DNN ident.DNN `yaml:"dnn"`
	// RetryInterval is the pause before subscribing again after a failure. 0: 500 ms.
	RetryInterval time.Duration `yaml:"retry_interval"`
}

// Validate reports what is wrong with c.
func (c DirectoryConfig) Validate() error {
	if c.RetryInterval < 0 {
		return fmt.Errorf("directory: retry_interval %s: must not be negative", c.RetryInterval)
	}
	return nil
}

// DirectoryDeps is what a SessionDirectory needs of the world.
type DirectoryDeps struct {
	Log *slog.Logger // nil discards
	SMF sbi.SessionEvents
}

// SessionDirectory is a Directory fed by the SMF's event exposure (TS 29.508
// clause 4; TS 23.502 clause 5.2.8.3). It keeps what the SMF reported last, for
// every session, and answers from that.
type SessionDirectory struct {
	cfg   DirectoryConfig
	log   *slog.Logger
	smf   sbi.SessionEvents
	ready chan struct{}

	mu       sync.Mutex // guards the rest: notify writes, Lookup reads
	sub      uint64     // the current subscription; late events of others are ignored
	seq      uint64     // numbers establishments, for "latest"
	sessions map[ident.SUPI]map[ident.PDUSessionID]place
	changed  chan struct{} // closed and replaced at every change of sessions
	departed func(ident.IMSI, Attachment)
	known    bool // the sessions that there were at first have been told
	events   uint64
	ignored  uint64
}

type place struct {
	at  Attachment
	seq uint64
}

// NewSessionDirectory checks cfg and deps.
func NewSessionDirectory(cfg DirectoryConfig, d DirectoryDeps) (*SessionDirectory, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if d.SMF == nil {
		return nil, errors.New("directory: SMF is required")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	cfg.RetryInterval = cmp.Or(cfg.RetryInterval, 500*time.Millisecond)
	return &SessionDirectory{
		cfg: cfg, log: d.Log.With("nf", "manager"), smf: d.SMF, ready: make(chan struct{}),
		sessions: map[ident.SUPI]map[ident.PDUSessionID]place{}, changed: make(chan struct{}),
	}, nil
}

// Run subscribes to the SMF, trying until it succeeds, and keeps the subscription
// until ctx ends. It always returns nil.
func (d *SessionDirectory) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failed := false; ; failed = true {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		sub := d.begin()
		cancel, err := d.smf.Subscribe(ctx, sbi.EventSubscription{ImmediateReport: true, Reported: func() { d.reported(sub) }}, func(e sbi.SessionEvent) { d.notify(sub, e) })
		if err == nil {
			close(d.ready)
			<-ctx.Done()
			cancel()
			return nil
		}
		if ctx.Err() == nil && !failed {
			d.log.Warn("subscription to session events failed; trying again", "error", err)
		}
		timer.Reset(d.cfg.RetryInterval)
	}
}

// Ready is closed once the SMF accepted the subscription.
func (d *SessionDirectory) Ready() <-chan struct{} { return d.ready }

// DirectoryStatus is a snapshot of a SessionDirectory.
type DirectoryStatus struct {
	Devices int    // with at least one session
	Events  uint64 // received
	Ignored uint64 // of those, not applied: another DNN, no address, unknown session
}

// Status returns a copy of the directory's counters.
func (d *SessionDirectory) Status() DirectoryStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	return DirectoryStatus{Devices: len(d.sessions), Events: d.events, Ignored: d.ignored}
}

// Size implements Directory.
func (d *SessionDirectory) Size() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.sessions)
}

// Lookup implements Directory.
func (d *SessionDirectory) Lookup(_ context.Context, imsi ident.IMSI) (Attachment, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var best place
	for _, p := range d.sessions[imsi.SUPI()] {
		if p.seq > best.seq {
			best = p
		}
	}
	if best.seq == 0 {
		return Attachment{}, ErrNotAttached
	}
	return best.at, nil
}

// begin starts a subscription with nothing known: the SMF reports all sessions.
func (d *SessionDirectory) begin() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.sessions)
	d.known = false
	d.sub++
	return d.sub
}

// reported notes that all sessions that there were have been told.
func (d *SessionDirectory) reported(sub uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if sub == d.sub {
		d.known = true
	}
}

func (d *SessionDirectory) notify(sub uint64, e sbi.SessionEvent) {
	if left, tell := d.take(sub, e); tell != nil {
		tell(e.SUPI.IMSI(), left)
	}
}

// take is notify, but for telling who left; tell is nil if nobody did, or nobody asked.
func (d *SessionDirectory) take(sub uint64, e sbi.SessionEvent) (left Attachment, tell func(ident.IMSI, Attachment)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if sub != d.sub {
		return Attachment{}, nil
	}
	d.events++
	was, known := d.sessions[e.SUPI][e.Session]
	if !d.apply(e) {
		d.ignored++
		return Attachment{}, nil
	}
	close(d.changed)
	d.changed = make(chan struct{})
	if is, still := d.sessions[e.SUPI][e.Session]; known && (!still || is.at != was.at) {
		return was.at, d.departed
	}
	return Attachment{}, nil
}

// Departed implements Departures.
func (d *SessionDirectory) Departed(f func(ident.IMSI, Attachment)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.departed = f
}

// Places implements Departures.
func (d *SessionDirectory) Places(imsi ident.IMSI) (at []Attachment, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.sessions[imsi.SUPI()] {
		at = append(at, p.at)
	}
	return at, d.known
}

// Changed implements Directory.
func (d *SessionDirectory) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// apply brings one event into the map and reports whether it meant anything.
func (d *SessionDirectory) apply(e sbi.SessionEvent) bool {
	if d.cfg.DNN != "" && e.DNN != d.cfg.DNN {
		return false
	}
	of := d.sessions[e.SUPI]
	was, known := of[e.Session]
	switch e.Type {
	case sbi.SessionEstablished, sbi.AddressChanged:
		at := Attachment{UPF: cmp.Or(e.UPF, was.at.UPF), Address: reach(e.Address)}
		if !at.Address.IsValid() {
			return false
		}
		if of == nil {
			of = map[ident.PDUSessionID]place{}
			d.sessions[e.SUPI] = of
		}
		seq := was.seq
		if !known || e.Type == sbi.SessionEstablished {
			d.seq++
			seq = d.seq
		}
		of[e.Session] = place{at, seq}
		return true
	case sbi.SessionReleased:
		// A device that moved may have the same session ID elsewhere already: the
		// release of what it left must not remove where it is.
		if (e.UPF != "" && e.UPF != was.at.UPF) || (reach(e.Address).IsValid() && reach(e.Address) != was.at.Address) {
			return false
		}
		delete(of, e.Session)
		if len(of) == 0 {
			delete(d.sessions, e.SUPI)
		}
		return known
	}
	return false
}

func reach(a ident.UEAddress) netip.Addr { return a.Reach().Unmap() }
