package aka

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// The ECIES scheme output of TS 33.501 clause C.3.2: ephemeral public key, then
// the ciphertext, as long as its plaintext, then the MAC tag.
const (
	publicA = 32 // X25519 (profile A, clause C.3.4.1)
	publicB = 33 // compressed P-256 point (profile B, clause C.3.4.2)
	tagLen  = 8
)

// PublicA returns the X25519 public key of a home network private key.
func PublicA(homePrivate []byte) ([]byte, error) {
	k, err := ecdh.X25519().NewPrivateKey(homePrivate)
	if err != nil {
		return nil, fmt.Errorf("%w: profile A: %v", ErrHomeKey, err)
	}
	return k.PublicKey().Bytes(), nil
}

// PublicB returns the compressed P-256 public key of a home network private key.
func PublicB(homePrivate []byte) ([]byte, error) {
	k, err := ecdh.P256().NewPrivateKey(homePrivate)
	if err != nil {
		return nil, fmt.Errorf("%w: profile B: %v", ErrHomeKey, err)
	}
	return compress(k.PublicKey()), nil
}

// ConcealA encrypts an MSIN in BCD (or another scheme input) by profile A for the
// home network's X25519 public key of 32 octets. rnd gives the ephemeral key; nil
// means crypto/rand.
func ConcealA(homePublic, msinBCD []byte, rnd io.Reader) ([]byte, error) {
	home, err := ecdh.X25519().NewPublicKey(homePublic)
	if err != nil {
		return nil, fmt.Errorf("%w: profile A: %v", ErrHomeKey, err)
	}
	eph, err := ephemeral(ecdh.X25519(), rnd)
	if err != nil {
		return nil, err
	}
	return conceal(eph, home, eph.PublicKey().Bytes(), msinBCD)
}

// ConcealB is ConcealA by profile B. homePublic is a P-256 point, compressed (33
// octets) or not (65).
func ConcealB(homePublic, msinBCD []byte, rnd io.Reader) ([]byte, error) {
	home, err := point(homePublic)
	if err != nil {
		return nil, fmt.Errorf("%w: profile B: %v", ErrHomeKey, err)
	}
	eph, err := ephemeral(ecdh.P256(), rnd)
	if err != nil {
		return nil, err
	}
	return conceal(eph, home, compress(eph.PublicKey()), msinBCD)
}

// DecryptA recovers the scheme input from a scheme output of profile A.
// homePrivate is 32 octets. Errors wrap ErrHomeKey, ErrSchemeOutput or ErrMACTag.
func DecryptA(homePrivate, schemeOutput []byte) (msinBCD []byte, err error) {
	home, err := ecdh.X25519().NewPrivateKey(homePrivate)
	if err != nil {
		return nil, fmt.Errorf("%w: profile A: %v", ErrHomeKey, err)
	}
	if len(schemeOutput) <= publicA+tagLen {
		return nil, tooShort("A", len(schemeOutput), publicA)
	}
	eph, err := ecdh.X25519().NewPublicKey(schemeOutput[:publicA])
	if err != nil {
		return nil, fmt.Errorf("%w: profile A: %v", ErrSchemeOutput, err)
	}
	return reveal(home, eph, schemeOutput, publicA)
}

// DecryptB is DecryptA by profile B; homePrivate is a 32-octet P-256 scalar.
func DecryptB(homePrivate, schemeOutput []byte) (msinBCD []byte, err error) {
	home, err := ecdh.P256().NewPrivateKey(homePrivate)
	if err != nil {
		return nil, fmt.Errorf("%w: profile B: %v", ErrHomeKey, err)
	}
	if len(schemeOutput) <= publicB+tagLen {
		return nil, tooShort("B", len(schemeOutput), publicB)
	}
	eph, err := point(schemeOutput[:publicB])
	if err != nil {
		return nil, fmt.Errorf("%w: profile B: %v", ErrSchemeOutput, err)
	}
	return reveal(home, eph, schemeOutput, publicB)
}

func tooShort(profile string, got, public int) error {
	return fmt.Errorf("%w: profile %s: %d octets, want more than %d", ErrSchemeOutput, profile, got, public+tagLen)
}

// conceal does clause C.3.2; public is eph's public key as it is sent.
func conceal(eph *ecdh.PrivateKey, home *ecdh.PublicKey, public, plain []byte) ([]byte, error) {
	shared, err := eph.ECDH(home)
	if err != nil { // an X25519 point of low order
		return nil, fmt.Errorf("%w: %v", ErrHomeKey, err)
	}
	enc, icb, macKey := schemeKeys(shared, public)
	out := make([]byte, len(public)+len(plain), len(public)+len(plain)+tagLen)
	copy(out, public)
	ct := out[len(public):]
	if err := ctr(enc, icb, ct, plain); err != nil {
		return nil, err
	}
	return append(out, tag(macKey, ct)...), nil
}

