package udm

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/ident"
)

// Defaults of Config and Subscriber.
const (
	DefaultAuthContextTTL  = 30 * time.Second
	DefaultMaxAuthContexts = 65536
	DefaultFiveQI          = 9
	DefaultARPPriority     = 8
	DefaultAMF             = "8000" // separation bit set, as 5G AKA requires (TS 33.501 clause 6.1.3.2)

	// Unlimited is what an AMBR of zero becomes: 4 Tbit/s, the most that NGAP can
	// say (TS 38.413 clause 9.3.1.4).
	Unlimited = 4_000_000_000_000
)

// maxProblems bounds how many errors Validate reports at once.
const maxProblems = 20

// Secret is a key as hexadecimal text. It never prints.
type Secret string

// String hides the key.
func (Secret) String() string { return "redacted" }

// GoString hides the key from %#v.
func (Secret) GoString() string { return "redacted" }

// LogValue hides the key from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue("redacted") }

// Config is a UDM's configuration.
type Config struct {
	// PLMN is the home network. Required; every SUPI begins with it.
	PLMN ident.PLMN `yaml:"plmn"`
	// ServingNetworks may authenticate subscribers. Empty means PLMN only.
	ServingNetworks []ident.PLMN `yaml:"serving_networks"`
	// Subscribers are there from the start; more may come by AddSubscriber.
	Subscribers []Subscriber `yaml:"subscribers"`
	// HomeKeys decrypt SUCIs of ECIES profiles A and B. Empty means that only the
	// null scheme is understood.
	HomeKeys []HomeKey `yaml:"home_keys"`
	// AuthContextTTL is how long a challenge may be confirmed. Zero means
	// DefaultAuthContextTTL.
	AuthContextTTL time.Duration `yaml:"auth_context_ttl"`
	// MaxAuthContexts bounds the challenges kept; beyond it the oldest goes. Zero
	// means DefaultMaxAuthContexts.
	MaxAuthContexts int `yaml:"max_auth_contexts"`
}

// HomeKey is a home network private key (TS 33.501 clause 6.12.2).
type HomeKey struct {
	ID         uint8  `yaml:"id"`          // home network public key identifier, 0..255
	Scheme     string `yaml:"scheme"`      // "A" (X25519) or "B" (P-256)
	PrivateKey Secret `yaml:"private_key"` // 64 hexadecimal digits
}

// Subscriber is one subscription.
type Subscriber struct {
	// SUPI is "imsi-" and 6 to 15 digits that begin with the home PLMN. Required.
	SUPI ident.SUPI `yaml:"supi"`
	// K is the key of the USIM, 32 hexadecimal digits. Required.
	K Secret `yaml:"k"`
	// OPc or OP, 32 hexadecimal digits; exactly one of them.
	OPc Secret `yaml:"opc"`
	OP  Secret `yaml:"op"`
	// AMF is the authentication management field, 4 hexadecimal digits. Empty
	// means DefaultAMF.
	AMF string `yaml:"amf"`
	// SQN is the sequence number last used, 48 bits: SEQ in the upper 43, IND in
	// the lower 5 (TS 33.102 annex C). Zero means none was.
	SQN uint64 `yaml:"sqn"`
	// AMBR is the UE-AMBR in bit/s. Zero means Unlimited, either way.
	AMBR ident.AMBR `yaml:"ambr"`
	// Slices are what is subscribed. At least one.
	Slices []Slice `yaml:"slices"`
	// UEGroup selects UPFs. Empty means none.
	UEGroup string `yaml:"ue_group"`
}

// Slice is a subscribed network slice.
type Slice struct {
	SNSSAI ident.SNSSAI `yaml:"snssai"`
	// Default marks a default slice. When no slice is marked, the first is.
	Default bool `yaml:"default"`
	// DNNs may be used in the slice. At least one.
	DNNs []DNN `yaml:"dnns"`
}

