package pki

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// Secret is a private key in PEM form, or the path of a file with one. It hides itself
// from printers and loggers.
type Secret string

// String hides the key.
func (Secret) String() string { return "redacted" }

// Format hides the key from every verb of fmt, also from those that do not fit.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "redacted") }

// MarshalJSON hides the key from encoding/json.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"redacted"`), nil }

// LogValue hides the key from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue("redacted") }

// Config says where a process's certificate, its key and the certificates of the CAs
// that it trusts are: each a path, or the PEM text itself. The zero Config means no
// TLS.
type Config struct {
	// Cert is the certificate, followed by intermediate ones if there are any.
	Cert string `yaml:"cert"`
	// Key is its private key: PKCS #8, PKCS #1 or SEC 1, not encrypted.
	Key Secret `yaml:"key"`
	// CA are the certificates of which peers' certificates must come. Empty: the
	// system's, for servers; no client certificate is asked for.
	CA string `yaml:"ca"`
}

// Enabled reports whether anything is configured.
func (c Config) Enabled() bool { return c != Config{} }

// Validate reports what is wrong with c without reading files.
func (c Config) Validate() error {
	if (c.Cert == "") != (c.Key == "") {
		return errors.New("cert and key go together")
	}
	return nil
}

// Mutual reports what is missing for both sides to show certificates.
func (c Config) Mutual() error {
	if err := c.Validate(); err != nil {
		return err
	}
	if c.Cert == "" || c.CA == "" {
		return errors.New("cert, key and ca are all required")
	}
	return nil
}

// inline reports whether s is PEM text and not a path.
func inline(s string) bool { return strings.Contains(s, "-----BEGIN ") }

// read returns the PEM text of one setting.
func read(what, s string) ([]byte, error) {
	if inline(s) {
		return []byte(s), nil
	}
	b, err := os.ReadFile(s)
	if err != nil {
		return nil, fmt.Errorf("pki: %s: %w", what, err)
	}
	return b, nil
}
