// Package aka is the cryptography of 5G AKA: the Milenage functions of the USIM
// and the home network (TS 35.206), the key hierarchy of TS 33.501 annex A, the
// AUTN and AUTS tokens of TS 33.102 clause 6.3, and the concealment of a SUPI by
// ECIES (TS 33.501 annex C). All by Release 17.
//
// Everything here is a function of its arguments: the package holds no state,
// starts no goroutine and does no I/O. It keeps no sequence numbers (the home
// network and the USIM each keep their own) and does not cipher NAS messages
// (that is wire/nas). Keys are passed as arrays, so that a wrong length does not
// compile. Nothing of this package may be logged except a RAND.
package aka

import "crypto/subtle"

// BuildAUTN assembles the authentication token of TS 33.102 clause 6.3.2: SQN xor
// AK (6 octets), AMF (2), MAC-A (8).
func BuildAUTN(sqnXorAK [6]byte, amf [2]byte, mac [8]byte) [16]byte {
	var autn [16]byte
	copy(autn[0:6], sqnXorAK[:])
	copy(autn[6:8], amf[:])
	copy(autn[8:16], mac[:])
	return autn
}

// SplitAUTN takes an AUTN apart. It verifies nothing: compare mac with F1 by
// means of Equal.
func SplitAUTN(autn [16]byte) (sqnXorAK [6]byte, amf [2]byte, mac [8]byte) {
	return [6]byte(autn[0:6]), [2]byte(autn[6:8]), [8]byte(autn[8:16])
}

// BuildAUTS assembles the token with which a USIM that holds sqnMS (48 bits) asks
// for resynchronisation: SQN-MS xor AK*, MAC-S. The AMF of MAC-S is zero
// (TS 33.102 clause 6.3.3).
func BuildAUTS(m *Milenage, rand [16]byte, sqnMS uint64) [14]byte {
	var auts [14]byte
	concealed := XorSQN(sqnMS, m.F5Star(rand))
	mac := m.F1Star(rand, sqnMS, [2]byte{})
	copy(auts[0:6], concealed[:])
	copy(auts[6:14], mac[:])
	return auts
}

// OpenAUTS recovers SQN-MS from an AUTS that answers rand. ok is false, and sqnMS
// 0, when MAC-S is not the subscriber's (TS 33.102 clause 6.3.5).
func OpenAUTS(m *Milenage, rand [16]byte, auts [14]byte) (sqnMS uint64, ok bool) {
	sqn := SQNFrom([6]byte(auts[0:6]), m.F5Star(rand))
	mac := m.F1Star(rand, sqn, [2]byte{})
	if !Equal(mac[:], auts[6:14]) {
		return 0, false
	}
	return sqn, true
}

// XorSQN conceals sqn, of which the low 48 bits count, with an anonymity key.
func XorSQN(sqn uint64, ak [6]byte) [6]byte {
	b := sqnBytes(sqn)
	for i := range b {
		b[i] ^= ak[i]
	}
	return b
}

// SQNFrom reverses XorSQN.
func SQNFrom(sqnXorAK, ak [6]byte) uint64 {
	var sqn uint64
	for i := range sqnXorAK {
		sqn = sqn<<8 | uint64(sqnXorAK[i]^ak[i])
	}
	return sqn
}

// Equal reports whether a and b are the same, in a time that depends only on
// their lengths. Every comparison of a MAC, RES* or HXRES* goes through it.
func Equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// sqnBytes is the low 48 bits of sqn, most significant octet first.
func sqnBytes(sqn uint64) [6]byte {
	return [6]byte{byte(sqn >> 40), byte(sqn >> 32), byte(sqn >> 24), byte(sqn >> 16), byte(sqn >> 8), byte(sqn)}
}
