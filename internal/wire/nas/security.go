package nas

import (
	"crypto/subtle"
	"fmt"
)

// SecurityHeader is the security header type of a 5GMM message
// (TS 24.501 clause 9.3.1).
type SecurityHeader uint8

// Security header types.
const (
	HeaderPlain                SecurityHeader = 0
	HeaderIntegrity            SecurityHeader = 1
	HeaderIntegrityCiphered    SecurityHeader = 2
	HeaderIntegrityNew         SecurityHeader = 3 // SECURITY MODE COMMAND only
	HeaderIntegrityCipheredNew SecurityHeader = 4 // SECURITY MODE COMPLETE only
)

func (h SecurityHeader) ciphered() bool {
	return h == HeaderIntegrityCiphered || h == HeaderIntegrityCipheredNew
}

// Layout of a security protected message (TS 24.501 clause 8.2.28): EPD, security
// header type, MAC (4 octets), sequence number, plain or ciphered message.
const (
	macAt      = 2
	sequenceAt = 6
	plainAt    = 7
)

// PeekSecurityHeader returns the security header type of a message. A 5GSM
// message has none and counts as plain. Errors: ErrTooShort, ErrDiscriminator,
// ErrHeader for a reserved type.
func PeekSecurityHeader(pdu []byte) (SecurityHeader, error) {
	if len(pdu) < 2 {
		return 0, ErrTooShort
	}
	switch {
	case pdu[0] == epd5GSM:
		return HeaderPlain, nil
	case pdu[0] != epd5GMM:
		return 0, ErrDiscriminator
	}
	h := SecurityHeader(pdu[1] & 0xf)
	if h > HeaderIntegrityCipheredNew {
		return 0, ErrHeader
	}
	if h != HeaderPlain && len(pdu) <= plainAt {
		return 0, ErrTooShort
	}
	return h, nil
}

// PeekPlain returns the plain message within one that is integrity protected but
// not ciphered (types 1 and 3), without verifying it: some may be processed so
// (TS 24.501 clause 4.4.4.3). The result is a part of pdu. Errors: those of
// PeekSecurityHeader, ErrHeader for other types.
func PeekPlain(pdu []byte) ([]byte, error) {
	h, err := PeekSecurityHeader(pdu)
	if err != nil {
		return nil, err
	}
	if h != HeaderIntegrity && h != HeaderIntegrityNew {
		return nil, fmt.Errorf("%w: %d is not integrity protection only", ErrHeader, h)
	}
	return pdu[plainAt:], nil
}

// Inputs of the algorithms (TS 33.501 clause 6.4.3.1).
const (
	connection3GPP = 1 // NAS connection identifier, the BEARER input
	uplink         = 0
	downlink       = 1
)

// maxCount is the highest NAS COUNT, 24 bits (TS 24.501 clause 4.4.3.1).
const maxCount = 1<<24 - 1

// SecurityContext is a 5G NAS security context in use on 3GPP access: keys,
// algorithms, and a NAS COUNT each way (TS 24.501 clause 4.4). One goroutine at a
// time may use it. A context of new keys starts with new counts: make another.
type SecurityContext struct {
	ksi         NGKSI
	nea, nia    uint8
	enc, integ  [16]byte
	networkSide bool
	nullOK      bool

	sent, received counter
}

// counter remembers the NAS COUNT of the last message in one direction.
type counter struct {
	count uint32
	used  bool
}

// next returns the count for the next message.
func (c counter) next() uint32 {
	if !c.used {
		return 0
	}
	return c.count + 1
}

func (c *counter) set(count uint32) { c.count, c.used = count, true }

// NewSecurityContext returns a context whose next counts are 0 in both
// directions. Algorithms are 0..3; NIA0 protects nothing and makes Protect and
// Unprotect fail with ErrAlgorithm unless AllowNullIntegrity was called.
// networkSide tells whether Protect makes downlink (AMF) or uplink (UE) messages.
func NewSecurityContext(ksi NGKSI, nea, nia uint8, enc, integ [16]byte, networkSide bool) *SecurityContext {
	return &SecurityContext{ksi: ksi, nea: nea, nia: nia, enc: enc, integ: integ, networkSide: networkSide}
}

// WithAlgorithms returns a context of the same key set under other algorithms, with
// the keys derived for them. The NAS COUNTs go on: only new keys reset them
// (TS 24.501 clauses 5.4.2.2 and 5.4.2.3).
func (c *SecurityContext) WithAlgorithms(nea, nia uint8, enc, integ [16]byte) *SecurityContext {
	n := *c
	n.nea, n.nia, n.enc, n.integ = nea, nia, enc, integ
	return &n
}

// AllowNullIntegrity permits NIA0, as for a UE without credentials in an
// emergency (TS 33.501 clause 5.3.3).
func (c *SecurityContext) AllowNullIntegrity() { c.nullOK = true }

// NGKSI returns the key set identifier.
func (c *SecurityContext) NGKSI() NGKSI { return c.ksi }

// Algorithms returns the ciphering and integrity algorithms.
func (c *SecurityContext) Algorithms() (nea, nia uint8) { return c.nea, c.nia }

// UplinkCount returns the 24-bit NAS COUNT of the last uplink message that was
// protected (UE) or accepted (network); 0 before the first.
func (c *SecurityContext) UplinkCount() uint32 {
	if c.networkSide {
		return c.received.count
	}
	return c.sent.count
}

// DownlinkCount is UplinkCount for the other direction.
func (c *SecurityContext) DownlinkCount() uint32 {
	if c.networkSide {
		return c.sent.count
	}
	return c.received.count
}

