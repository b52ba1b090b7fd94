package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// lookAgain is how long a Source trusts what it read before it looks at its files
// again.
const lookAgain = time.Second

// Source is a certificate and the trusted CAs of a Config. Files are read again when
// they have changed, at a handshake and at most once a second; if they cannot be used
// then, what was read before stays in force. Its methods may be called from any
// goroutine.
type Source struct {
	cfg Config
	log *slog.Logger
	now func() time.Time

	current atomic.Pointer[material]
	looked  atomic.Int64 // when the files were looked at last, Unix ns

	reloads atomic.Uint64

	mu   sync.Mutex // held while looking; guards seen
	seen [3]stamp   // of cert, key and ca
}

// material is what a Source read at one time.
type material struct {
	cert    *tls.Certificate // nil: none
	pool    *x509.CertPool   // nil: the system's
	servers sync.Map         // *tls.Config of Serve -> *serving with this material
}

// ticketLife is for how long one key encrypts session tickets (RFC 8446 clause C.4
// wants keys to change).
const ticketLife = 24 * time.Hour

// serving is a server's configuration with one material.
type serving struct {
	config *tls.Config
	key    [32]byte // encrypts session tickets
	since  time.Time
}

// stamp tells one content of a file from another without reading it.
type stamp struct {
	mtime time.Time
	size  int64
	file  fs.FileInfo
}

// NewSource reads what c names. It fails if that cannot be used, so that a process
// with bad files does not start. A nil log discards.
func NewSource(c Config, log *slog.Logger) (*Source, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Source{cfg: c, log: log, now: time.Now}
	s.seen = s.stamps()
	m, err := load(c)
	if err != nil {
		return nil, err
	}
	s.current.Store(m)
	s.looked.Store(s.now().UnixNano())
	return s, nil
}

func load(c Config) (*material, error) {
	m := &material{}
	if c.Cert != "" {
		cert, err := read("cert", c.Cert)
		if err != nil {
			return nil, err
		}
		key, err := read("key", string(c.Key))
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("pki: cert and key: %w", err)
		}
		m.cert = &pair
	}
	if c.CA != "" {
		text, err := read("ca", c.CA)
		if err != nil {
			return nil, err
		}
		cas, err := parseCertificates(text)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		m.pool = x509.NewCertPool()
		for _, ca := range cas {
			m.pool.AddCert(ca)
		}
	}
	return m, nil
}

func (s *Source) stamps() (out [3]stamp) {
	for i, path := range [3]string{s.cfg.Cert, string(s.cfg.Key), s.cfg.CA} {
		if path == "" || inline(path) {
			continue
		}
		if fi, err := os.Stat(path); err == nil {
			out[i] = stamp{fi.ModTime(), fi.Size(), fi}
		}
	}
	return out
}

func same(a, b [3]stamp) bool {
	for i := range a {
		if a[i].size != b[i].size || !a[i].mtime.Equal(b[i].mtime) || (a[i].file == nil) != (b[i].file == nil) ||
			(a[i].file != nil && !os.SameFile(a[i].file, b[i].file)) {
			return false
		}
	}
	return true
}

// material returns what is in force.
func (s *Source) material() *material {
	if now := s.now().UnixNano(); now-s.looked.Load() >= int64(lookAgain) && s.mu.TryLock() {
		defer s.mu.Unlock()
		s.looked.Store(now)
		if st := s.stamps(); !same(st, s.seen) {
			s.seen = st
			m, err := load(s.cfg)
			if err != nil {
				// The next change is looked at again: a pair is two files, and only one
				// may be there yet.
				s.log.Warn("changed certificate files cannot be used; the earlier ones stay in force", "error", err)
			} else {
				s.current.Store(m)
				s.reloads.Add(1)
				s.log.Info("certificate files read again")
			}
		}
	}
	return s.current.Load()
}

// Reloads returns how often changed files were taken over.
func (s *Source) Reloads() uint64 { return s.reloads.Load() }

// Certificate returns the certificate in force; nil if the Config has none. It must
// not be changed.
func (s *Source) Certificate() *tls.Certificate { return s.material().cert }

// Pool returns the trusted CAs; nil means the system's. It must not be changed.
func (s *Source) Pool() *x509.CertPool { return s.material().pool }

// GetCertificate is for tls.Config.
func (s *Source) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := s.Certificate(); c != nil {
		return c, nil
	}
	return nil, errors.New("pki: no certificate is configured")
}

// Serve returns a server's configuration: base with the certificate in force at every
// handshake. If a CA is configured, clients must show a certificate that comes from it.
// base may be nil; its MinVersion is TLS 1.2 unless it says otherwise. Sessions that
// were begun with earlier files are not resumed.
func (s *Source) Serve(base *tls.Config) *tls.Config {
	if base == nil {
		base = &tls.Config{}
	}
	base = base.Clone()
	if base.MinVersion == 0 {
		base.MinVersion = tls.VersionTLS12
	}
	outer := base.Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		m := s.material()
		if m.cert == nil {
			return nil, errors.New("pki: no certificate is configured")
		}
		kept, ok := m.servers.Load(base)
		if ok && s.now().Sub(kept.(*serving).since) < ticketLife {
			return kept.(*serving).config, nil
		}
		next := s.serving(base, m, kept)
		if ok {
			m.servers.CompareAndSwap(base, kept, next)
		} else {
			kept, ok = m.servers.LoadOrStore(base, next) // another handshake may have been first
		}
		if ok {
			return kept.(*serving).config, nil
		}
		return next.config, nil
	}
	outer.GetCertificate = s.GetCertificate
	return outer
}

// serving makes a server's configuration. Its tickets' key is its own: crypto/tls would
// use that of the outer configuration, and resume sessions that earlier files allowed.
func (s *Source) serving(base *tls.Config, m *material, before any) *serving {
	n := &serving{config: base.Clone(), since: s.now()}
	rand.Read(n.key[:])
	keys := [][32]byte{n.key}
	if b, ok := before.(*serving); ok {
		keys = append(keys, b.key)
	}
	n.config.SetSessionTicketKeys(keys)
	n.config.Certificates = []tls.Certificate{*m.cert}
	if m.pool != nil {
		n.config.ClientCAs, n.config.ClientAuth = m.pool, tls.RequireAndVerifyClientCert
	}
	return n
}

// Dial returns a client's configuration for one connection: name is the server's host
// name or address, without a port. base may be nil.
func (s *Source) Dial(base *tls.Config, name string) *tls.Config {
	if base == nil {
		base = &tls.Config{}
	}
	c := base.Clone()
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS12
	}
	m := s.material()
	c.ServerName, c.RootCAs = name, m.pool
	if m.cert != nil {
		c.Certificates = []tls.Certificate{*m.cert}
	}
	return c
}

// parseCertificates reads one or more certificates in PEM form.
func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var b *pem.Block
		b, text = pem.Decode(text)
		if b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("pki: %w", err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("pki: no certificate in PEM form")
	}
	return out, nil
}

// parseKey reads a private key in PEM form, PKCS #8.
func parseKey(text Secret) (crypto.Signer, error) {
	b, _ := pem.Decode([]byte(text))
	if b == nil {
		return nil, errors.New("pki: no private key in PEM form")
	}
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, errors.New("pki: the private key cannot be read") // the error might quote it
	}
	signer, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("pki: a %T cannot sign", k)
	}
	return signer, nil
}
