package rpc

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/simreach/simreach/internal/pki"
)

// ServerConfig configures the manager's side. Exactly one of Secret and TLS is set.
type ServerConfig struct {
	// Listen is "address:port"; whoever builds the Server opens it.
	Listen string `yaml:"listen"`
	// Secret is what relays must show, in the clear: for a closed network only.
	Secret string `yaml:"secret"`
	// TLS is the manager's certificate, and the CA of which the relays' come; a
	// relay's names its kind and ID (pki.RelayURI), and it can attach as nothing else.
	TLS pki.Config `yaml:"tls"`
	// ShutdownTimeout is how long requests may take to end on stopping. 0: 2 s.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout"`
}

// Validate reports what is wrong with c.
func (c ServerConfig) Validate() error {
	if err := trust("manager rpc", c.Secret, c.TLS); err != nil {
		return err
	}
	if c.ShutdownTimeout < 0 {
		return fmt.Errorf("manager rpc: shutdown_timeout %s: must not be negative", c.ShutdownTimeout)
	}
	return nil
}

func trust(who, secret string, t pki.Config) error {
	if (secret == "") == !t.Enabled() {
		return fmt.Errorf("%s: want exactly one of secret and tls", who)
	}
	if t.Enabled() {
		if err := t.Mutual(); err != nil {
			return fmt.Errorf("%s: tls: %w", who, err)
		}
	}
	return nil
}

// ClientConfig configures a relay's side. Exactly one of Secret and TLS is set.
type ClientConfig struct {
	// Manager is the manager's "address:port". Required.
	Manager string `yaml:"manager"`
	// Alternates are further managers on the same store, tried in this order when the
	// one that the relay is attached to goes away.
	Alternates []string `yaml:"alternates"`
	// Secret is what the manager demands, in the clear: for a closed network only.
	Secret string `yaml:"secret"`
	// TLS is the relay's certificate, and the CA of which the managers' come. A
	// manager's certificate must be for the host in its address.
	TLS pki.Config `yaml:"tls"`
	// MinBackoff is the pause before attaching again when no manager let the relay in;
	// it doubles with every failure. 0: 50 ms.
	MinBackoff time.Duration `yaml:"min_backoff"`
	// MaxBackoff bounds the pause. 0: 800 ms.
	MaxBackoff time.Duration `yaml:"max_backoff"`
	// FailoverWait is how long a question waits for the next manager when there are
	// alternates, and for the connection to a manager that has just let the relay in.
	// 0: 2 s.
	FailoverWait time.Duration `yaml:"failover_wait"`
	// ResolveStreams is how many connections questions are spread over. 0: 1; with more
	// of them fewer questions share a system call.
	ResolveStreams int `yaml:"resolve_streams"`
}

// Validate reports what is wrong with c.
func (c ClientConfig) Validate() error {
	if c.Manager == "" {
		return errors.New("relay rpc: manager is required")
	}
	for _, a := range c.Alternates {
		if a == "" {
			return errors.New("relay rpc: an alternate is empty")
		}
	}
	switch {
	case c.MinBackoff < 0 || c.MaxBackoff < 0 || (c.MaxBackoff > 0 && c.MinBackoff > c.MaxBackoff):
		return errors.New("relay rpc: want 0 <= min_backoff <= max_backoff")
	case c.FailoverWait < 0:
		return errors.New("relay rpc: failover_wait must not be negative")
	case c.ResolveStreams < 0 || c.ResolveStreams > maxLines:
		return fmt.Errorf("relay rpc: resolve_streams must be from 0 to %d", maxLines)
	}
	return trust("relay rpc", c.Secret, c.TLS)
}

func (c ClientConfig) withDefaults() ClientConfig {
	c.MinBackoff = cmp.Or(c.MinBackoff, 50*time.Millisecond)
	c.MaxBackoff = max(cmp.Or(c.MaxBackoff, 800*time.Millisecond), c.MinBackoff)
	c.FailoverWait = cmp.Or(c.FailoverWait, 2*time.Second)
	c.ResolveStreams = cmp.Or(c.ResolveStreams, 1)
	return c
}
