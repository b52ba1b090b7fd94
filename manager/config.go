package manager

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// MaxDuration is the longest an entry may live.
const MaxDuration = 8 * time.Hour

// defaultHeartbeat is Config.Heartbeat's.
const defaultHeartbeat = 2 * time.Second

// MaxSIMID bounds the ID of a SIM, in bytes.
const MaxSIMID = 64

// MaxTicketLifetime is the longest a ticket may be valid.
const MaxTicketLifetime = 30 * time.Second

// Config is the manager's configuration.
type Config struct {
	// Operators are the tenants. None: nobody can authenticate.
	Operators []OperatorConfig `yaml:"operators"`
	// PlatformOperators may see and drain relays, which all operators share. None: the
	// only operator, if there is one alone, else nobody.
	PlatformOperators []OperatorID `yaml:"platform_operators"`
	// Subscribers are the SIMs and their owners. None: no entry can be made.
	Subscribers []SubscriberConfig `yaml:"subscribers"`
	// InnerRelays says which inner relay stands at the N6 of which UPF.
	InnerRelays []InnerRelayConfig `yaml:"inner_relays"`
	// SIMs is what the manager does with them.
	SIMs SIMConfig `yaml:"sims"`
	// Policy chooses the outer relay (R5): "random", "region" (of the client, by
	// Regions), "operator" (the client's carrier, by Carriers), "least-clients" or
	// "least-traffic". Empty: random.
	Policy string `yaml:"policy"`
	// Regions says which region a client's address is in. The longest prefix wins. A
	// client in none, or in one without a relay, gets any relay.
	Regions []RegionConfig `yaml:"regions"`
	// Carriers says whose network a client's address is in, and which relays serve it.
	// The longest prefix wins. Other clients get any relay.
	Carriers []CarrierConfig `yaml:"carriers"`
	// DefaultDuration is the life of an entry that does not ask for one, in whole
	// seconds, at most MaxDuration. 0: 30 minutes.
	DefaultDuration time.Duration `yaml:"default_duration"`
	// MaxDuration is the longest life that may be asked for, at most 8 hours.
	// 0: 8 hours.
	MaxDuration time.Duration `yaml:"max_duration"`
	// Quarantine is how long a port rests after its entry ended (R6). 0: 60 s;
	// negative: none.
	Quarantine time.Duration `yaml:"quarantine"`
	// RelayTimeout is how long a relay may take to answer a command. 0: 3 s.
	RelayTimeout time.Duration `yaml:"relay_timeout"`
	// Heartbeat is how often a manager says that it and the relays attached to it are
	// there, to others on its store. After five that are missed its relays count as
	// gone. 0: 2 s on a store that several managers may use, else never. The clocks of
	// managers must agree within a heartbeat or two.
	Heartbeat time.Duration `yaml:"heartbeat"`
	// TicketLifetime is how long an inner relay accepts a ticket, at most 30 s.
	// 0: 15 s.
	TicketLifetime time.Duration `yaml:"ticket_lifetime"`
}

// RegionConfig places addresses in a region, named as relays name theirs.
type RegionConfig struct {
	Region   string         `yaml:"region"`
	Prefixes []netip.Prefix `yaml:"prefixes"`
}

// CarrierConfig is a network that clients come from.
type CarrierConfig struct {
	Name     string         `yaml:"name"` // for people
	Prefixes []netip.Prefix `yaml:"prefixes"`
	// Relays are the outer relays that serve it, of which a random one is taken.
	Relays []RelayID `yaml:"relays"`
}

// OperatorConfig is a tenant.
type OperatorConfig struct {
	// ID is "OP" and ten digits.
	ID OperatorID `yaml:"id"`
	// Email is the name of the root user. Empty: no login by password.
	Email string `yaml:"email"`
	// PasswordHash is an argon2id hash in PHC form, as HashSecret makes it.
	PasswordHash string `yaml:"password_hash"`
	// Password may be given instead of PasswordHash in a testbed: it is hashed
	// when the manager is built.
	Password string `yaml:"password"`
	// AuthKeys are the operator's API credentials.
	AuthKeys []AuthKeyConfig `yaml:"auth_keys"`
}

// AuthKeyConfig is an authentication key. Exactly one of Hash and Key is set.
type AuthKeyConfig struct {
	ID   string `yaml:"id"`   // "keyId-..."
	Hash string `yaml:"hash"` // argon2id, PHC form
	Key  string `yaml:"key"`  // "secret-..."; in a testbed
}

// SubscriberConfig is a SIM.
type SubscriberConfig struct {
	IMSI       string     `yaml:"imsi"`
	SIMID      string     `yaml:"sim_id"`      // empty: reachable by IMSI only
	OperatorID OperatorID `yaml:"operator_id"` // empty: nobody's, until it is registered
	SIM        SIMSeed    `yaml:"sim"`         // what it starts with
}

