// Package ident holds the identities that travel between network functions:
// SUPI, GUTI, PLMN, S-NSSAI, DNN, TEID, SEID and the small value types that go
// with them. All are comparable values, safe to copy and to use as map keys.
// The package does no I/O, starts no goroutine and imports nothing of ours.
package ident

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ErrInvalid is wrapped by every parse error of this package.
var ErrInvalid = errors.New("invalid identity")

func invalid(kind, text, want string) error {
	return fmt.Errorf("%w: %s %q: want %s", ErrInvalid, kind, text, want)
}

func digits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// IMSI is an International Mobile Subscriber Identity: 6 to 15 decimal digits
// (TS 23.003 clause 2.2, Release 17).
type IMSI string

// ParseIMSI accepts 6 to 15 digits, with or without the prefix "imsi-".
func ParseIMSI(s string) (IMSI, error) {
	d := strings.TrimPrefix(s, "imsi-")
	if len(d) < 6 || len(d) > 15 || !digits(d) {
		return "", invalid("IMSI", s, "6 to 15 digits")
	}
	return IMSI(d), nil
}

// SUPI returns the IMSI as a SUPI.
func (i IMSI) SUPI() SUPI { return SUPI("imsi-" + string(i)) }

// SUPI is a Subscription Permanent Identifier in its SBI text form,
// "imsi-<digits>" (TS 23.003 clause 2.2A; TS 29.571 clause 5.3.2).
// Other SUPI types (nai-, gci-, gli-) are not used by the testbed.
type SUPI string

// ParseSUPI accepts "imsi-" followed by 6 to 15 digits.
func ParseSUPI(s string) (SUPI, error) {
	d, ok := strings.CutPrefix(s, "imsi-")
	if !ok || len(d) < 6 || len(d) > 15 || !digits(d) {
		return "", invalid("SUPI", s, `"imsi-" and 6 to 15 digits`)
	}
	return SUPI(s), nil
}

// IMSI returns the digits of s.
func (s SUPI) IMSI() IMSI { return IMSI(strings.TrimPrefix(string(s), "imsi-")) }

// PLMN is a mobile network: a 3-digit MCC and a 2- or 3-digit MNC
// (TS 23.003 clause 12.1).
type PLMN struct{ MCC, MNC string }

// ParsePLMN accepts "MCC-MNC" ("001-01") and MCC and MNC run together ("00101").
func ParsePLMN(s string) (PLMN, error) {
	mcc, mnc, ok := strings.Cut(s, "-")
	if !ok && len(s) >= 5 {
		mcc, mnc = s[:3], s[3:]
	}
	p := PLMN{MCC: mcc, MNC: mnc}
	if !p.Valid() {
		return PLMN{}, invalid("PLMN", s, `a 3-digit MCC and a 2- or 3-digit MNC, such as "001-01"`)
	}
	return p, nil
}

// Valid reports whether p has 3 MCC digits and 2 or 3 MNC digits.
func (p PLMN) Valid() bool {
	return len(p.MCC) == 3 && digits(p.MCC) && (len(p.MNC) == 2 || len(p.MNC) == 3) && digits(p.MNC)
}

// String returns "MCC-MNC".
func (p PLMN) String() string { return p.MCC + "-" + p.MNC }

// Bytes returns the three-octet coding of TS 24.501 clause 9.11.3.8, which NAS and
// PFCP use. NGAP codes a 3-digit MNC in another order of digits (TS 38.413 clause
// 9.3.3.5; package wire/ngap does that); with 2 digits both are the same. p must be
// Valid.
func (p PLMN) Bytes() [3]byte {
	d := func(s string, i int) byte {
		if i >= len(s) {
			return 0xf
		}
		return s[i] - '0'
	}
	return [3]byte{
		d(p.MCC, 1)<<4 | d(p.MCC, 0),
		d(p.MNC, 2)<<4 | d(p.MCC, 2),
		d(p.MNC, 1)<<4 | d(p.MNC, 0),
	}
}

// PLMNFromBytes reverses Bytes. Digits outside 0..9 give an error that wraps
// ErrInvalid.
func PLMNFromBytes(b [3]byte) (PLMN, error) {
	n := []byte{b[0] & 0xf, b[0] >> 4, b[1] & 0xf, b[2] & 0xf, b[2] >> 4, b[1] >> 4}
	if n[5] == 0xf {
		n = n[:5]
	}
	for i, v := range n {
		if v > 9 {
			return PLMN{}, invalid("PLMN", fmt.Sprintf("%x", b), "BCD digits")
		}
		n[i] = v + '0'
	}
	return PLMN{MCC: string(n[:3]), MNC: string(n[3:])}, nil
}

// ServingNetworkName returns "5G:mncXXX.mccXXX.3gppnetwork.org", the input of
// the 5G-AKA key derivations (TS 33.501 clause 6.1.1.4; TS 24.501 clause 9.12.1).
func (p PLMN) ServingNetworkName() string {
	mnc := p.MNC
	if len(mnc) == 2 {
		mnc = "0" + mnc
	}
	return "5G:mnc" + mnc + ".mcc" + p.MCC + ".3gppnetwork.org"
}

// TAC is a tracking area code, 24 bits (TS 38.413 clause 9.3.3.10).
type TAC uint32

// TAI is a tracking area identity.
type TAI struct {
	PLMN PLMN
	TAC  TAC
}

// NRCellID is the 36-bit NR cell identity.
type NRCellID uint64

// NRCGI names an NR cell (TS 38.413 clause 9.3.1.7).
type NRCGI struct {
	PLMN PLMN
	Cell NRCellID
}

