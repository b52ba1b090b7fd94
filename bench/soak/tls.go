package soak

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/manager/api"
)

// Alerts (RFC 8446 clause 6.2).
const (
	alertCertificateRevoked  = 44
	alertUnknownCA           = 48
	alertAccessDenied        = 49
	alertCertificateRequired = 116
)

// makeKeys makes the outer relay's certificate, and returns a file with it and its key; and
// what clients show, but for those of the credential that startAll registers.
func (s *soak) makeKeys() (file string, err error) {
	if s.clients, err = pki.NewAuthority(pki.AuthorityConfig{Name: "simreach soak clients"}); err != nil {
		return "", err
	}
	if s.certificate, err = issue(s.clients, "client"); err != nil {
		return "", err
	}
	ca, err := pki.NewAuthority(pki.AuthorityConfig{Name: "simreach soak"})
	if err != nil {
		return "", err
	}
	pair, err := ca.Issue(pki.Server(serverName))
	if err != nil {
		return "", err
	}
	s.pool = ca.Pool()
	s.sessions = tls.NewLRUClientSessionCache(0)
	file = filepath.Join(s.dir, "certificate.pem")
	return file, os.WriteFile(file, []byte(string(pair.Cert)+string(pair.Key)), 0o600)
}

func issue(by *pki.Authority, name string) (*tls.Certificate, error) {
	pair, err := by.Issue(pki.Client(name))
	if err != nil {
		return nil, err
	}
	c, err := tls.X509KeyPair(pair.Cert, []byte(pair.Key))
	return &c, err
}

// guard registers the credential of the guarded entries, and makes what strangers show.
func (s *soak) guard(ctx context.Context) (credential string, err error) {
	c, err := s.api.RegisterCredential(ctx, api.CreateCredential{CACertificate: string(s.clients.PEM())})
	if err != nil {
		return "", fmt.Errorf("register a credential: %w", err)
	}
	s.wrong = map[string]*tls.Certificate{"cert-missing": {}} // an empty one is none
	for what, authority := range map[string]string{"cert-foreign": "somebody", "cert-forged": s.clients.Certificate().Subject.CommonName} {
		other, err := pki.NewAuthority(pki.AuthorityConfig{Name: authority})
		if err != nil {
			return "", err
		}
		if s.wrong[what], err = issue(other, "client"); err != nil {
			return "", err
		}
	}
	revoked, err := issue(s.clients, "revoked")
	if err != nil {
		return "", err
	}
	s.wrong["cert-revoked"] = revoked
	if _, err := s.api.SetRevokedSerials(ctx, c.CredentialID, []string{revoked.Leaf.SerialNumber.Text(16)}); err != nil {
		return "", fmt.Errorf("revoke a certificate: %w", err)
	}
	return c.CredentialID, nil
}

// stranger is the kind of clients with one of the wrong certificates, which are told by an
// alert.
func stranger(name string, alert uint8) *kind {
	return &kind{
		name: name, workers: 1, to: guarded,
		tls: func(s *soak) *tls.Config { return s.trusting(s.wrong[name]) },
		do: func(_ context.Context, s *soak, c halfCloser) (int64, error) {
			// In TLS 1.3 a client has finished the handshake before it is judged.
			n, err := c.Read(make([]byte, 1))
			if n != 0 || !isAlert(err, alert) {
				return 0, fmt.Errorf("read %d bytes, %w; want %w", n, err, tls.AlertError(alert))
			}
			s.turnedAway.Add(1)
			return 0, nil
		},
	}
}

// trusting returns the settings of a client that shows a certificate if it is asked, whoever
// the relay says must have issued it.
func (s *soak) trusting(shows *tls.Certificate) *tls.Config {
	return &tls.Config{
		RootCAs: s.pool, ServerName: serverName, MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return shows, nil },
	}
}

// resuming is trusting with the sessions of clients before it.
func resuming(s *soak) *tls.Config {
	c := s.trusting(s.certificate)
	c.ClientSessionCache = s.sessions
	return c
}

// isAlert reports whether the peer ended a connection with an alert. crypto/tls has no
// type for it but in QUIC, whose text is the same.
func isAlert(err error, alert uint8) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "remote error" && e.Err.Error() == tls.AlertError(alert).Error()
}

// isReset reports whether err is how a connection without TLS ends whose entry does.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
