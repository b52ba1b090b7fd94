package pki

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// KeyType is the algorithm of a key pair.
type KeyType string

// Key types. The zero value is ECDSA on P-256.
const (
	ECDSA   KeyType = "ecdsa"
	RSA     KeyType = "rsa" // 2048 bits
	Ed25519 KeyType = "ed25519"
)

// Generate makes a private key. It fails for an unknown type only.
func (t KeyType) Generate() (crypto.Signer, error) {
	switch t {
	case ECDSA, "":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA:
		return rsa.GenerateKey(rand.Reader, 2048)
	case Ed25519:
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return k, err
	}
	return nil, fmt.Errorf("pki: unknown key type %q", string(t))
}

// Pair is a certificate, with its issuers below the root if there are any, and its
// private key.
type Pair struct {
	Cert []byte // PEM
	Key  Secret // PEM, PKCS #8
}

// WriteFiles writes <name>.pem and <name>.key in dir, each at once, so that a Source
// that looks meanwhile reads one pair or the other. Only the owner may read the key.
func (p Pair) WriteFiles(dir, name string) (cert, key string, err error) {
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	if err := replace(key, []byte(p.Key)); err != nil {
		return "", "", err
	}
	if err := replace(cert, p.Cert); err != nil {
		return "", "", err
	}
	return cert, key, nil
}

// replace writes a file beside path and renames it.
func replace(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".pki-") // mode 0600
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("pki: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// Authority is a certificate authority. Its methods may be called from any goroutine.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// AuthorityConfig describes a new authority.
type AuthorityConfig struct {
	Name     string        // the subject's common name; empty: "simreach testbed CA"
	Key      KeyType       // empty: ECDSA
	Lifetime time.Duration // 0: ten years
}

// NewAuthority makes a self-signed authority.
func NewAuthority(c AuthorityConfig) (*Authority, error) {
	key, err := c.Key.Generate()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: cmp.Or(c.Name, "simreach testbed CA")},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	setTimes(t, cmp.Or(c.Lifetime, 10*365*24*time.Hour))
	cert, err := sign(t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &Authority{cert, key}, nil
}

// LoadAuthority reads an authority from the pair that Pair returned.
func LoadAuthority(p Pair) (*Authority, error) {
	certs, err := parseCertificates(p.Cert)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(p.Key)
	if err != nil {
		return nil, err
	}
	a := &Authority{certs[0], key}
	if !a.cert.IsCA {
		return nil, errors.New("pki: the certificate is not an authority's")
	}
	if k, ok := a.cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(key.Public()) {
		return nil, errors.New("pki: the key is not the certificate's")
	}
	return a, nil
}

// Pair returns the authority's certificate and key.
func (a *Authority) Pair() (Pair, error) { return pairOf(a.cert, a.key) }

// Certificate returns the authority's certificate; it must not be changed.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// PEM returns the authority's certificate in PEM form.
func (a *Authority) PEM() []byte { return encodeCertificate(a.cert.Raw) }

// Pool returns a pool with the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// Request describes a certificate to issue.
type Request struct {
	Name     string       // the subject's common name
	DNS      []string     // "*.example.org" stands for one label
	IPs      []netip.Addr // addresses it may be reached at
	URIs     []*url.URL   // RelayURI names a relay
	Server   bool         // extended key usage server authentication
	Client   bool         // extended key usage client authentication
	CA       bool         // an intermediate authority
	Key      KeyType      // empty: ECDSA
	Lifetime time.Duration
	// NotBefore and NotAfter take the place of Lifetime (0: one year) if set, for
	// certificates that are not in force.
	NotBefore, NotAfter time.Time
}

// Server describes a server's certificate for host names and addresses.
func Server(hosts ...string) Request {
	r := Request{Server: true}
	for _, h := range hosts {
		r.Name = cmp.Or(r.Name, h)
		if a, err := netip.ParseAddr(h); err == nil {
			r.IPs = append(r.IPs, a)
		} else {
			r.DNS = append(r.DNS, h)
		}
	}
	return r
}

// Client describes a certificate of a client, such as one that connects to an entry.
func Client(name string) Request { return Request{Name: name, Client: true} }

// Relay describes a relay's certificate for the manager's control port: kind is
// "outer" or "inner". Outer relays show it to inner relays, too, which serve at hosts.
func Relay(kind, id string, hosts ...string) Request {
	r := Server(hosts...)
	r.Name, r.Client, r.URIs = id, true, []*url.URL{RelayURI(kind, id)}
	return r
}

// Manager describes the certificate of a manager's control port or REST server.
func Manager(hosts ...string) Request { return Server(hosts...) }

// Issue makes a key pair and a certificate for it.
func (a *Authority) Issue(r Request) (Pair, error) {
	key, err := r.Key.Generate()
	if err != nil {
		return Pair{}, err
	}
	cert, err := a.IssueFor(r, key.Public())
	if err != nil {
		return Pair{}, err
	}
	return pairOf(cert, key)
}

// IssueFor makes a certificate for a public key.
func (a *Authority) IssueFor(r Request, public crypto.PublicKey) (*x509.Certificate, error) {
	t := &x509.Certificate{
		Subject:  pkix.Name{CommonName: r.Name},
		DNSNames: r.DNS, URIs: r.URIs,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  r.CA,
	}
	if _, ok := public.(*rsa.PublicKey); ok {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment // RSA key exchange of TLS 1.2
	}
	if r.CA {
		t.KeyUsage |= x509.KeyUsageCertSign
	}
	for _, ip := range r.IPs {
		t.IPAddresses = append(t.IPAddresses, net.IP(ip.Unmap().AsSlice()))
	}
	if r.Server {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if r.Client {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	setTimes(t, cmp.Or(r.Lifetime, 365*24*time.Hour))
	if !r.NotBefore.IsZero() {
		t.NotBefore = r.NotBefore
	}
	if !r.NotAfter.IsZero() {
		t.NotAfter = r.NotAfter
	}
	return sign(t, a.cert, public, a.key)
}

// setTimes lets a certificate begin an hour ago: machines disagree about the time.
func setTimes(t *x509.Certificate, life time.Duration) {
	now := time.Now()
	t.NotBefore, t.NotAfter = now.Add(-time.Hour), now.Add(life)
}

func sign(t, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	var serial [16]byte
	rand.Read(serial[:])
	serial[0] &= 0x7f // RFC 5280 clause 4.1.2.2: positive, at most 20 octets
	t.SerialNumber = new(big.Int).SetBytes(serial[:])
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("pki: sign %q: %w", t.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

func pairOf(cert *x509.Certificate, key crypto.Signer) (Pair, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("pki: %w", err)
	}
	return Pair{Cert: encodeCertificate(cert.Raw), Key: Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))}, nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
