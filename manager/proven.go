package manager

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"sync/atomic"
)

// prover remembers authentication keys that were right, so that a program that logs
// in before every command neither pays for the hash each time nor waits behind those
// who guess. Passwords are not remembered: people choose them, and what is kept here
// protects only what cannot be guessed. Any goroutine may use it.
type prover struct {
	key    []byte // of this process
	proofs map[string]*atomic.Pointer[[sha256.Size]byte]
}

func newProver() prover {
	key := make([]byte, sha256.Size)
	rand.Read(key) // never fails (crypto/rand)
	return prover{key, map[string]*atomic.Pointer[[sha256.Size]byte]{}}
}

// add makes room for a key; only before the prover is shared.
func (p prover) add(id string) { p.proofs[id] = new(atomic.Pointer[[sha256.Size]byte]) }

func (p prover) digest(id, secret string) (d [sha256.Size]byte) {
	h := hmac.New(sha256.New, p.key)
	h.Write([]byte(id))
	h.Write([]byte{0})
	h.Write([]byte(secret))
	h.Sum(d[:0])
	return d
}

// keep remembers that secret was right.
func (p prover) keep(id, secret string) {
	d := p.digest(id, secret)
	p.proofs[id].Store(&d)
}

// is reports whether secret is known to be right. False says nothing.
func (p prover) is(id, secret string) bool {
	at, ok := p.proofs[id]
	if !ok {
		return false
	}
	want, d := at.Load(), p.digest(id, secret)
	return want != nil && subtle.ConstantTimeCompare(want[:], d[:]) == 1
}
