package outer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/simreach/simreach/manager"
)

// maxCredentials bounds those that are remembered. Beyond, one is forgotten for each
// new one, and asked for again when it is needed.
const maxCredentials = 10_000

// peer is whom a client proved to be.
type peer struct {
	credential manager.CredentialID // empty: nobody asked
	serial     string               // of its certificate, as in manager.Credential
}

// credential is a manager.Credential, ready for handshakes. It never changes.
type credential struct {
	id      manager.CredentialID
	revoked bool
	serials map[string]bool
	ca      *x509.Certificate // its key is the registered one
	pool    *x509.CertPool
	configs [2]*tls.Config // for one device, for several
}

// newCredential makes a credential that signatures are checked with under the
// registered key, whatever the key in the CA's certificate is.
func newCredential(c manager.Credential, s *tlsServer) (*credential, error) {
	ca, err := x509.ParseCertificate(c.CA)
	if err != nil {
		return nil, fmt.Errorf("credential %s: CA certificate: %w", c.ID, err)
	}
	key, err := x509.ParsePKIXPublicKey(c.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("credential %s: public key: %w", c.ID, err)
	}
	ca.PublicKey = key
	out := &credential{id: c.ID, revoked: !c.Revoked.IsZero(), serials: map[string]bool{}, ca: ca, pool: x509.NewCertPool()}
	out.pool.AddCert(ca)
	for _, serial := range c.RevokedSerials {
		out.serials[serial] = true
	}
	out.configs = s.configsFor(out)
	return out, nil
}

// admits checks what can change after a handshake.
func (c *credential) admits(p peer) error {
	switch {
	case c.revoked:
		return errCredentialRevoked
	case c.serials[p.serial]:
		return errCertificateRevoked
	}
	return nil
}

func serialOf(cert *x509.Certificate) string { return strings.ToLower(cert.SerialNumber.Text(16)) }

// credentials remembers what the manager said about credentials.
type credentials struct {
	resolver Resolver
	gen      atomic.Uint64 // grows when something is forgotten

	mu      sync.Mutex // guards the rest
	known   map[manager.CredentialID]*credential
	flights map[flightKey]*flight
}

// flight is a question about a credential, which one asks and others wait for.
type flight struct {
	over chan struct{} // closed when the rest is set
	c    *credential
	err  error
}

// flightKey: what was asked before a change is no answer to who asks after it.
type flightKey struct {
	id  manager.CredentialID
	gen uint64
}

func newCredentials(r Resolver) *credentials {
	return &credentials{resolver: r, known: map[manager.CredentialID]*credential{}, flights: map[flightKey]*flight{}}
}

// errAskerGone is the answer to a question whose asker has gone.
var errAskerGone = errors.New("asked for a connection that has ended")

// get returns a credential and the generation in which it is valid. It waits no longer than
// ctx, whoever asks.
func (cs *credentials) get(ctx context.Context, id manager.CredentialID, s *tlsServer) (*credential, uint64, error) {
	for {
		cs.mu.Lock()
		gen := cs.gen.Load()
		if c := cs.known[id]; c != nil {
			cs.mu.Unlock()
			return c, gen, nil
		}
		key := flightKey{id, gen}
		f := cs.flights[key]
		if f == nil {
			f = &flight{over: make(chan struct{})}
			cs.flights[key] = f
			cs.mu.Unlock()
			c, err := cs.ask(ctx, key, s)
			if f.c, f.err = c, err; err != nil && ctx.Err() != nil {
				f.err = errAskerGone // or out of time, which others need not be
			}
			cs.mu.Lock()
			delete(cs.flights, key)
			cs.mu.Unlock()
			close(f.over)
			return c, gen, err
		}
		cs.mu.Unlock()
		select {
		case <-f.over:
			if !errors.Is(f.err, errAskerGone) { // who asked may be of another entry
				return f.c, gen, f.err
			}
		case <-ctx.Done():
			return nil, gen, ctx.Err()
		}
	}
}

// ask asks the manager.
func (cs *credentials) ask(ctx context.Context, key flightKey, s *tlsServer) (*credential, error) {
	m, err := cs.resolver.Credential(ctx, key.id)
	if err != nil {
		return nil, fmt.Errorf("credential %s: %w", key.id, err)
	}
	c, err := newCredential(m, s)
	if err != nil {
		return nil, err
	}
	cs.keep(c, key.gen)
	return c, nil
}

// keep remembers c unless something was forgotten since gen: what was asked before a
// change may be older than the change.
func (cs *credentials) keep(c *credential, gen uint64) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.gen.Load() != gen {
		return
	}
	if len(cs.known) >= maxCredentials {
		for id := range cs.known {
			delete(cs.known, id)
			break
		}
	}
	cs.known[c.id] = c
}