// Location is where a UE camps: its cell and tracking area.
type Location struct {
	NRCGI NRCGI
	TAI   TAI
}

// GNBID names a gNB within its PLMN. Value uses the low Bits bits, 22 to 32
// (TS 38.413 clause 9.3.1.6).
type GNBID struct {
	PLMN  PLMN
	Value uint32
	Bits  uint8
}

// GUAMI names an AMF (TS 23.003 clause 2.10.1): region 8 bits, set 10 bits,
// pointer 6 bits.
type GUAMI struct {
	PLMN    PLMN
	Region  uint8
	Set     uint16
	Pointer uint8
}

// AMFID returns the 24-bit AMF identifier as six hexadecimal digits, the text
// form of TS 29.571 (type AmfId).
func (g GUAMI) AMFID() string {
	return fmt.Sprintf("%02x%04x", g.Region, g.Set<<6|uint16(g.Pointer&0x3f))
}

// GUTI is a 5G-GUTI: the AMF that assigned it and a 5G-TMSI unique in it
// (TS 23.003 clause 2.10). The zero value means "none".
type GUTI struct {
	GUAMI GUAMI
	TMSI  uint32
}

// STMSI is the 5G-S-TMSI: AMF set, AMF pointer, 5G-TMSI (TS 23.003 clause 2.11).
type STMSI struct {
	Set     uint16
	Pointer uint8
	TMSI    uint32
}

// STMSI returns the shortened form of g.
func (g GUTI) STMSI() STMSI { return STMSI{Set: g.GUAMI.Set, Pointer: g.GUAMI.Pointer, TMSI: g.TMSI} }

// PEI is a Permanent Equipment Identifier in SBI text form, "imei-<15 digits>"
// or "imeisv-<16 digits>" (TS 29.571 clause 5.3.2). Empty means unknown.
type PEI string

// SNSSAI is a network slice: SST 0..255 and an optional 24-bit SD
// (TS 23.003 clause 28.4.2). SD is six lower-case hexadecimal digits or empty.
type SNSSAI struct {
	SST uint8
	SD  string
}

// ParseSNSSAI accepts "SST" or "SST-SD", for example "1" or "1-010203".
func ParseSNSSAI(s string) (SNSSAI, error) {
	sst, sd, has := strings.Cut(s, "-")
	n, err := strconv.ParseUint(sst, 10, 8)
	if err != nil || (has && len(sd) != 6) {
		return SNSSAI{}, invalid("S-NSSAI", s, `"SST" or "SST-SD" with SST 0..255 and SD six hexadecimal digits`)
	}
	if has {
		if _, err := strconv.ParseUint(sd, 16, 24); err != nil {
			return SNSSAI{}, invalid("S-NSSAI", s, "SD of six hexadecimal digits")
		}
	}
	return SNSSAI{SST: uint8(n), SD: strings.ToLower(sd)}, nil
}

// String returns "SST" or "SST-SD".
func (s SNSSAI) String() string {
	if s.SD == "" {
		return strconv.Itoa(int(s.SST))
	}
	return strconv.Itoa(int(s.SST)) + "-" + s.SD
}

// DNN is a data network name, compared without regard to case: keep it in
// lower case (TS 23.003 clause 9A).
type DNN string

// PDUSessionID is 1..15; 0 means none (TS 24.501 clause 9.4).
type PDUSessionID uint8

// PTI is a 5GSM procedure transaction identity, 1..254; 0 means none.
type PTI uint8

// QFI is a QoS flow identifier, 0..63.
type QFI uint8

// TEID is a GTP-U tunnel endpoint identifier; 0 means none.
type TEID uint32

// SEID is a PFCP session endpoint identifier; 0 means none.
type SEID uint64

// FTEID is a tunnel endpoint: an address and a TEID on it. Port 2152 is implied.
type FTEID struct {
	Addr netip.Addr
	TEID TEID
}

// AMBR is a pair of aggregate maximum bit rates in bit/s. Zero means unlimited
// in configuration; on the wire a value must be set.
type AMBR struct{ Uplink, Downlink uint64 }

// PDUSessionType is IPv4, IPv6 or IPv4v6, with the numbers of TS 24.501 table
// 9.11.4.11.1.
type PDUSessionType uint8

// PDU session types.
const (
	IPv4   PDUSessionType = 1
	IPv6   PDUSessionType = 2
	IPv4v6 PDUSessionType = 3
)

// UEAddress is what a PDU session gave the UE: an IPv4 address, an IPv6 prefix,
// or both. An invalid Addr or Prefix means that family is absent.
type UEAddress struct {
	V4 netip.Addr
	V6 netip.Prefix
}

// Reach returns the address by which the UE is reached: V4 if there is one, else
// the first host address of V6.
func (a UEAddress) Reach() netip.Addr {
	if a.V4.IsValid() {
		return a.V4
	}
	if a.V6.IsValid() {
		return a.V6.Addr().Next()
	}
	return netip.Addr{}
}

// MarshalText writes "MCC-MNC"; the zero PLMN is empty text.
func (p PLMN) MarshalText() ([]byte, error) {
	if p == (PLMN{}) {
		return nil, nil
	}
	return []byte(p.String()), nil
}

// UnmarshalText reads what ParsePLMN accepts; empty text is the zero PLMN.
func (p *PLMN) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*p = PLMN{}
		return nil
	}
	*p, err = ParsePLMN(string(b))
	return err
}

// MarshalText writes "SST" or "SST-SD".
func (s SNSSAI) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what ParseSNSSAI accepts.
func (s *SNSSAI) UnmarshalText(b []byte) (err error) {
	*s, err = ParseSNSSAI(string(b))
	return err
}
