package pki

import (
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
)

// RelayURI is the URI subject alternative name (RFC 5280 clause 4.2.1.6) that names a
// relay: simreach://relay/<kind>/<id>, with kind "outer" or "inner".
func RelayURI(kind, id string) *url.URL {
	return &url.URL{Scheme: "simreach", Host: "relay", Path: "/" + kind + "/" + id}
}

// ErrNoRelay says that a certificate names no relay, or more than one.
var ErrNoRelay = errors.New("pki: the certificate does not name one relay")

// ParseRelay returns the kind and the ID of the relay that a certificate names.
// ErrNoRelay.
func ParseRelay(c *x509.Certificate) (kind, id string, err error) {
	for _, u := range c.URIs {
		if u.Scheme != "simreach" || u.Host != "relay" {
			continue
		}
		k, i, ok := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
		if !ok || k == "" || i == "" || id != "" {
			return "", "", ErrNoRelay
		}
		kind, id = k, i
	}
	if id == "" {
		return "", "", ErrNoRelay
	}
	return kind, id, nil
}
