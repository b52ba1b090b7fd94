package steps

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
)

// secure speaks TLS to the outer relay over c, which it closes if that fails. The
// relay's certificate must be the topology's and for the name of the access;
// certificate names one that a certificate step has made, or is empty.
func (e *Env) secure(ctx context.Context, c net.Conn, g grant, certificate string) (net.Conn, error) {
	cfg, err := e.tlsConfig(g, certificate)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	t := tls.Client(c, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = c.Close() // err says more
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return t, nil
}

// tlsConfig is what a client of an access trusts and shows: the topology's CA, the name
// of the access, and a certificate that a step has made, or none.
func (e *Env) tlsConfig(g grant, certificate string) (*tls.Config, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(e.Lab.Trust()) {
		return nil, errors.New("the topology has no CA")
	}
	cfg := &tls.Config{ServerName: g.Host, RootCAs: roots, MinVersion: tls.VersionTLS12}
	if certificate != "" {
		file := filepath.Join(e.Scratch, certificate)
		pair, err := tls.LoadX509KeyPair(file+".pem", file+".key")
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", certificate, err)
		}
		// Shown whichever CAs the relay asks for: a scenario may want the wrong one.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return cfg, nil
}
