package amf

import (
	"fmt"
	"slices"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

// Config is what an AMF is told. It is plain data; New copies it.
type Config struct {
	// NFID is this AMF's instance ID. Required.
	NFID sbi.NFID `yaml:"nf_id"`
	// Name is the AMF name sent in NG SETUP RESPONSE, 1 to 150 characters. Required.
	Name string `yaml:"name"`
	// GUAMI names this AMF; 5G-GUTIs are assigned under it. Its PLMN must be one
	// of PLMNs. Required.
	GUAMI ident.GUAMI `yaml:"guami"`
	// PLMNs are the served networks with their tracking areas and slices. At
	// least one is required.
	PLMNs []PLMNSupport `yaml:"plmns"`
	// Integrity lists NIA numbers (1 to 3), best first. Empty means [2, 1, 3].
	// 0 is refused: the null algorithm is for emergency services only
	// (TS 33.501 clause 5.5.2), which this AMF does not offer.
	Integrity []int `yaml:"integrity"`
	// Ciphering lists NEA numbers (0 to 3), best first. Empty means [0, 2, 1, 3]:
	// the null algorithm first, so that captures can be read.
	Ciphering []int `yaml:"ciphering"`
	// DefaultDNN is used when the UE names none. Empty means "internet".
	DefaultDNN ident.DNN `yaml:"default_dnn"`
	// DNNs are the supported data network names. Empty means that every name is
	// passed to the SMF, which decides.
	DNNs []ident.DNN `yaml:"dnns"`
	// Capacity is the relative AMF capacity, 1 to 255. 0 means 255.
	Capacity uint8 `yaml:"capacity"`

	// T3512 is the periodic registration timer given to UEs. It is rounded up to a
	// value that the IE can say (GPRS timer 3: up to 31 times 2 s, 30 s, 1 min, 10
	// min, 1 h or 10 h). 0 means 1 h, which is 54 min, the default of TS 24.501
	// table 10.2.2, rounded up.
	T3512 time.Duration `yaml:"t3512"`
	// T3522 guards a network-initiated deregistration. 0 means 6 s.
	T3522 time.Duration `yaml:"t3522"`
	// T3550 guards REGISTRATION ACCEPT. 0 means 6 s.
	T3550 time.Duration `yaml:"t3550"`
	// T3560 guards AUTHENTICATION REQUEST and SECURITY MODE COMMAND. 0 means 6 s.
	T3560 time.Duration `yaml:"t3560"`
	// T3570 guards IDENTITY REQUEST. 0 means 6 s.
	T3570 time.Duration `yaml:"t3570"`
	// Retransmissions is how often a guarded message is sent again before its
	// procedure is aborted. 0 means 4, the value of TS 24.501: five sends, abort
	// on the fifth expiry.
	Retransmissions int `yaml:"retransmissions"`
	// ImplicitDeregistration is the time from the expiry of the mobile reachable
	// timer (T3512 plus 4 min) to implicit deregistration. 0 means 4 min.
	ImplicitDeregistration time.Duration `yaml:"implicit_deregistration"`

	// N2Timeout bounds the wait for a gNB's answer to INITIAL CONTEXT SETUP
	// REQUEST, UE CONTEXT RELEASE COMMAND and NG RESET. 0 means 10 s.
	N2Timeout time.Duration `yaml:"n2_timeout"`
	// SendTimeout is how long a gNB may refuse to take a message before its
	// association is aborted. 0 means 10 s.
	SendTimeout time.Duration `yaml:"send_timeout"`
	// CallTimeout bounds one call of another network function. 0 means 10 s.
	CallTimeout time.Duration `yaml:"call_timeout"`
	// MaxCalls is how many such calls run at once; more wait. 0 means 256.
	MaxCalls int `yaml:"max_calls"`
	// MaxUEs is how many UE contexts may exist. 0 means 200,000. Beyond it
	// INITIAL UE MESSAGE is answered with cause "control processing overload".
	MaxUEs int `yaml:"max_ues"`
	// DrainTimeout bounds the graceful end of the NG associations. 0 means 2 s.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}

// PLMNSupport is a served network.
type PLMNSupport struct {
	PLMN ident.PLMN `yaml:"plmn"`
	// TACs are the served tracking areas; UEs get all of them (at most 16) as
	// their registration area. Empty means any: the area is then the one the UE
	// is in.
	TACs []ident.TAC `yaml:"tacs"`
	// Slices are the supported S-NSSAIs. At least one is required.
	Slices []ident.SNSSAI `yaml:"slices"`
}

// maxTAIs is the largest TAI list (TS 24.501 clause 9.11.3.9).
const maxTAIs = 16

// maxAllowedNSSAI is the largest allowed NSSAI (TS 24.501 clause 9.11.3.37).
const maxAllowedNSSAI = 8

// Validate says what is wrong with c; nil when nothing is. Zero values that have
// a meaning are accepted.
func (c Config) Validate() error {
	bad := func(field, format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrConfig, field, fmt.Sprintf(format, args...))
	}
	if c.NFID == "" {
		return bad("nf_id", "missing")
	}
	if c.Name == "" || len(c.Name) > 150 {
		return bad("name", "want 1 to 150 characters")
	}
	if len(c.PLMNs) == 0 {
		return bad("plmns", "want at least one")
	}
	home := false
	for i, p := range c.PLMNs {
		if !p.PLMN.Valid() {
			return bad(fmt.Sprintf("plmns[%d].plmn", i), "%q is not a PLMN", p.PLMN)
		}
		if len(p.Slices) == 0 {
			return bad(fmt.Sprintf("plmns[%d].slices", i), "want at least one")
		}
		for _, t := range p.TACs {
			if t > 0xffffff {
				return bad(fmt.Sprintf("plmns[%d].tacs", i), "%d does not fit 24 bits", t)
			}
		}
		home = home || p.PLMN == c.GUAMI.PLMN
	}
	if !home {
		return bad("guami.plmn", "%s is not among plmns", c.GUAMI.PLMN)
	}
	if c.GUAMI.Set > 0x3ff || c.GUAMI.Pointer > 0x3f {
		return bad("guami", "set has 10 bits, pointer 6")
	}
	for _, n := range c.Integrity {
		if n < 1 || n > 3 {
			return bad("integrity", "NIA%d: want 1 to 3 (NIA0 is for emergency services only)", n)
		}
	}
	for _, n := range c.Ciphering {
		if n < 0 || n > 3 {
			return bad("ciphering", "NEA%d: want 0 to 3", n)
		}
	}
	for _, d := range []struct {
		field string
		v     time.Duration
	}{
		{"t3512", c.T3512}, {"t3522", c.T3522}, {"t3550", c.T3550}, {"t3560", c.T3560}, {"t3570", c.T3570},
		{"implicit_deregistration", c.ImplicitDeregistration}, {"n2_timeout", c.N2Timeout},
		{"send_timeout", c.SendTimeout}, {"call_timeout", c.CallTimeout}, {"drain_timeout", c.DrainTimeout},
	} {
		if d.v < 0 {
			return bad(d.field, "%v is negative", d.v)
		}
	}
	if c.Retransmissions < 0 || c.MaxCalls < 0 || c.MaxUEs < 0 {
		return bad("retransmissions, max_calls, max_ues", "negative")
	}
	return nil
}

// withDefaults returns a copy of c in which no zero value has a meaning left.
func (c Config) withDefaults() Config {
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	or(&c.T3512, 54*time.Minute)
	c.T3512 = sayable(c.T3512)
	or(&c.T3522, 6*time.Second)
	or(&c.T3550, 6*time.Second)
	or(&c.T3560, 6*time.Second)
	or(&c.T3570, 6*time.Second)
	or(&c.ImplicitDeregistration, 4*time.Minute)
	or(&c.N2Timeout, 10*time.Second)
	or(&c.SendTimeout, 10*time.Second)
	or(&c.CallTimeout, 10*time.Second)
	or(&c.DrainTimeout, 2*time.Second)
	if len(c.Integrity) == 0 {
		c.Integrity = []int{2, 1, 3}
	}
	if len(c.Ciphering) == 0 {
		c.Ciphering = []int{0, 2, 1, 3}
	}
	if c.DefaultDNN == "" {
		c.DefaultDNN = "internet"
	}
	if c.Capacity == 0 {
		c.Capacity = 255
	}
	if c.Retransmissions == 0 {
		c.Retransmissions = 4
	}
	if c.MaxCalls == 0 {
		c.MaxCalls = 256
	}
	if c.MaxUEs == 0 {
		c.MaxUEs = 200_000
	}
	c.PLMNs = slices.Clone(c.PLMNs)
	c.Integrity = slices.Clone(c.Integrity)
	c.Ciphering = slices.Clone(c.Ciphering)
	c.DNNs = slices.Clone(c.DNNs)
	return c
}

// sayable rounds d up to a value of GPRS timer 3 (TS 24.008 clause 10.5.7.4a). The
// AMF must reckon with the timer as the UE runs it: its mobile reachable timer
// has to be the longer one.
func sayable(d time.Duration) time.Duration {
	for _, unit := range []time.Duration{
		2 * time.Second, 30 * time.Second, time.Minute, 10 * time.Minute, time.Hour, 10 * time.Hour,
	} {
		if n := (d + unit - 1) / unit; n <= 31 {
			return n * unit
		}
	}
	return 310 * time.Hour
}

// support returns what is served in a PLMN, nil if it is not.
func (c *Config) support(p ident.PLMN) *PLMNSupport {
	for i := range c.PLMNs {
		if c.PLMNs[i].PLMN == p {
			return &c.PLMNs[i]
		}
	}
	return nil
}

// serves reports whether the tracking area is served.
func (p *PLMNSupport) serves(t ident.TAC) bool {
	return len(p.TACs) == 0 || slices.Contains(p.TACs, t)
}

// area returns the registration area for a UE in t.
func (p *PLMNSupport) area(t ident.TAC) []ident.TAI {
	list := []ident.TAI{{PLMN: p.PLMN, TAC: t}}
	for _, c := range p.TACs {
		if c != t && len(list) < maxTAIs {
			list = append(list, ident.TAI{PLMN: p.PLMN, TAC: c})
		}
	}
	return list
}
