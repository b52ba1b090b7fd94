package manager

import (
	"fmt"
	"maps"
	"slices"

	"github.com/simreach/simreach/internal/ident"
)

// SpeedClass names how fast a SIM's session may be.
type SpeedClass string

// DefaultSpeedClass is what a SIM has until somebody changes it. Unless the
// configuration says otherwise it leaves the session AMBR to the core's own
// subscription data, so that what a scenario configures there is what the device gets.
const DefaultSpeedClass SpeedClass = "u1.standard"

// SpeedClassConfig is the session AMBR of a speed class.
type SpeedClassConfig struct {
	Uplink   uint64 `yaml:"uplink"`   // bit/s; 0 in both: the core's own
	Downlink uint64 `yaml:"downlink"` // bit/s
}

// defaultSpeedClasses has the names that clients know. The rates are ours: real ones
// depend on the carrier.
func defaultSpeedClasses() map[SpeedClass]ident.AMBR {
	both := func(rate uint64) ident.AMBR { return ident.AMBR{Uplink: rate, Downlink: rate} }
	return map[SpeedClass]ident.AMBR{
		"s1.minimum":      both(32_000),
		"s1.slow":         both(128_000),
		"s1.standard":     both(512_000),
		"s1.fast":         both(2_000_000),
		"s1.4xfast":       both(8_000_000),
		"s1.8xfast":       both(16_000_000),
		"u1.slow":         both(128_000),
		DefaultSpeedClass: {},
	}
}

// speedClasses is the table of a valid configuration.
func (c SIMConfig) speedClasses() map[SpeedClass]ident.AMBR {
	table := defaultSpeedClasses()
	for name, r := range c.SpeedClasses {
		table[name] = ident.AMBR{Uplink: r.Uplink, Downlink: r.Downlink}
	}
	return table
}

func (c SIMConfig) validateSpeedClasses(bad func(string, ...any)) {
	for _, name := range slices.Sorted(maps.Keys(c.SpeedClasses)) {
		r := c.SpeedClasses[name]
		if name == "" || len(name) > 64 {
			bad("sims: speed class %.80q: want a name of at most 64 bytes", string(name))
		}
		if (r.Uplink == 0) != (r.Downlink == 0) {
			bad("sims: speed class %s: set both rates, or none", name)
		}
	}
}

func speedClassNames(table map[SpeedClass]ident.AMBR) string {
	return fmt.Sprint(slices.Sorted(maps.Keys(table)))
}