// InnerRelayConfig places an inner relay.
type InnerRelayConfig struct {
	ID   RelayID  `yaml:"id"`
	UPFs []string `yaml:"upfs"` // names as the SMF reports them
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.DefaultDuration, 30*time.Minute)
	set(&c.MaxDuration, MaxDuration)
	set(&c.Quarantine, time.Minute)
	set(&c.RelayTimeout, 3*time.Second)
	set(&c.TicketLifetime, 15*time.Second)
	c.Quarantine = max(c.Quarantine, 0)
	c.SIMs = c.SIMs.withDefaults()
	c.DefaultDuration = min(c.DefaultDuration, c.MaxDuration)
	return c
}

// Validate reports everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, err := newPolicy(c); err != nil {
		errs = append(errs, err)
	}
	seconds := func(name string, d, most time.Duration) {
		if d < 0 || d > most || d%time.Second != 0 {
			bad("%s %s: want whole seconds, at most %s", name, d, most)
		}
	}
	seconds("default_duration", c.DefaultDuration, MaxDuration)
	seconds("max_duration", c.MaxDuration, MaxDuration)
	seconds("ticket_lifetime", c.TicketLifetime, MaxTicketLifetime)
	if c.Heartbeat < 0 {
		bad("heartbeat %s: must not be negative", c.Heartbeat)
	}
	if c.RelayTimeout < 0 {
		bad("relay_timeout %s: must not be negative", c.RelayTimeout)
	}
	owners := c.validateOperators(bad)
	for _, id := range c.PlatformOperators {
		if !owners[id] {
			bad("platform_operators: unknown operator %q", id)
		}
	}
	c.SIMs.validate(bad)
	classes := c.SIMs.speedClasses()
	imsis, sims := map[ident.IMSI]bool{}, map[string]bool{}
	for _, s := range c.Subscribers {
		imsi, err := ident.ParseIMSI(s.IMSI)
		switch {
		case err != nil:
			bad("subscriber: %w", err)
		case imsis[imsi]:
			bad("subscriber %s: listed twice", imsi)
		case len(s.SIMID) > MaxSIMID:
			bad("subscriber %s: its SIM ID is longer than %d bytes", imsi, MaxSIMID)
		case s.SIMID != "" && sims[s.SIMID]:
			bad("subscriber %s: SIM ID %s is another's", imsi, s.SIMID)
		case s.OperatorID != "" && !owners[s.OperatorID]:
			bad("subscriber %s: unknown operator %q", imsi, s.OperatorID)
		}
		s.validateSeed(classes, bad)
		imsis[imsi], sims[s.SIMID] = true, true
	}
	upfs, inner := map[string]bool{}, map[RelayID]bool{}
	for _, r := range c.InnerRelays {
		if r.ID == "" || inner[r.ID] {
			bad("inner relay %q: the id is empty or listed twice", r.ID)
		}
		inner[r.ID] = true
		for _, u := range r.UPFs {
			if u == "" || upfs[u] {
				bad("inner relay %s: UPF %q is empty or has another inner relay", r.ID, u)
			}
			upfs[u] = true
		}
	}
	return errors.Join(errs...)
}

func (c Config) validateOperators(bad func(string, ...any)) map[OperatorID]bool {
	owners, emails, keys := map[OperatorID]bool{}, map[string]bool{}, map[string]bool{}
	for _, o := range c.Operators {
		switch {
		case !validOperatorID(o.ID):
			bad("operator %q: want \"OP\" and ten digits", o.ID)
		case owners[o.ID]:
			bad("operator %s: listed twice", o.ID)
		case o.Email != "" && emails[o.Email]:
			bad("operator %s: the email is another's", o.ID)
		case o.Password != "" && o.PasswordHash != "":
			bad("operator %s: password and password_hash are both set", o.ID)
		case (o.Email == "") != (o.Password == "" && o.PasswordHash == ""):
			bad("operator %s: email and password go together", o.ID)
		}
		if o.PasswordHash != "" {
			if _, err := parseHash(o.PasswordHash); err != nil {
				bad("operator %s: password_hash: %w", o.ID, err)
			}
		}
		owners[o.ID], emails[o.Email] = true, true
		for _, k := range o.AuthKeys {
			switch {
			case k.ID == "" || keys[k.ID]:
				bad("operator %s: auth key %q: the id is empty or listed twice", o.ID, k.ID)
			case (k.Key == "") == (k.Hash == ""):
				bad("operator %s: auth key %s: want exactly one of key and hash", o.ID, k.ID)
			}
			if k.Hash != "" {
				if _, err := parseHash(k.Hash); err != nil {
					bad("operator %s: auth key %s: hash: %w", o.ID, k.ID, err)
				}
			}
			keys[k.ID] = true
		}
	}
	return owners
}

func validOperatorID(id OperatorID) bool {
	if len(id) != 12 || id[:2] != "OP" {
		return false
	}
	for _, c := range id[2:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
