package manager

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"sync"

	"github.com/simreach/simreach/internal/ident"
)

// StaticAttachment says where devices are attached, unless their SIM is barred: Count devices with
// consecutive IMSIs have consecutive addresses behind one UPF.
type StaticAttachment struct {
	IMSI    string     `yaml:"imsi"`    // of the first
	Count   int        `yaml:"count"`   // 0 or 1: one device
	UPF     string     `yaml:"upf"`     // as inner_relays names it
	Address netip.Addr `yaml:"address"` // of the first
}

// StaticDirectory is a Directory that the manager keeps itself (R12 allows both): for
// devices that no SMF reports, and for measuring relays without a core. There is no core to
// end the session of a SIM that is barred: the manager has it leave here. Any goroutine may
// use it.
type StaticDirectory struct {
	devices map[ident.IMSI]Attachment // never changes

	mu       sync.RWMutex // guards the rest
	bars     map[ident.IMSI]bar
	barred   int
	changed  chan struct{} // closed and replaced when a device leaves or comes back
	departed func(ident.IMSI, Attachment)
}

// NewStaticDirectory checks the list and expands it.
func NewStaticDirectory(list []StaticAttachment) (*StaticDirectory, error) {
	d := &StaticDirectory{devices: map[ident.IMSI]Attachment{}, bars: map[ident.IMSI]bar{}, changed: make(chan struct{})}
	for _, s := range list {
		if _, err := ident.ParseIMSI(s.IMSI); err != nil {
			return nil, fmt.Errorf("static directory: %w", err)
		}
		switch {
		case s.Count < 0:
			return nil, fmt.Errorf("static directory: imsi %s: count %d must not be negative", s.IMSI, s.Count)
		case s.UPF == "" || !s.Address.IsValid():
			return nil, fmt.Errorf("static directory: imsi %s: upf and address are required", s.IMSI)
		}
		number, err := strconv.ParseUint(s.IMSI, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("static directory: imsi %s: %w", s.IMSI, err)
		}
		at := s.Address
		for i := range max(s.Count, 1) {
			imsi, err := ident.ParseIMSI(fmt.Sprintf("%0*d", len(s.IMSI), number+uint64(i)))
			if err != nil || !at.IsValid() {
				return nil, fmt.Errorf("static directory: imsi %s: there are no %d IMSIs or addresses from here on", s.IMSI, s.Count)
			}
			if _, twice := d.devices[imsi]; twice {
				return nil, fmt.Errorf("static directory: imsi %s is listed twice", imsi)
			}
			d.devices[imsi] = Attachment{UPF: s.UPF, Address: at}
			at = at.Next()
		}
	}
	return d, nil
}

// Bar implements Barring. A device that is not listed counts nothing.
func (d *StaticDirectory) Bar(imsi ident.IMSI, version int64, barred bool) {
	if tell := d.bar(imsi, version, barred); tell != nil {
		tell(imsi, d.devices[imsi])
	}
}

// bar is Bar, but for telling who left; nil if nobody did, or nobody asked.
func (d *StaticDirectory) bar(imsi ident.IMSI, version int64, barred bool) (tell func(ident.IMSI, Attachment)) {
	if _, listed := d.devices[imsi]; !listed {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	was, known := d.bars[imsi]
	if known && version < was.version {
		return nil
	}
	d.bars[imsi] = bar{version, barred}
	if barred == was.barred {
		return nil
	}
	close(d.changed)
	d.changed = make(chan struct{})
	if !barred {
		d.barred--
		return nil
	}
	d.barred++
	return d.departed
}

// Departed implements Departures.
func (d *StaticDirectory) Departed(f func(ident.IMSI, Attachment)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.departed = f
}

// Lookup implements Directory.
func (d *StaticDirectory) Lookup(_ context.Context, imsi ident.IMSI) (Attachment, error) {
	at, ok := d.devices[imsi]
	if !ok {
		return Attachment{}, ErrNotAttached
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.bars[imsi].barred {
		return Attachment{}, ErrNotAttached
	}
	return at, nil
}

// Places implements Departures.
func (d *StaticDirectory) Places(imsi ident.IMSI) (at []Attachment, known bool) {
	if one, err := d.Lookup(context.Background(), imsi); err == nil {
		at = append(at, one)
	}
	return at, true
}

// Size implements Directory.
func (d *StaticDirectory) Size() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.devices) - d.barred
}

// Changed implements Directory.
func (d *StaticDirectory) Changed() <-chan struct{} {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.changed
}
