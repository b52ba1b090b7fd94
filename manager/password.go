package manager

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Parameters of new hashes: the smallest that OWASP recommends for argon2id,
// some 20 ms, because command-line clients log in before every command.
const (
	argonMemory  = 19 << 10 // KiB
	argonTime    = 2
	argonThreads = 1
	argonKeyLen  = 32
	argonSaltLen = 16
)

var errHashForm = errors.New(`want an argon2id hash, "$argon2id$v=19$m=...,t=...,p=...$salt$hash"`)

type secretHash struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

// HashSecret returns the argon2id hash (RFC 9106) of a password or an
// authentication key, in PHC form.
func HashSecret(secret string) string {
	salt := make([]byte, argonSaltLen)
	rand.Read(salt) // never fails (crypto/rand)
	h := secretHash{memory: argonMemory, time: argonTime, threads: argonThreads, salt: salt}
	h.key = h.derive(secret, argonKeyLen)
	return h.String()
}

func (h secretHash) String() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s",
		argon2.Version, h.memory, h.time, h.threads, b64(h.salt), b64(h.key))
}

// parseHash reads PHC form. Costs are bounded, so that a configured hash cannot
// make every login take gigabytes.
func parseHash(s string) (secretHash, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return secretHash{}, errHashForm
	}
	var h secretHash
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.threads); n != 3 || err != nil {
		return secretHash{}, errHashForm
	}
	var err1, err2 error
	h.salt, err1 = base64.RawStdEncoding.DecodeString(parts[4])
	h.key, err2 = base64.RawStdEncoding.DecodeString(parts[5])
	if errors.Join(err1, err2) != nil || len(h.salt) < 8 || len(h.key) < 16 || len(h.key) > 64 ||
		h.memory < 8 || h.memory > 256<<10 || h.time < 1 || h.time > 16 || h.threads < 1 || h.threads > 16 {
		return secretHash{}, errHashForm
	}
	return h, nil
}

func (h secretHash) derive(secret string, n uint32) []byte {
	return argon2.IDKey([]byte(secret), h.salt, h.time, h.memory, h.threads, n)
}

func (h secretHash) matches(secret string) bool {
	return subtle.ConstantTimeCompare(h.derive(secret, uint32(len(h.key))), h.key) == 1
}
