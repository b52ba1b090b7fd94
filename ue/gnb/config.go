package gnb

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// Config describes one gNB with one cell. It is plain data.
type Config struct {
	// Name is the RAN node name, 1 to 150 characters. Required.
	Name string `yaml:"name"`
	// ID is the global gNB ID; ID.PLMN is the PLMN the cell broadcasts. Required;
	// Bits 0 means 32.
	ID ident.GNBID `yaml:"id"`
	// TAC is the tracking area code of the cell, 24 bits.
	TAC ident.TAC `yaml:"tac"`
	// Cell is the 36-bit NR cell identity; 0 puts the gNB ID in its leading bits
	// and cell 1 in the rest (TS 38.300 clause 8.2).
	Cell ident.NRCellID `yaml:"cell"`
	// Slices are the slices the cell supports. At least one.
	Slices []ident.SNSSAI `yaml:"slices"`
	// N3 is where this gNB's GTP-U is reached: the address goes into NGAP, the port
	// must be 2152. Required.
	N3 netip.AddrPort `yaml:"n3"`
	// AMFs are N2 addresses, tried in turn until one accepts; one association
	// exists at a time. At least one; port 0 means 38412.
	AMFs []netip.AddrPort `yaml:"amfs"`
	// Uplink and Downlink impair user packets on the air; zero: perfect and free.
	Uplink   Impairment `yaml:"uplink"`
	Downlink Impairment `yaml:"downlink"`
	// Timers override the defaults.
	Timers Timers `yaml:"timers"`
}

// Timers of a gNB. Zero means the default.
type Timers struct {
	// Dial bounds the set-up of an SCTP association: 5 s.
	Dial time.Duration `yaml:"dial"`
	// Setup bounds the wait for the answer to NG SETUP REQUEST: 5 s.
	Setup time.Duration `yaml:"setup"`
	// RetryMin and RetryMax bound the doubling pause before the next try after the
	// association failed or was lost: 200 ms and 2 s. A time to wait in NG SETUP
	// FAILURE lengthens it.
	RetryMin time.Duration `yaml:"retry_min"`
	RetryMax time.Duration `yaml:"retry_max"`
	// Release bounds the wait for a UE CONTEXT RELEASE COMMAND after the gNB asked
	// for it; then the UE is released by a partial NG RESET: 10 s.
	Release time.Duration `yaml:"release"`
	// Goodbye bounds the SCTP shutdown when Run ends: 1 s.
	Goodbye time.Duration `yaml:"goodbye"`
}

// Impairment is what the air does to user packets in one direction.
type Impairment struct {
	Delay  time.Duration `yaml:"delay"`  // one way; 0 none
	Jitter time.Duration `yaml:"jitter"` // up to this much more, uniform; packets stay in order
	Loss   float64       `yaml:"loss"`   // probability 0..1 that a packet is lost
	Rate   uint64        `yaml:"rate"`   // bit/s for the whole cell; 0 unlimited
	Queue  int           `yaml:"queue"`  // packets waiting before the next is dropped; 0 means 1024
}

func (i Impairment) none() bool { return i.Delay == 0 && i.Jitter == 0 && i.Loss == 0 && i.Rate == 0 }

func (t Timers) withDefaults() Timers {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&t.Dial, 5*time.Second)
	def(&t.Setup, 5*time.Second)
	def(&t.RetryMin, 200*time.Millisecond)
	def(&t.RetryMax, 2*time.Second)
	def(&t.Release, 10*time.Second)
	def(&t.Goodbye, time.Second)
	return t
}

func (c Config) withDefaults() Config {
	if c.ID.Bits == 0 {
		c.ID.Bits = 32
	}
	if c.Cell == 0 {
		c.Cell = ident.NRCellID(uint64(c.ID.Value)<<(36-c.ID.Bits) | 1)
	}
	c.AMFs = append([]netip.AddrPort(nil), c.AMFs...)
	for i, a := range c.AMFs {
		if a.Port() == 0 {
			c.AMFs[i] = netip.AddrPortFrom(a.Addr(), ngapPort)
		}
	}
	c.Timers = c.Timers.withDefaults()
	return c
}

// Location is where UEs of this gNB are.
func (c Config) location() ident.Location {
	return ident.Location{
		NRCGI: ident.NRCGI{PLMN: c.ID.PLMN, Cell: c.Cell},
		TAI:   ident.TAI{PLMN: c.ID.PLMN, TAC: c.TAC},
	}
}

// Validate reports the first thing wrong with c.
func (c Config) Validate() error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("gnb %s: "+format, append([]any{c.Name}, a...)...)
	}
	switch {
	case c.Name == "" || len(c.Name) > 150:
		return bad("name: want 1 to 150 characters")
	case !c.ID.PLMN.Valid():
		return bad("id: invalid PLMN %s", c.ID.PLMN)
	case c.ID.Bits != 0 && (c.ID.Bits < 22 || c.ID.Bits > 32):
		return bad("id: %d bits, want 22 to 32", c.ID.Bits)
	case c.ID.Bits != 0 && uint64(c.ID.Value)>>c.ID.Bits != 0:
		return bad("id: %#x does not fit in %d bits", c.ID.Value, c.ID.Bits)
	case c.TAC >= 1<<24:
		return bad("tac: more than 24 bits")
	case c.Cell >= 1<<36:
		return bad("cell: more than 36 bits")
	case len(c.Slices) == 0:
		return bad("slices is empty")
	case !c.N3.Addr().IsValid() || c.N3.Addr().IsUnspecified():
		return bad("n3: want an address peers can reach")
	case len(c.AMFs) == 0:
		return bad("amfs is empty")
	}
	for name, i := range map[string]Impairment{"uplink": c.Uplink, "downlink": c.Downlink} {
		if i.Delay < 0 || i.Jitter < 0 || i.Queue < 0 || !(i.Loss >= 0 && i.Loss <= 1) {
			return bad("%s: negative value or loss beyond 0..1", name)
		}
	}
	return nil
}
