package outer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
)

// innerTLS speaks TLS to inner relays.
type innerTLS struct {
	base *tls.Config
	pool *sync.Pool
}

func newInnerTLS(c *tls.Config, pool *sync.Pool) *innerTLS {
	return &innerTLS{pool: pool, base: &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: c.RootCAs, Certificates: c.Certificates, GetClientCertificate: c.GetClientCertificate,
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
		InsecureSkipVerify: true, // verify does what is skipped, with the relay's ID for the name
	}}
}

// innerURI is the name in an inner relay's certificate.
func innerURI(id manager.RelayID) string { return "simreach://relay/inner/" + string(id) }

// handshake secures a connection to the inner relay of that ID.
func (i *innerTLS) handshake(ctx context.Context, c relay.Conn, id manager.RelayID) (relay.Conn, error) {
	config := i.base.Clone()
	config.ServerName = string(id) // keys the session cache
	config.VerifyConnection = func(s tls.ConnectionState) error { return i.verify(s, id) }
	w := newWire(c, i.pool)
	t := tls.Client(w, config)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return &tlsConn{Conn: t, wire: w}, nil
}

var errInnerName = errors.New("the certificate is another's")

func (i *innerTLS) verify(s tls.ConnectionState, id manager.RelayID) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("no certificate") // cannot be
	}
	leaf := s.PeerCertificates[0]
	opts := x509.VerifyOptions{Roots: i.base.RootCAs, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(opts); err != nil {
		return fmt.Errorf("certificate of inner relay %s: %w", id, err)
	}
	for _, u := range leaf.URIs {
		if u.String() == innerURI(id) {
			return nil
		}
	}
	return fmt.Errorf("%w: want %s", errInnerName, innerURI(id))
}