// Protect returns plain, a complete plain message that stays as it is, protected
// with header type h under the next NAS COUNT of our direction. Errors: ErrHeader
// if h does not fit the message or the side, ErrAlgorithm, ErrCount. A count is
// used up only on success.
func (c *SecurityContext) Protect(plain []byte, h SecurityHeader) ([]byte, error) {
	if err := c.checkHeader(plain, h); err != nil {
		return nil, err
	}
	count := c.sent.next()
	if count > maxCount {
		return nil, ErrCount
	}
	pdu := make([]byte, plainAt, plainAt+len(plain))
	pdu[0], pdu[1], pdu[sequenceAt] = epd5GMM, byte(h), byte(count)
	body := plain
	if h.ciphered() {
		var err error
		if body, err = c.cipher(plain, count, c.ourDirection()); err != nil {
			return nil, err
		}
	}
	pdu = append(pdu, body...)
	mac, err := c.mac(pdu, count, c.ourDirection())
	if err != nil {
		return nil, err
	}
	copy(pdu[macAt:], mac[:])
	c.sent.set(count)
	return pdu, nil
}

// checkHeader refuses combinations that no specification knows.
func (c *SecurityContext) checkHeader(plain []byte, h SecurityHeader) error {
	if len(plain) < 3 || plain[0] != epd5GMM || plain[1]&0xf != byte(HeaderPlain) {
		return fmt.Errorf("%w: only a plain 5GMM message can be protected", ErrHeader)
	}
	typ := MessageType(plain[2])
	switch h {
	case HeaderIntegrity, HeaderIntegrityCiphered:
		return nil
	case HeaderIntegrityNew:
		if c.networkSide && typ == TypeSecurityModeCommand {
			return nil
		}
	case HeaderIntegrityCipheredNew:
		if !c.networkSide && typ == TypeSecurityModeComplete {
			return nil
		}
	}
	return fmt.Errorf("%w: %d for %s", ErrHeader, h, typ)
}

// Unprotect verifies a protected message from the other side and returns the
// plain message, in memory of its own, and the header type. The NAS COUNT is the
// lowest one above the last accepted that ends in the sequence number received
// (TS 24.501 clause 4.4.3.1). Errors: those of PeekSecurityHeader, ErrHeader for
// a plain message or a type that only our side sends, ErrMAC, ErrReplay,
// ErrCount, ErrAlgorithm; after any of them the context is as before.
func (c *SecurityContext) Unprotect(pdu []byte) (plain []byte, h SecurityHeader, err error) {
	if h, err = PeekSecurityHeader(pdu); err != nil {
		return nil, h, err
	}
	ours := HeaderIntegrityCipheredNew
	if c.networkSide {
		ours = HeaderIntegrityNew
	}
	if h == HeaderPlain || h == ours {
		return nil, h, fmt.Errorf("%w: %d", ErrHeader, h)
	}
	count := c.estimate(pdu[sequenceAt])
	if count > maxCount {
		return nil, h, ErrCount
	}
	if ok, err := c.verify(pdu, count); err != nil {
		return nil, h, err
	} else if !ok {
		// A copy of an earlier message has the count that went before; saying so
		// helps whoever looks for the cause.
		if c.received.used && count >= 256 {
			if old, err := c.verify(pdu, count-256); err == nil && old {
				return nil, h, ErrReplay
			}
		}
		return nil, h, ErrMAC
	}
	plain = append([]byte(nil), pdu[plainAt:]...)
	if h.ciphered() {
		if plain, err = c.cipher(pdu[plainAt:], count, 1-c.ourDirection()); err != nil {
			return nil, h, err
		}
	}
	c.received.set(count)
	return plain, h, nil
}

// estimate completes a received sequence number to a NAS COUNT.
func (c *SecurityContext) estimate(sequence byte) uint32 {
	next := c.received.next()
	return next + uint32(sequence-byte(next))
}

// CipherContainer ciphers the NAS message container of the initial message that
// will be protected next (TS 24.501 clause 4.4.6): it uses that message's count
// and uses none up.
func (c *SecurityContext) CipherContainer(plain []byte) ([]byte, error) {
	return c.cipher(plain, c.sent.next(), c.ourDirection())
}

// DecipherContainer deciphers the NAS message container of the message that was
// accepted last.
func (c *SecurityContext) DecipherContainer(container []byte) ([]byte, error) {
	return c.cipher(container, c.received.count, 1-c.ourDirection())
}

func (c *SecurityContext) ourDirection() uint8 {
	if c.networkSide {
		return downlink
	}
	return uplink
}

// cipher returns b ciphered, or deciphered, which is the same.
func (c *SecurityContext) cipher(b []byte, count uint32, direction uint8) ([]byte, error) {
	return streamCipher(c.nea, c.enc, count, connection3GPP, direction, b)
}

// mac computes the MAC over the sequence number and what follows it
// (TS 24.501 clause 4.4.3.3).
func (c *SecurityContext) mac(pdu []byte, count uint32, direction uint8) ([4]byte, error) {
	if c.nia == 0 && !c.nullOK {
		return [4]byte{}, fmt.Errorf("%w: NIA0", ErrAlgorithm)
	}
	return messageMAC(c.nia, c.integ, count, connection3GPP, direction, pdu[sequenceAt:])
}

func (c *SecurityContext) verify(pdu []byte, count uint32) (bool, error) {
	mac, err := c.mac(pdu, count, 1-c.ourDirection())
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(mac[:], pdu[macAt:sequenceAt]) == 1, nil
}