// still reports whether nothing was forgotten since p was checked in generation gen.
func (cs *credentials) still(p peer, gen uint64) bool {
	return p.credential == "" || cs.gen.Load() == gen
}

func (cs *credentials) forget(id manager.CredentialID) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.gen.Add(1)
	delete(cs.known, id)
}

func (cs *credentials) forgetAll() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.gen.Add(1)
	clear(cs.known)
}

// credential returns the one that c's entry asks for; nil if it asks for none.
func (r *Relay) credential(ctx context.Context, c *conn) (*credential, uint64, error) {
	id := c.port.opening.CredentialID
	if id == "" {
		return nil, 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ResolveTimeout)
	defer cancel()
	cred, gen, err := r.credentials.get(ctx, id, r.server)
	switch {
	case err != nil && notFound(err):
		return nil, 0, deny(manager.CauseCredentialRevoked, err)
	case err != nil:
		return nil, 0, deny(resolveCause(err), err)
	case cred.revoked:
		return nil, 0, deny(manager.CauseCredentialRevoked, nil)
	}
	return cred, gen, nil
}

func notFound(err error) bool {
	e, ok := errors.AsType[*manager.Error](err)
	return errors.Is(err, manager.ErrNotFound) || ok && e.Kind() == manager.KindNotFound
}

// recheckOne checks a peer with what the manager says now.
func (r *Relay) recheckOne(ctx context.Context, p peer) (*credential, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ResolveTimeout)
	defer cancel()
	cred, gen, err := r.credentials.get(ctx, p.credential, r.server)
	switch {
	case err != nil && notFound(err):
		return nil, 0, deny(manager.CauseCredentialRevoked, err)
	case err != nil:
		return nil, 0, deny(resolveCause(err), err)
	}
	if err := cred.admits(p); err != nil {
		return nil, 0, denialOf(nil, err)
	}
	return cred, gen, nil
}

// recheckPause is the pause before a manager that did not answer is asked again.
const recheckPause = 200 * time.Millisecond

// recheck cuts the live connections that would no longer be let in, after their
// credentials changed.
func (r *Relay) recheck(life context.Context, ids ...manager.CredentialID) {
	for _, id := range ids {
		cs := r.withCredential(id)
		for len(cs) > 0 && life.Err() == nil {
			var err error
			if cs, err = r.recheckAll(life, cs); err == nil {
				continue
			}
			r.log.Warn("credential not known for now", "credential", id, "error", err)
			pause := time.NewTimer(recheckPause)
			select {
			case <-pause.C:
			case <-life.Done():
			}
			pause.Stop()
		}
	}
}

// recheckAll cuts those of the connections that would no longer be let in, all at once.
// It returns those of which the manager does not say, with its error.
func (r *Relay) recheckAll(life context.Context, cs []*conn) (unknown []*conn, err error) {
	out := map[ending][]*conn{}
	for _, c := range cs {
		c.mu.Lock()
		who := c.peer
		c.mu.Unlock()
		if err != nil {
			unknown = append(unknown, c) // nor would it of this one
			continue
		}
		if _, _, err = r.recheckOne(life, who); err == nil {
			continue
		}
		if d := denialOf(err, nil); d.cause == manager.CauseCredentialRevoked || d.cause == manager.CauseCertificateRevoked {
			out[ending(d.cause)], err = append(out[ending(d.cause)], c), nil
		} else {
			unknown = append(unknown, c)
		}
	}
	for why, revoked := range out {
		cutAll(revoked, why)
	}
	return unknown, err
}

// inUse returns the credentials of entries that have connections: more than are remembered,
// perhaps.
func (r *Relay) inUse() []manager.CredentialID {
	used := map[manager.CredentialID]bool{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.entries {
		if id := p.opening.CredentialID; id != "" && p.busy() {
			used[id] = true
		}
	}
	return slices.Collect(maps.Keys(used))
}

// withCredential lists the connections that a credential let in.
func (r *Relay) withCredential(id manager.CredentialID) (out []*conn) {
	r.mu.Lock()
	var ps []*port
	for _, p := range r.entries {
		if p.opening.CredentialID == id {
			ps = append(ps, p)
		}
	}
	r.mu.Unlock()
	for _, p := range ps {
		cs, carriers := p.list()
		for _, c := range append(cs, carriers...) {
			c.mu.Lock()
			in := c.peer.credential == id
			c.mu.Unlock()
			if in {
				out = append(out, c)
			}
		}
	}
	return out
}
