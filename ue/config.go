package ue

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// Key is a 128-bit key of the USIM, 32 hexadecimal digits in text. It prints as
// "redacted" so that no log or error can carry it.
type Key [16]byte

// UnmarshalText accepts 32 hexadecimal digits.
func (k *Key) UnmarshalText(b []byte) error {
	if len(b) != 32 {
		return errors.New("want 32 hexadecimal digits")
	}
	_, err := hex.Decode(k[:], b)
	return err
}

// UnmarshalYAML accepts the digits with or without quotes: a key may look like a
// number.
func (k *Key) UnmarshalYAML(b []byte) error { return k.UnmarshalText(scalar(b)) }

func scalar(b []byte) []byte { return bytes.Trim(bytes.TrimSpace(b), `"'`) }

// MarshalText never gives the key away.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// String never gives the key away.
func (Key) String() string { return "redacted" }

// GoString never gives the key away.
func (Key) GoString() string { return "redacted" }

// HexBytes are octets, written in hexadecimal in text.
type HexBytes []byte

// UnmarshalText accepts an even number of hexadecimal digits.
func (h *HexBytes) UnmarshalText(b []byte) error {
	v, err := hex.DecodeString(string(b))
	*h = v
	return err
}

// UnmarshalYAML is Key's.
func (h *HexBytes) UnmarshalYAML(b []byte) error { return h.UnmarshalText(scalar(b)) }

// MarshalText writes hexadecimal digits.
func (h HexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

// Config describes one UE with its USIM. It is plain data.
type Config struct {
	// SUPI is the subscriber: "imsi-" and 6 to 15 digits. Required.
	SUPI ident.SUPI `yaml:"supi"`
	// PLMN is the home network: it splits the IMSI. The zero value takes a
	// three-digit MCC and a two-digit MNC from the IMSI.
	PLMN ident.PLMN `yaml:"plmn"`
	// K is the subscriber key. Required (an all-zero key is refused).
	K Key `yaml:"k"`
	// OPc is the operator variant key; zero derives it from OP.
	OPc Key `yaml:"opc"`
	// OP is used only while OPc is zero.
	OP Key `yaml:"op"`
	// SQN is the highest sequence number this USIM has accepted (48 bits,
	// TS 33.102 annex C); 0 for a fresh one.
	SQN uint64 `yaml:"sqn"`
	// PEI is "imeisv-" and 16 digits, or "imei-" and 15 digits; empty: the UE
	// has no PEI to tell.
	PEI ident.PEI `yaml:"pei"`
	// RoutingIndicator is 1 to 4 digits; empty means "0".
	RoutingIndicator string `yaml:"routing_indicator"`
	// Scheme is the SUCI protection scheme: 0 null, 1 ECIES profile A, 2 profile B.
	Scheme uint8 `yaml:"scheme"`
	// HomeKey is the home network public key: 32 octets for profile A, 33
	// (compressed) or 65 for B; empty for the null scheme.
	HomeKey HexBytes `yaml:"home_key"`
	// HomeKeyID is the home network public key identifier; 0 with the null scheme.
	HomeKeyID uint8 `yaml:"home_key_id"`
	// Ciphering lists the NEA numbers this UE supports, 0..3; empty means all four.
	Ciphering []uint8 `yaml:"ciphering"`
	// Integrity lists the NIA numbers this UE supports, 1..3; empty means 1, 2, 3.
	// NIA0 is refused: it is for emergency services only.
	Integrity []uint8 `yaml:"integrity"`
	// RequestedNSSAI is sent in registration; empty leaves the IE out.
	RequestedNSSAI []ident.SNSSAI `yaml:"requested_nssai"`
	// Sessions are established after every initial registration; empty: none.
	Sessions []SessionConfig `yaml:"sessions"`
	// GNBs are the gNBs in radio range, in order of preference. At least one.
	GNBs []string `yaml:"gnbs"`
	// Autostart registers as soon as Run starts; false waits for Register.
	Autostart bool `yaml:"autostart"`
	// NoReselect keeps a UE that lost its gNB where it is until it is told to
	// move; false searches the gNBs of the list.
	NoReselect bool `yaml:"no_reselect"`
	// AllowIdle lets a UE with sessions stay in CM-IDLE after the network
	// released the connection, until it has something to send. False returns to
	// connected mode at once, because nothing in the testbed pages.
	AllowIdle bool `yaml:"allow_idle"`
	// MTU is the link MTU of a session for which the network names none,
	// 576..9000 bytes; 0 means 1400.
	MTU int `yaml:"mtu"`
	// Timers override the standard values.
	Timers Timers `yaml:"timers"`
}

// SessionConfig is a PDU session the UE wants.
type SessionConfig struct {
	// ID is 1..15; 0 takes the lowest free one.
	ID ident.PDUSessionID `yaml:"id"`
	// DNN empty leaves the choice to the network.
	DNN ident.DNN `yaml:"dnn"`
	// SNSSAI nil leaves the choice to the network.
	SNSSAI *ident.SNSSAI `yaml:"snssai"`
	// Type 0 means IPv4.
	Type ident.PDUSessionType `yaml:"type"`
}

// Timers are the UE's NAS timers (TS 24.501 tables 10.2.1 and 10.3.1) and the
// waiting times of the simulated cell selection. Zero means the standard value.
type Timers struct {
	T3502 time.Duration `yaml:"t3502"` // 12 min, unless the network says otherwise
	T3510 time.Duration `yaml:"t3510"` // 15 s
	T3511 time.Duration `yaml:"t3511"` // 10 s
	T3512 time.Duration `yaml:"t3512"` // 54 min, unless the network says otherwise
	T3516 time.Duration `yaml:"t3516"` // 30 s
	T3517 time.Duration `yaml:"t3517"` // 15 s
	T3519 time.Duration `yaml:"t3519"` // 60 s
	T3520 time.Duration `yaml:"t3520"` // 15 s
	T3521 time.Duration `yaml:"t3521"` // 15 s
	T3525 time.Duration `yaml:"t3525"` // 60 s
	T3540 time.Duration `yaml:"t3540"` // 10 s
	T3580 time.Duration `yaml:"t3580"` // 16 s
	T3581 time.Duration `yaml:"t3581"` // 16 s
	T3582 time.Duration `yaml:"t3582"` // 16 s
	// CellAnswer bounds one gNB's answer to a cell search: 2 s.
	CellAnswer time.Duration `yaml:"cell_answer"`
	// SearchMin and SearchMax bound the doubling pause between two searches that
	// found no cell: 500 ms and 2 s. The same pause separates service requests
	// whose connection was released at once.
	SearchMin time.Duration `yaml:"search_min"`
	SearchMax time.Duration `yaml:"search_max"`
}

func (t Timers) withDefaults() Timers {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&t.T3502, 12*time.Minute)
	def(&t.T3510, 15*time.Second)
	def(&t.T3511, 10*time.Second)
	def(&t.T3512, 54*time.Minute)
	def(&t.T3516, 30*time.Second)
	def(&t.T3517, 15*time.Second)
	def(&t.T3519, 60*time.Second)
	def(&t.T3520, 15*time.Second)
	def(&t.T3521, 15*time.Second)
	def(&t.T3525, 60*time.Second)
	def(&t.T3540, 10*time.Second)
	def(&t.T3580, 16*time.Second)
	def(&t.T3581, 16*time.Second)
	def(&t.T3582, 16*time.Second)
	def(&t.CellAnswer, 2*time.Second)
	def(&t.SearchMin, 500*time.Millisecond)
	def(&t.SearchMax, 2*time.Second)
	return t
}