// DNN is the subscription to a data network in a slice.
type DNN struct {
	Name ident.DNN `yaml:"name"` // compared in lower case
	// Types are the PDU session types allowed, the default first. Empty means IPv4.
	Types []ident.PDUSessionType `yaml:"types"`
	// AMBR is the session AMBR in bit/s. Zero means Unlimited, either way.
	AMBR ident.AMBR `yaml:"ambr"`
	// FiveQI of the default QoS flow. Zero means DefaultFiveQI.
	FiveQI uint8 `yaml:"five_qi"`
	// ARPPriority is 1 (highest) to 15. Zero means DefaultARPPriority.
	ARPPriority uint8 `yaml:"arp_priority"`
	// StaticIPv4 and StaticIPv6 are the subscriber's own address and /64 prefix.
	// Zero means that the SMF chooses.
	StaticIPv4 netip.Addr   `yaml:"static_ipv4"`
	StaticIPv6 netip.Prefix `yaml:"static_ipv6"`
}

// Validate reports what is wrong with c, up to 20 fields at once. Errors wrap
// ErrConfig.
func (c Config) Validate() error {
	var errs []error
	add := func(err error) {
		if err != nil && len(errs) < maxProblems {
			errs = append(errs, err)
		}
	}
	if !c.PLMN.Valid() {
		add(invalid("plmn", c.PLMN.String(), "a 3-digit mcc and a 2- or 3-digit mnc"))
	}
	for i, p := range c.ServingNetworks {
		if !p.Valid() {
			add(invalid(fmt.Sprintf("serving_networks[%d]", i), p.String(), "a 3-digit mcc and a 2- or 3-digit mnc"))
		}
	}
	if c.AuthContextTTL < 0 {
		add(invalid("auth_context_ttl", c.AuthContextTTL.String(), "a positive duration, or 0 for the default"))
	}
	if c.MaxAuthContexts < 0 {
		add(invalid("max_auth_contexts", fmt.Sprint(c.MaxAuthContexts), "a positive number, or 0 for the default"))
	}
	keys := make(map[keyName]bool)
	for i, k := range c.HomeKeys {
		_, name, err := k.parse(fmt.Sprintf("home_keys[%d]", i))
		if err == nil && keys[name] {
			err = invalid(fmt.Sprintf("home_keys[%d].id", i), fmt.Sprintf("%d is there twice for scheme %s", k.ID, k.Scheme), "another id")
		}
		keys[name] = true
		add(err)
	}
	supis := make(map[ident.SUPI]bool, len(c.Subscribers))
	for i := range c.Subscribers {
		s, at := &c.Subscribers[i], fmt.Sprintf("subscribers[%d]", i)
		add(s.validate(at, c.PLMN))
		if supis[s.SUPI] {
			add(invalid(at+".supi", string(s.SUPI)+" is there twice", "another SUPI"))
		}
		supis[s.SUPI] = true
	}
	return errors.Join(errs...)
}

type keyName struct {
	scheme uint8
	id     uint8
}

// parse checks a home network key by deriving its public half.
func (k HomeKey) parse(at string) (private []byte, name keyName, err error) {
	private, err = hexField(at+".private_key", string(k.PrivateKey), 32)
	if err != nil {
		return nil, name, err
	}
	switch strings.ToUpper(k.Scheme) {
	case "A":
		name = keyName{schemeA, k.ID}
		_, err = aka.PublicA(private)
	case "B":
		name = keyName{schemeB, k.ID}
		_, err = aka.PublicB(private)
	default:
		return nil, name, invalid(at+".scheme", fmt.Sprintf("%q", k.Scheme), `"A" or "B"`)
	}
	if err != nil {
		return nil, name, invalid(at+".private_key", "out of range", "a private key of profile "+k.Scheme)
	}
	return private, name, nil
}

// hexField decodes exactly n octets. Its errors say the length only: the value is
// a secret.
func hexField(field, s string, n int) ([]byte, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != n {
		return nil, invalid(field, fmt.Sprintf("%d characters", len(s)), fmt.Sprintf("%d hexadecimal digits", 2*n))
	}
	return b, nil
}

