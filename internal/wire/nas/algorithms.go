package nas

import (
	"fmt"

	lib "github.com/free5gc/nas/security"
)

// streamCipher is 128-NEA0 to 128-NEA3 (TS 33.501 annex D.2); it does not change b.
func streamCipher(nea uint8, key [16]byte, count uint32, bearer, direction uint8, b []byte) (out []byte, err error) {
	defer guard(&err, ErrAlgorithm)
	switch nea {
	case lib.AlgCiphering128NEA0:
		return append([]byte(nil), b...), nil
	case lib.AlgCiphering128NEA1:
		return lib.NEA1(key, count, uint32(bearer), uint32(direction), b, uint32(len(b))*8)
	case lib.AlgCiphering128NEA2:
		return lib.NEA2(key, count, bearer, direction, b)
	case lib.AlgCiphering128NEA3:
		return lib.NEA3(key, count, bearer, direction, b, uint32(len(b))*8)
	}
	return nil, fmt.Errorf("%w: NEA%d", ErrAlgorithm, nea)
}

// messageMAC is NIA0 to 128-NIA3 (TS 33.501 annex D.3).
func messageMAC(nia uint8, key [16]byte, count uint32, bearer, direction uint8, b []byte) (mac [4]byte, err error) {
	defer guard(&err, ErrAlgorithm)
	var m []byte
	switch nia {
	case lib.AlgIntegrity128NIA0:
		return mac, nil
	case lib.AlgIntegrity128NIA1:
		m, err = lib.NIA1(key, count, bearer, uint32(direction), b, uint64(len(b))*8)
	case lib.AlgIntegrity128NIA2:
		m, err = lib.NIA2(key, count, bearer, direction, b)
	case lib.AlgIntegrity128NIA3:
		m, err = lib.NIA3(key, count, bearer, direction, b, uint32(len(b))*8)
	default:
		err = fmt.Errorf("%w: NIA%d", ErrAlgorithm, nia)
	}
	if err != nil {
		return mac, err
	}
	return [4]byte(m), nil
}
