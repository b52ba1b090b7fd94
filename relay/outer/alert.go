package outer

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net"
	"runtime"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/simreach/simreach/manager"
)

// Alerts (RFC 8446 clause 6.2).
const (
	alertCertificateRevoked = 44
	alertAccessDenied       = 49
	alertInternalError      = 80
)

// alertFor returns the alert that comes closest to a cause.
func alertFor(c manager.Cause) byte {
	switch c {
	case manager.CauseCertificateRevoked:
		return alertCertificateRevoked
	case manager.CauseSourceDenied, manager.CauseUnknownEntry, manager.CauseExpired, manager.CauseRevoked, manager.CauseCredentialRevoked:
		return alertAccessDenied
	}
	return alertInternalError
}

const (
	recordAlert       = 21
	recordApplication = 23
	recordHeader      = 5
	levelFatal        = 2
)

// clearAlert is a fatal alert before there are keys.
func clearAlert(alert byte) []byte { return []byte{recordAlert, 3, 3, 0, 2, levelFatal, alert} }

// teller says in TLS why a connection ends, which crypto/tls leaves to nobody but
// itself: it sends an alert of its choice when a handshake fails, and none later. The
// teller is at home in a wire. It learns the key of what the server sends in TLS 1.3 as
// crypto/tls offers it to debuggers (tls.Config.KeyLogWriter), counts the records that
// go out, and so can seal one more (RFC 8446 clause 5.2), after which nothing goes out.
// Where it cannot, as in TLS 1.2 after the handshake, the peer is reset; one that has had
// the keys changed finds an error in the last record.
type teller struct {
	suite   uint16
	secret  []byte // server_application_traffic_secret_0; nil: not TLS 1.3, or not yet
	flight  bool   // the next write is the rest of the handshake, under another key
	sent    uint64 // records under secret
	instead byte   // alert that takes the place of the next one; 0: none
	over    bool   // nothing goes out any more
}

// secretLabel begins the line of a key log that has the secret; the client's random
// value and the secret follow, in hexadecimal.
var secretLabel = []byte("SERVER_TRAFFIC_SECRET_0 ")

// keyLog is a wire as tls.Config.KeyLogWriter.
type keyLog wire

func (k *keyLog) Write(line []byte) (int, error) {
	fields := bytes.Fields(line)
	if bytes.HasPrefix(line, secretLabel) && len(fields) == 3 {
		secret, err := hex.DecodeString(string(fields[2]))
		if err != nil {
			return 0, fmt.Errorf("key log: %w", err)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.tell.secret, k.tell.flight = secret, true
	}
	return len(line), nil
}

// watched returns config for the connection of w alone; tickets has the keys that seal
// its sessions.
func (w *wire) watched(config, tickets *tls.Config) *tls.Config {
	c := config.Clone()
	verify := c.VerifyConnection
	c.WrapSession = func(s tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		w.mu.Lock()
		if w.tell.flight {
			w.tell.sent++ // it goes out with the flight, and is under the new key
		}
		w.mu.Unlock()
		return tickets.EncryptTicket(s, session)
	}
	c.GetConfigForClient, c.KeyLogWriter = nil, (*keyLog)(w)
	c.VerifyConnection = func(s tls.ConnectionState) error {
		w.mu.Lock()
		w.tell.suite = s.CipherSuite
		w.mu.Unlock()
		if verify == nil {
			return nil
		}
		err := verify(s)
		if e, ok := errors.AsType[ending](err); ok {
			w.mu.Lock()
			w.tell.instead = alertFor(manager.Cause(e))
			w.mu.Unlock()
		}
		return err
	}
	return c
}

// outgoing takes a look at what is about to go out and returns what goes.
func (t *teller) outgoing(p []byte) ([]byte, error) {
	switch {
	case t.over:
		return nil, net.ErrClosed
	case t.instead != 0 && t.secret == nil && len(p) == len(clearAlert(0)) && p[0] == recordAlert:
		t.over = true
		return clearAlert(t.instead), nil
	case t.instead != 0 && t.secret != nil && !t.flight:
		t.over = true
		return t.seal(t.instead)
	case t.secret == nil:
	case t.flight:
		t.flight = false
	default:
		for rest := p; len(rest) >= recordHeader; t.sent++ {
			rest = rest[min(recordHeader+(int(rest[3])<<8|int(rest[4])), len(rest)):]
		}
	}
	return p, nil
}

var errNoKey = errors.New("no key of TLS 1.3")

// seal makes the record of a fatal alert.
func (t *teller) seal(alert byte) ([]byte, error) {
	if t.secret == nil || t.flight {
		return nil, errNoKey
	}
	aead, iv, err := t.aead()
	if err != nil {
		return nil, err
	}
	for i := range 8 {
		iv[len(iv)-1-i] ^= byte(t.sent >> (8 * i))
	}
	plain := []byte{levelFatal, alert, recordAlert}
	header := []byte{recordApplication, 3, 3, 0, byte(len(plain) + aead.Overhead())}
	return append(header, aead.Seal(nil, iv, plain, header)...), nil
}

func (t *teller) aead() (a cipher.AEAD, iv []byte, err error) {
	size := 16
	h := sha256.New
	switch t.suite {
	case tls.TLS_AES_128_GCM_SHA256:
	case tls.TLS_AES_256_GCM_SHA384:
		size, h = 32, sha512.New384
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		size = chacha20poly1305.KeySize
	default:
		return nil, nil, errNoKey
	}
	key, err := expandLabel(h, t.secret, "key", size)
	if err != nil {
		return nil, nil, err
	}
	if iv, err = expandLabel(h, t.secret, "iv", 12); err != nil {
		return nil, nil, err
	}
	if t.suite == tls.TLS_CHACHA20_POLY1305_SHA256 {
		a, err = chacha20poly1305.New(key)
		return a, iv, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	a, err = cipher.NewGCM(block)
	return a, iv, err
}

// expandLabel is HKDF-Expand-Label without a context (RFC 8446 clause 7.1).
func expandLabel(h func() hash.Hash, secret []byte, label string, size int) ([]byte, error) {
	label = "tls13 " + label
	info := append([]byte{0, byte(size), byte(len(label))}, label...)
	return hkdf.Expand(h, secret, string(append(info, 0)), size)
}

// last sends a fatal alert and FIN, after which nothing goes out any more, without waiting
// for room. It reports whether they are on their way: a reset must not overtake them then.
func (w *wire) last(alert byte) bool {
	if w.sys == nil || !w.lockRoom() {
		return false
	}
	defer w.mu.Unlock()
	if w.tell.over {
		return false
	}
	record, err := w.tell.seal(alert)
	w.tell.over = true
	told := err == nil && writeLast(w.sys, record)
	w.told.Store(told)
	return told
}

// writeLimit bounds the wait for a write that has room: it takes microseconds, unless the
// system gives its thread no time.
const writeLimit = time.Second

// lockRoom locks w.mu when nothing is held back. It gives up as soon as there is no room:
// a write that holds the lock is stuck then.
func (w *wire) lockRoom() bool {
	for begin := time.Now(); time.Since(begin) < writeLimit; runtime.Gosched() {
		if w.mu.TryLock() {
			if !w.hold {
				return true
			}
			w.mu.Unlock()
		}
		if !hasRoom(w.sys) {
			return false
		}
	}
	return false
}
