package sbi

import (
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/simreach/simreach/internal/ident"
)

// The data types of TS 29.571 that several services use, in their JSON form, and
// the conversions. A conversion's error is about the text it was given.

type plmnJSON struct {
	MCC string `json:"mcc"`
	MNC string `json:"mnc"`
}

func toPLMN(p ident.PLMN) plmnJSON { return plmnJSON(p) }

func (p plmnJSON) plmn() (ident.PLMN, error) {
	out := ident.PLMN(p)
	if !out.Valid() {
		return ident.PLMN{}, fmt.Errorf("plmnId %.20q: want 3 mcc digits and 2 or 3 mnc digits", out.String())
	}
	return out, nil
}

type snssaiJSON struct {
	SST uint8  `json:"sst"`
	SD  string `json:"sd,omitempty"`
}

func toSNSSAI(s ident.SNSSAI) snssaiJSON { return snssaiJSON(s) }

func (s snssaiJSON) snssai() (ident.SNSSAI, error) {
	return ident.ParseSNSSAI(ident.SNSSAI(s).String())
}

func toSNSSAIs(in []ident.SNSSAI) []snssaiJSON {
	var out []snssaiJSON
	for _, s := range in {
		out = append(out, toSNSSAI(s))
	}
	return out
}

func snssais(in []snssaiJSON) ([]ident.SNSSAI, error) {
	var out []ident.SNSSAI
	for _, j := range in {
		s, err := j.snssai()
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

type guamiJSON struct {
	PLMN  plmnJSON `json:"plmnId"`
	AMFID string   `json:"amfId"`
}

// toGUAMI returns nil for the zero GUAMI.
func toGUAMI(g ident.GUAMI) *guamiJSON {
	if g == (ident.GUAMI{}) {
		return nil
	}
	return &guamiJSON{PLMN: toPLMN(g.PLMN), AMFID: g.AMFID()}
}

func (g *guamiJSON) guami() (ident.GUAMI, error) {
	if g == nil {
		return ident.GUAMI{}, nil
	}
	p, err := g.PLMN.plmn()
	if err != nil {
		return ident.GUAMI{}, err
	}
	b, err := hex.DecodeString(g.AMFID)
	if err != nil || len(b) != 3 {
		return ident.GUAMI{}, fmt.Errorf("amfId %.20q: want 6 hexadecimal digits", g.AMFID)
	}
	low := uint16(b[1])<<8 | uint16(b[2])
	return ident.GUAMI{PLMN: p, Region: b[0], Set: low >> 6, Pointer: uint8(low & 0x3f)}, nil
}

type locationJSON struct {
	NR *nrLocationJSON `json:"nrLocation,omitempty"`
}

type nrLocationJSON struct {
	TAI struct {
		PLMN plmnJSON `json:"plmnId"`
		TAC  string   `json:"tac"`
	} `json:"tai"`
	NCGI struct {
		PLMN plmnJSON `json:"plmnId"`
		Cell string   `json:"nrCellId"`
	} `json:"ncgi"`
}

// toLocation returns nil for the zero Location.
func toLocation(l ident.Location) *locationJSON {
	if l == (ident.Location{}) {
		return nil
	}
	var nr nrLocationJSON
	nr.TAI.PLMN, nr.TAI.TAC = toPLMN(l.TAI.PLMN), fmt.Sprintf("%06x", uint32(l.TAI.TAC)&0xffffff)
	nr.NCGI.PLMN, nr.NCGI.Cell = toPLMN(l.NRCGI.PLMN), fmt.Sprintf("%09x", uint64(l.NRCGI.Cell)&0xfffffffff)
	return &locationJSON{NR: &nr}
}

// location returns nil when there is no NR location.
func (l *locationJSON) location() (*ident.Location, error) {
	if l == nil || l.NR == nil {
		return nil, nil
	}
	tac, err := strconv.ParseUint(l.NR.TAI.TAC, 16, 24)
	if err != nil {
		return nil, fmt.Errorf("tac %.20q: want 4 or 6 hexadecimal digits", l.NR.TAI.TAC)
	}
	cell, err := strconv.ParseUint(l.NR.NCGI.Cell, 16, 36)
	if err != nil {
		return nil, fmt.Errorf("nrCellId %.20q: want 9 hexadecimal digits", l.NR.NCGI.Cell)
	}
	tp, err := l.NR.TAI.PLMN.plmn()
	if err != nil {
		return nil, err
	}
	cp, err := l.NR.NCGI.PLMN.plmn()
	if err != nil {
		return nil, err
	}
	return &ident.Location{
		TAI:   ident.TAI{PLMN: tp, TAC: ident.TAC(tac)},
		NRCGI: ident.NRCGI{PLMN: cp, Cell: ident.NRCellID(cell)},
	}, nil
}

// ambrJSON is type Ambr; its members are of type BitRate, such as "1.5 Mbps".
type ambrJSON struct {
	Uplink   string `json:"uplink"`
	Downlink string `json:"downlink"`
}

func toAMBR(a ident.AMBR) ambrJSON { return ambrJSON{bitRate(a.Uplink), bitRate(a.Downlink)} }

func (a ambrJSON) ambr() (ident.AMBR, error) {
	up, err := parseBitRate(a.Uplink)
	if err != nil {
		return ident.AMBR{}, err
	}
	down, err := parseBitRate(a.Downlink)
	if err != nil {
		return ident.AMBR{}, err
	}
	return ident.AMBR{Uplink: up, Downlink: down}, nil
}

var bitRateUnits = [...]string{"bps", "Kbps", "Mbps", "Gbps", "Tbps"} // each 1000 of the one before

// bitRate writes a rate without loss, in the largest unit that has no fraction.
func bitRate(bps uint64) string {
	unit := 0
	for bps != 0 && bps%1000 == 0 && unit < len(bitRateUnits)-1 {
		bps /= 1000
		unit++
	}
	return strconv.FormatUint(bps, 10) + " " + bitRateUnits[unit]
}

// parseBitRate reads a rate; fractions of a bit per second are dropped.
func parseBitRate(s string) (uint64, error) {
	bad := fmt.Errorf("bit rate %.40q: want a number and bps, Kbps, Mbps, Gbps or Tbps", s)
	number, unit, ok := strings.Cut(s, " ")
	exponent := -1
	for i, u := range bitRateUnits {
		if u == unit {
			exponent = 3 * i
		}
	}
	if !ok || exponent < 0 {
		return 0, bad
	}
	whole, fraction, dot := strings.Cut(number, ".")
	if dot && fraction == "" {
		return 0, bad
	}
	v, err := strconv.ParseUint(whole, 10, 64)
	if err != nil || whole[0] == '+' {
		return 0, bad
	}
	for i := range max(exponent, len(fraction)) {
		digit := uint64(0)
		if i < len(fraction) {
			digit = uint64(fraction[i]) - '0'
			if digit > 9 {
				return 0, bad
			}
		}
		if i >= exponent {
			continue
		}
		if v > (math.MaxUint64-digit)/10 {
			return 0, fmt.Errorf("bit rate %.40q: too large", s)
		}
		v = 10*v + digit
	}
	return v, nil
}

// The PDU session types of TS 29.571 clause 5.4.3.3.
func pduSessionTypeText(t ident.PDUSessionType) string {
	switch t {
	case ident.IPv4:
		return "IPV4"
	case ident.IPv6:
		return "IPV6"
	case ident.IPv4v6:
		return "IPV4V6"
	}
	return ""
}

func parsePDUSessionType(s string) (ident.PDUSessionType, error) {
	for _, t := range []ident.PDUSessionType{ident.IPv4, ident.IPv6, ident.IPv4v6} {
		if s == pduSessionTypeText(t) {
			return t, nil
		}
	}
	return 0, fmt.Errorf("PDU session type %.20q: want IPV4, IPV6 or IPV4V6", s)
}

// ipAddressJSON is type IpAddress: one of its members is set.
type ipAddressJSON struct {
	V4       string `json:"ipv4Addr,omitempty"`
	V6       string `json:"ipv6Addr,omitempty"`
	V6Prefix string `json:"ipv6Prefix,omitempty"`
}

// parseV4 and parseV6Prefix give the zero value for an empty text.
func parseV4(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return netip.Addr{}, fmt.Errorf("ipv4Addr %.40q: want an IPv4 address", s)
	}
	return a, nil
}

func parseV6Prefix(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is6() {
		return netip.Prefix{}, fmt.Errorf("ipv6Prefix %.60q: want an IPv6 prefix", s)
	}
	return p, nil
}

// hexBytes decodes exactly n octets.
func hexBytes(name, s string, n int) ([]byte, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != n {
		return nil, fmt.Errorf("%s: want %d hexadecimal digits", name, 2*n)
	}
	return b, nil
}

func parseSession(s string) (ident.PDUSessionID, error) {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n < 1 || n > 15 {
		return 0, fmt.Errorf("pduSessionId %.20q: want 1 to 15", s)
	}
	return ident.PDUSessionID(n), nil
}

// sessionID checks a pduSessionId out of JSON.
func sessionID(n int) (ident.PDUSessionID, error) { return parseSession(strconv.Itoa(n)) }
