package manager

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/simreach/simreach/internal/ident"
)

// StaticAttachment says where devices are always attached: Count devices with
// consecutive IMSIs have consecutive addresses behind one UPF.
type StaticAttachment struct {
	IMSI    string     `yaml:"imsi"`    // of the first
	Count   int        `yaml:"count"`   // 0 or 1: one device
	UPF     string     `yaml:"upf"`     // as inner_relays names it
	Address netip.Addr `yaml:"address"` // of the first
}

// StaticDirectory is a Directory that the manager keeps itself (R12 allows both): for
// devices that no SMF reports, and for measuring relays without a core. It never
// changes, so any goroutine may use it.
type StaticDirectory struct {
	devices map[ident.IMSI]Attachment
	never   chan struct{}
}

// NewStaticDirectory checks the list and expands it.
func NewStaticDirectory(list []StaticAttachment) (*StaticDirectory, error) {
	d := &StaticDirectory{devices: map[ident.IMSI]Attachment{}, never: make(chan struct{})}
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

// Lookup implements Directory.
func (d *StaticDirectory) Lookup(_ context.Context, imsi ident.IMSI) (Attachment, error) {
	at, ok := d.devices[imsi]
	if !ok {
		return Attachment{}, ErrNotAttached
	}
	return at, nil
}

// Size implements Directory.
func (d *StaticDirectory) Size() int { return len(d.devices) }

// Changed implements Directory; the channel is never closed.
func (d *StaticDirectory) Changed() <-chan struct{} { return d.never }
