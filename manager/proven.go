package manager

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"sync"
	"time"
)

const (
	// provenFor is how long a key that was right need not be hashed again.
	provenFor = 10 * time.Minute
	maxProven = 10_000
)

// prover remembers authentication keys that were right, so that a program that logs
// in before every command neither pays for the hash each time nor waits behind those
// who guess. Passwords are not remembered: people choose them, and what is kept here
// protects only what cannot be guessed. Any goroutine may use it.
type prover struct {
	key []byte // of this process

	mu     sync.Mutex // guards proofs
	proofs map[string]proof
}

type proof struct {
	digest [sha256.Size]byte
	until  time.Time
}

func newProver() *prover {
	key := make([]byte, sha256.Size)
	rand.Read(key) // never fails (crypto/rand)
	return &prover{key: key, proofs: map[string]proof{}}
}

// digest is of a key's ID, its stored hash and its secret: a key that was deleted or
// replaced is not proven any more.
func (p *prover) digest(id, hash, secret string) (d [sha256.Size]byte) {
	h := hmac.New(sha256.New, p.key)
	for _, s := range []string{id, hash, secret} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	h.Sum(d[:0])
	return d
}

// keep remembers that secret was right.
func (p *prover) keep(id, hash, secret string) {
	made := proof{p.digest(id, hash, secret), time.Now().Add(provenFor)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.proofs[id]; !known && len(p.proofs) >= maxProven {
		for other := range p.proofs { // any one; its next login is slow
			delete(p.proofs, other)
			break
		}
	}
	p.proofs[id] = made
}

// is reports whether secret is known to be right. False says nothing.
func (p *prover) is(id, hash, secret string) bool {
	p.mu.Lock()
	known, ok := p.proofs[id]
	p.mu.Unlock()
	if !ok || time.Now().After(known.until) {
		return false
	}
	d := p.digest(id, hash, secret)
	return subtle.ConstantTimeCompare(known.digest[:], d[:]) == 1
}
