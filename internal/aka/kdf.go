package aka

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"github.com/simreach/simreach/internal/ident"
)

// FC values of TS 33.501 annex A and the type distinguishers of clause A.8.
const (
	fcAlgorithmKey = 0x69
	fcKAUSF        = 0x6a
	fcRESStar      = 0x6b
	fcKSEAF        = 0x6c
	fcKAMF         = 0x6d
	fcKGNB         = 0x6e

	typeNASEnc = 0x01
	typeNASInt = 0x02

	access3GPP = 0x01 // access type distinguisher, clause A.9
)

// kdf is the key derivation function of TS 33.220 clause B.2: HMAC-SHA-256 over
// FC and each parameter followed by its 16-bit length.
func kdf(key []byte, fc byte, params ...[]byte) [32]byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte{fc})
	for _, p := range params {
		h.Write(p)
		h.Write(binary.BigEndian.AppendUint16(nil, uint16(len(p))))
	}
	return [32]byte(h.Sum(nil))
}

func concat(a, b [16]byte) []byte { return append(a[:], b[:]...) }

// RESStar is RES* in the UE and XRES* in the home network (clause A.4).
// servingNetworkName has the form of ident.PLMN.ServingNetworkName.
func RESStar(ck, ik [16]byte, servingNetworkName string, rand [16]byte, res []byte) [16]byte {
	k := kdf(concat(ck, ik), fcRESStar, []byte(servingNetworkName), rand[:], res)
	return [16]byte(k[16:])
}

// HXRESStar is HRES* in the AMF and HXRES* in the AUSF: the 128 least
// significant bits of SHA-256(RAND || XRES*) (clause A.5).
func HXRESStar(rand, resStar [16]byte) [16]byte {
	h := sha256.Sum256(concat(rand, resStar))
	return [16]byte(h[16:])
}

// KAUSF derives the AUSF's key (clause A.2). snn is the serving network name,
// sqnXorAK the first six octets of AUTN.
func KAUSF(ck, ik [16]byte, snn string, sqnXorAK [6]byte) [32]byte {
	return kdf(concat(ck, ik), fcKAUSF, []byte(snn), sqnXorAK[:])
}

// KSEAF derives the anchor key of a serving network (clause A.6).
func KSEAF(kausf [32]byte, snn string) [32]byte {
	return kdf(kausf[:], fcKSEAF, []byte(snn))
}

// KAMF derives the AMF's key from the IMSI's digits and the ABBA value, two zero
// octets in this release (clauses A.7.0 and A.7.1).
func KAMF(kseaf [32]byte, supi ident.SUPI, abba []byte) [32]byte {
	return kdf(kseaf[:], fcKAMF, []byte(supi.IMSI()), abba)
}

// NASKeys derives K_NASenc and K_NASint for the algorithm identities nea and nia,
// each 0..3 (clause A.8).
func NASKeys(kamf [32]byte, nea, nia uint8) (enc, integ [16]byte) {
	e := kdf(kamf[:], fcAlgorithmKey, []byte{typeNASEnc}, []byte{nea})
	i := kdf(kamf[:], fcAlgorithmKey, []byte{typeNASInt}, []byte{nia})
	return [16]byte(e[16:]), [16]byte(i[16:])
}

// KGNB derives the gNB's key for 3GPP access from the uplink NAS COUNT of the
// message that led to it (clause A.9).
func KGNB(kamf [32]byte, uplinkCount uint32) [32]byte {
	return kdf(kamf[:], fcKGNB, binary.BigEndian.AppendUint32(nil, uplinkCount), []byte{access3GPP})
}