// home returns the home PLMN and the MSIN.
func (c Config) home() (ident.PLMN, string) {
	d := string(c.SUPI.IMSI())
	p := c.PLMN
	if p == (ident.PLMN{}) {
		p = ident.PLMN{MCC: d[:3], MNC: d[3:5]}
	}
	return p, d[len(p.MCC)+len(p.MNC):]
}

// Validate reports the first thing wrong with c.
func (c Config) Validate() error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("ue %s: "+format, append([]any{c.SUPI}, a...)...)
	}
	if _, err := ident.ParseSUPI(string(c.SUPI)); err != nil {
		return fmt.Errorf("ue: %w", err)
	}
	if p := c.PLMN; p != (ident.PLMN{}) {
		d := string(c.SUPI.IMSI())
		if !p.Valid() || len(d) <= len(p.MCC)+len(p.MNC) || d[:len(p.MCC)+len(p.MNC)] != p.MCC+p.MNC {
			return bad("plmn %s does not start the IMSI", p)
		}
	}
	if c.K == (Key{}) {
		return bad("k is missing")
	}
	if c.OPc == (Key{}) && c.OP == (Key{}) {
		return bad("opc or op is missing")
	}
	if c.SQN >= 1<<48 {
		return bad("sqn has more than 48 bits")
	}
	if n := len(c.RoutingIndicator); n > 4 {
		return bad("routing_indicator: want 1 to 4 digits")
	}
	for _, d := range []byte(c.RoutingIndicator) {
		if d < '0' || d > '9' {
			return bad("routing_indicator: want 1 to 4 digits")
		}
	}
	switch c.Scheme {
	case 0:
		if len(c.HomeKey) != 0 {
			return bad("home_key given for the null scheme")
		}
	case 1:
		if len(c.HomeKey) != 32 {
			return bad("home_key: profile A wants 32 octets")
		}
	case 2:
		if len(c.HomeKey) != 33 && len(c.HomeKey) != 65 {
			return bad("home_key: profile B wants 33 or 65 octets")
		}
	default:
		return bad("scheme %d: want 0, 1 or 2", c.Scheme)
	}
	for _, a := range c.Ciphering {
		if a > 3 {
			return bad("ciphering: NEA%d does not exist", a)
		}
	}
	for _, a := range c.Integrity {
		if a == 0 || a > 3 {
			return bad("integrity: NIA%d cannot be supported", a)
		}
	}
	if len(c.GNBs) == 0 {
		return bad("gnbs is empty")
	}
	if c.MTU != 0 && (c.MTU < 576 || c.MTU > 9000) {
		return bad("mtu %d: want 576 to 9000", c.MTU)
	}
	var ids []ident.PDUSessionID
	for _, s := range c.Sessions {
		if err := s.validate(); err != nil {
			return bad("%w", err)
		}
		if s.ID != 0 && slices.Contains(ids, s.ID) {
			return bad("two PDU sessions %d", s.ID)
		}
		ids = append(ids, s.ID)
	}
	if len(c.Sessions) > 15 {
		return bad("more than 15 PDU sessions")
	}
	return nil
}

func (s SessionConfig) validate() error {
	if s.ID > 15 {
		return fmt.Errorf("PDU session id %d: want 1 to 15", s.ID)
	}
	if s.Type > ident.IPv4v6 {
		return fmt.Errorf("PDU session type %d: want 1 to 3", s.Type)
	}
	return nil
}