// reveal does clause C.3.3: the tag is checked before anything is decrypted.
func reveal(home *ecdh.PrivateKey, eph *ecdh.PublicKey, out []byte, public int) ([]byte, error) {
	shared, err := home.ECDH(eph)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrSchemeOutput, err)
	}
	enc, icb, macKey := schemeKeys(shared, out[:public])
	ct, mac := out[public:len(out)-tagLen], out[len(out)-tagLen:]
	if !hmac.Equal(mac, tag(macKey, ct)) {
		return nil, ErrMACTag
	}
	plain := make([]byte, len(ct))
	if err := ctr(enc, icb, plain, ct); err != nil {
		return nil, err
	}
	return plain, nil
}

// schemeKeys is the ANSI X9.63 KDF with SHA-256 and the ephemeral public key as
// shared info, cut as clause C.3.2 says: 16 octets of encryption key, 16 of
// initial counter block, 32 of MAC key.
func schemeKeys(shared, public []byte) (enc, icb, macKey []byte) {
	var keys []byte
	for counter := uint32(1); len(keys) < 64; counter++ {
		h := sha256.New()
		h.Write(shared)
		h.Write(binary.BigEndian.AppendUint32(nil, counter))
		h.Write(public)
		keys = h.Sum(keys)
	}
	return keys[:16], keys[16:32], keys[32:64]
}

// ctr is AES-128 in counter mode, the same both ways.
func ctr(key, icb, dst, src []byte) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		return fmt.Errorf("aka: scheme cipher: %w", err)
	}
	cipher.NewCTR(block, icb).XORKeyStream(dst, src)
	return nil
}

// tag is HMAC-SHA-256 cut to its first 64 bits.
func tag(key, ct []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(ct)
	return h.Sum(nil)[:tagLen]
}

// ephemeral reads a private key from rnd rather than have the curve generate one,
// because crypto/ecdh no longer lets a caller choose the source of randomness.
func ephemeral(c ecdh.Curve, rnd io.Reader) (*ecdh.PrivateKey, error) {
	if rnd == nil {
		rnd = rand.Reader
	}
	const tries = 8 // a P-256 scalar is out of range once in 2^32
	var last error
	for range tries {
		b := make([]byte, 32)
		if _, err := io.ReadFull(rnd, b); err != nil {
			return nil, fmt.Errorf("aka: ephemeral key: %w", err)
		}
		k, err := c.NewPrivateKey(b)
		if err == nil {
			return k, nil
		}
		last = err
	}
	return nil, fmt.Errorf("aka: ephemeral key: %w", last)
}

// point parses a P-256 public key, compressed or not.
func point(b []byte) (*ecdh.PublicKey, error) {
	if len(b) == publicB {
		x, y := elliptic.UnmarshalCompressed(elliptic.P256(), b)
		if x == nil {
			return nil, fmt.Errorf("not a compressed point on P-256")
		}
		b = make([]byte, 65)
		b[0] = 4
		x.FillBytes(b[1:33])
		y.FillBytes(b[33:])
	}
	return ecdh.P256().NewPublicKey(b)
}

// compress is SEC 1 clause 2.3.3 with point compression.
func compress(k *ecdh.PublicKey) []byte {
	b := k.Bytes()
	return append([]byte{2 | b[64]&1}, b[1:33]...)
}

// MSINToBCD codes 1 to 10 digits two to an octet, first digit in the low half,
// with a filler of 1111 after an odd number (TS 24.501 figure 9.11.3.4.3a).
func MSINToBCD(msin string) ([]byte, error) {
	if len(msin) < 1 || len(msin) > 10 {
		return nil, fmt.Errorf("%w: %d digits, want 1 to 10", ErrMSIN, len(msin))
	}
	out := make([]byte, (len(msin)+1)/2)
	if len(msin)%2 == 1 {
		out[len(out)-1] = 0xf0
	}
	for i := range len(msin) {
		d := msin[i] - '0'
		if d > 9 {
			return nil, fmt.Errorf("%w: a character that is no digit", ErrMSIN)
		}
		out[i/2] |= d << (4 * (i % 2))
	}
	return out, nil
}

// MSINFromBCD reverses MSINToBCD. Only the last half octet may be a filler.
func MSINFromBCD(b []byte) (string, error) {
	if len(b) < 1 || len(b) > 5 {
		return "", fmt.Errorf("%w: %d octets, want 1 to 5", ErrMSIN, len(b))
	}
	digits := make([]byte, 0, 2*len(b))
	for i, o := range b {
		lo, hi := o&0xf, o>>4
		filler := hi == 0xf && i == len(b)-1
		if lo > 9 || (hi > 9 && !filler) {
			return "", fmt.Errorf("%w: octet %d is not BCD", ErrMSIN, i+1)
		}
		digits = append(digits, '0'+lo)
		if !filler {
			digits = append(digits, '0'+hi)
		}
	}
	return string(digits), nil
}