// keys parses K, OPc (or OP) and AMF.
func (s *Subscriber) keys(at string) (k, opc [16]byte, amf [2]byte, err error) {
	kb, err := hexField(at+".k", string(s.K), 16)
	if err != nil {
		return k, opc, amf, err
	}
	k = [16]byte(kb)
	switch {
	case (s.OPc == "") == (s.OP == ""):
		return k, opc, amf, invalid(at+".opc", "opc and op are both set or both empty", "exactly one of them")
	case s.OPc != "":
		b, err := hexField(at+".opc", string(s.OPc), 16)
		if err != nil {
			return k, opc, amf, err
		}
		opc = [16]byte(b)
	default:
		b, err := hexField(at+".op", string(s.OP), 16)
		if err != nil {
			return k, opc, amf, err
		}
		opc = aka.OPc(k, [16]byte(b))
	}
	text := s.AMF
	if text == "" {
		text = DefaultAMF
	}
	ab, err := hexField(at+".amf", text, 2)
	if err != nil {
		return k, opc, amf, err
	}
	if ab[0]&0x80 == 0 {
		return k, opc, amf, invalid(at+".amf", text, "the separation bit set (8000 or more), or UEs refuse 5G AKA")
	}
	return k, opc, [2]byte(ab), nil
}

// validate reports the first thing wrong with s.
func (s *Subscriber) validate(at string, home ident.PLMN) error {
	supi, err := ident.ParseSUPI(string(s.SUPI))
	if err != nil {
		return invalid(at+".supi", fmt.Sprintf("%q", string(s.SUPI)), `"imsi-" and 6 to 15 digits`)
	}
	if !strings.HasPrefix(string(supi.IMSI()), home.MCC+home.MNC) {
		return invalid(at+".supi", string(supi), "an IMSI of the home network, beginning with "+home.MCC+home.MNC)
	}
	if _, _, _, err := s.keys(at); err != nil {
		return err
	}
	if s.SQN > maxSQN {
		return invalid(at+".sqn", fmt.Sprintf("%#x", s.SQN), "at most 48 bits")
	}
	if len(s.Slices) == 0 {
		return invalid(at+".slices", "none", "at least one slice")
	}
	seen := make(map[sessionKey]bool) // a slice by itself has no DNN
	for i, sl := range s.Slices {
		at := fmt.Sprintf("%s.slices[%d]", at, i)
		if seen[keyOf(sl.SNSSAI, "")] {
			return invalid(at+".snssai", sl.SNSSAI.String()+" is there twice", "one entry for each slice")
		}
		seen[keyOf(sl.SNSSAI, "")] = true
		if _, err := ident.ParseSNSSAI(sl.SNSSAI.String()); err != nil {
			return invalid(at+".snssai", fmt.Sprintf("%q", sl.SNSSAI), "an sst and, if any, an sd of six hexadecimal digits")
		}
		if len(sl.DNNs) == 0 {
			return invalid(at+".dnns", "none", "at least one DNN")
		}
		for j, d := range sl.DNNs {
			at := fmt.Sprintf("%s.dnns[%d]", at, j)
			if err := d.validate(at); err != nil {
				return err
			}
			key := keyOf(sl.SNSSAI, d.Name)
			if seen[key] {
				return invalid(at+".name", string(d.Name)+" is there twice in the slice", "another name")
			}
			seen[key] = true
		}
	}
	return nil
}

func (d *DNN) validate(at string) error {
	if d.Name == "" || len(d.Name) > 100 {
		return invalid(at+".name", fmt.Sprintf("%d characters", len(d.Name)), "1 to 100 characters")
	}
	for i, t := range d.Types {
		if t < ident.IPv4 || t > ident.IPv4v6 {
			return invalid(fmt.Sprintf("%s.types[%d]", at, i), fmt.Sprint(uint8(t)), "1 (IPv4), 2 (IPv6) or 3 (IPv4v6)")
		}
	}
	if d.ARPPriority > 15 {
		return invalid(at+".arp_priority", fmt.Sprint(d.ARPPriority), "1 to 15, or 0 for the default")
	}
	if d.StaticIPv4.IsValid() && !d.StaticIPv4.Is4() {
		return invalid(at+".static_ipv4", d.StaticIPv4.String(), "an IPv4 address")
	}
	if p := d.StaticIPv6; p.IsValid() && (!p.Addr().Is6() || p.Addr().Is4In6() || p.Bits() != 64 || p != p.Masked()) {
		return invalid(at+".static_ipv6", p.String(), "an IPv6 prefix of 64 bits")
	}
	return nil
}
