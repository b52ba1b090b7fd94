package manager

import (
	"context"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

// SIMConfig configures what the manager does with SIMs.
type SIMConfig struct {
	// SpeedClasses adds speed classes or replaces the rates of those there are.
	SpeedClasses map[SpeedClass]SpeedClassConfig `yaml:"speed_classes"`
	// CoreTimeout is how long a request waits for the core to do what was asked. When
	// it is over the request is answered and the manager goes on trying. 0: 3 s.
	CoreTimeout time.Duration `yaml:"core_timeout"`
	// RetryInterval is the pause before a change that the core did not take is tried
	// again. 0: 1 s.
	RetryInterval time.Duration `yaml:"retry_interval"`
	// ReconcileInterval is how often the core is compared with what is stored, for a
	// core that lost it in a restart. 0: 15 s.
	ReconcileInterval time.Duration `yaml:"reconcile_interval"`
	// WebTimeout bounds a web request of an event handler. 0: 5 s.
	WebTimeout time.Duration `yaml:"web_timeout"`
}

func (c SIMConfig) withDefaults() SIMConfig {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.CoreTimeout, 3*time.Second)
	set(&c.RetryInterval, time.Second)
	set(&c.ReconcileInterval, 15*time.Second)
	set(&c.WebTimeout, 5*time.Second)
	return c
}

// validate reports to bad what is wrong with c.
func (c SIMConfig) validate(bad func(string, ...any)) {
	for name, d := range map[string]time.Duration{
		"core_timeout": c.CoreTimeout, "retry_interval": c.RetryInterval,
		"reconcile_interval": c.ReconcileInterval, "web_timeout": c.WebTimeout,
	} {
		if d < 0 {
			bad("sims: %s %s: must not be negative", name, d)
		}
	}
	c.validateSpeedClasses(bad)
}

// SIMSeed is what a configured SIM starts with when the store does not have it yet.
// Afterwards the store is what counts.
type SIMSeed struct {
	// Status is ready, active, inactive, standby, suspended or shipped. Empty: ready,
	// or shipped for a SIM that nobody owns.
	Status SIMStatus `yaml:"status"`
	// SpeedClass must be in the table. Empty: DefaultSpeedClass.
	SpeedClass SpeedClass `yaml:"speed_class"`
	Name       string     `yaml:"name"` // the tag "name"
	MSISDN     string     `yaml:"msisdn"`
	ICCID      string     `yaml:"iccid"` // empty: the SIM ID
	// Subscription is the plan that clients see. Empty: "plan01s".
	Subscription string `yaml:"subscription"`
	ModuleType   string `yaml:"module_type"`
	SerialNumber string `yaml:"serial_number"`
	// RegistrationSecret lets an operator register a SIM that nobody owns.
	RegistrationSecret string `yaml:"registration_secret"`
}

func (c SubscriberConfig) validateSeed(table map[SpeedClass]ident.AMBR, bad func(string, ...any)) {
	s := c.SIM
	if s.Status != "" && (!s.Status.Valid() || s.Status == SIMTerminated) {
		bad("subscriber %s: unknown status %q", c.IMSI, string(s.Status))
	}
	if _, ok := table[s.SpeedClass]; !ok && s.SpeedClass != "" {
		bad("subscriber %s: unknown speed class %q: want one of %s", c.IMSI, string(s.SpeedClass), speedClassNames(table))
	}
	if (s.Status == SIMShipped || c.OperatorID == "") && s.RegistrationSecret == "" {
		bad("subscriber %s: a SIM that nobody owns needs a registration_secret", c.IMSI)
	}
	if s.Status == SIMShipped && c.OperatorID != "" {
		bad("subscriber %s: a shipped SIM has no operator", c.IMSI)
	}
}

// seed returns the SIM that a valid configuration describes.
func (c SubscriberConfig) seed(at time.Time) (SIM, error) {
	imsi, err := ident.ParseIMSI(c.IMSI)
	if err != nil {
		return SIM{}, err
	}
	s := SIM{
		IMSI: imsi, SIMID: c.SIMID, OperatorID: c.OperatorID, Status: c.SIM.Status, SpeedClass: c.SIM.SpeedClass,
		Tags: map[string]string{"name": c.SIM.Name}, MSISDN: c.SIM.MSISDN, ICCID: c.SIM.ICCID, SerialNumber: c.SIM.SerialNumber,
		Subscription: c.SIM.Subscription, ModuleType: c.SIM.ModuleType, Created: at, Modified: at,
	}
	if s.SpeedClass == "" {
		s.SpeedClass = DefaultSpeedClass
	}
	if s.Subscription == "" {
		s.Subscription = "plan01s"
	}
	if s.ICCID == "" {
		s.ICCID = c.SIMID
	}
	if s.Status == "" {
		s.Status = SIMReady
		if c.OperatorID == "" {
			s.Status = SIMShipped
		}
	}
	if c.OperatorID != "" {
		s.Registered = at
	}
	if c.SIM.RegistrationSecret != "" { // a long random string on a card's sleeve; guessing is one request per try
		s.SecretHash = digest(c.SIM.RegistrationSecret)
	}
	s.Dirty = s.Supervised()
	return s, nil
}

// Core is the mobile core as the manager commands it. Nil members: the manager has no
// core to command; what was asked stays stored.
type Core struct {
	Provisioning sbi.Provisioning
	Control      sbi.SessionControl
}

// WebRequester performs the web requests of event handlers.
type WebRequester interface {
	// Do sends r and returns the answer's status. ctx bounds it. Redirections are not
	// followed. An error: there was no answer.
	Do(ctx context.Context, r WebRequest) (status int, err error)
}

// WebRequest is what an event handler sends.
type WebRequest struct {
	Method      string // GET, POST, PUT or DELETE
	URL         string // http or https
	ContentType string
	Headers     map[string]string
	Body        string
}
