package aka

import "errors"

var (
	// ErrSchemeOutput is wrapped when a SUCI's scheme output is too short or holds
	// no public key of the profile's curve.
	ErrSchemeOutput = errors.New("aka: malformed scheme output")
	// ErrMACTag is wrapped when a scheme output's MAC tag is not the one of its
	// contents under this home network key: wrong key, or altered.
	ErrMACTag = errors.New("aka: scheme output MAC tag mismatch")
	// ErrHomeKey is wrapped when a home network key is not a key of the profile.
	ErrHomeKey = errors.New("aka: not a home network key of this profile")
	// ErrMSIN is wrapped when an MSIN is not 1 to 10 decimal digits.
	ErrMSIN = errors.New("aka: invalid MSIN")
)
