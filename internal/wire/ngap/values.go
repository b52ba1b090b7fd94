package ngap

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"

	"github.com/free5gc/aper"
	"github.com/free5gc/ngap/ngapType"

	"github.com/simreach/simreach/internal/ident"
)

// Each pair of functions here turns one of our values into the library's and
// back. Those from the library always copy octets.

// noSD is the SD that says there is none (TS 23.003 clause 28.4.2).
const noSD = "ffffff"

// fromPLMN writes the digits of MCC and MNC in their order, low half of an octet
// first, with a filler before a 2-digit MNC (TS 38.413 clause 9.3.3.5). With
// 3-digit MNCs that is not the coding of NAS and PFCP, which moves the third
// digit to the front; hence not ident.PLMN.Bytes.
func fromPLMN(p ident.PLMN) (ngapType.PLMNIdentity, error) {
	if !p.Valid() {
		return ngapType.PLMNIdentity{}, fmt.Errorf("%w: PLMN %q", ident.ErrInvalid, p)
	}
	digits := p.MCC + p.MNC
	if len(p.MNC) == 2 {
		digits = p.MCC + "?" + p.MNC // '?' is 0x3f: its low half is the filler
	}
	b := make(aper.OctetString, 3)
	for i := range b {
		b[i] = digits[2*i+1]<<4 | digits[2*i]&0xf
	}
	return ngapType.PLMNIdentity{Value: b}, nil
}

func toPLMN(p ngapType.PLMNIdentity) (ident.PLMN, error) {
	var d []byte
	for _, o := range p.Value {
		d = append(d, o&0xf+'0', o>>4+'0')
	}
	out := ident.PLMN{MCC: string(d[:3]), MNC: string(d[3:])}
	if d[3] == '?' {
		out.MNC = string(d[4:])
	}
	if !out.Valid() {
		return ident.PLMN{}, fmt.Errorf("%w: PLMN %x", ident.ErrInvalid, []byte(p.Value))
	}
	return out, nil
}

func fromSNSSAI(s ident.SNSSAI) (ngapType.SNSSAI, error) {
	out := ngapType.SNSSAI{SST: ngapType.SST{Value: aper.OctetString{s.SST}}}
	if s.SD == "" || s.SD == noSD {
		return out, nil
	}
	sd, err := hex.DecodeString(s.SD)
	if err != nil || len(sd) != 3 {
		return out, fmt.Errorf("%w: SD %q", ident.ErrInvalid, s.SD)
	}
	out.SD = &ngapType.SD{Value: sd}
	return out, nil
}

func toSNSSAI(s ngapType.SNSSAI) ident.SNSSAI {
	out := ident.SNSSAI{SST: s.SST.Value[0]}
	if s.SD != nil {
		if sd := hex.EncodeToString(s.SD.Value); sd != noSD {
			out.SD = sd
		}
	}
	return out
}

func fromSlices(list []ident.SNSSAI) (out ngapType.SliceSupportList, err error) {
	for _, s := range list {
		item := ngapType.SliceSupportItem{}
		if item.SNSSAI, err = fromSNSSAI(s); err != nil {
			return out, err
		}
		out.List = append(out.List, item)
	}
	return out, nil
}

func toSlices(list ngapType.SliceSupportList) (out []ident.SNSSAI) {
	for _, item := range list.List {
		out = append(out, toSNSSAI(item.SNSSAI))
	}
	return out
}

func fromAllowed(list []ident.SNSSAI) (out ngapType.AllowedNSSAI, err error) {
	for _, s := range list {
		item := ngapType.AllowedNSSAIItem{}
		if item.SNSSAI, err = fromSNSSAI(s); err != nil {
			return out, err
		}
		out.List = append(out.List, item)
	}
	return out, nil
}

func toAllowed(list ngapType.AllowedNSSAI) (out []ident.SNSSAI) {
	for _, item := range list.List {
		out = append(out, toSNSSAI(item.SNSSAI))
	}
	return out
}

// bitString returns the low n bits of v, left aligned in whole octets.
func bitString(v uint64, n uint) aper.BitString {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v<<(64-n))
	return aper.BitString{Bytes: b[:(n+7)/8], BitLength: uint64(n)}
}

// bitValue reverses bitString for up to 64 bits. The library leaves foreign bits
// behind the last one.
func bitValue(s aper.BitString) uint64 {
	var b [8]byte
	copy(b[:], s.Bytes)
	return binary.BigEndian.Uint64(b[:]) >> (64 - s.BitLength)
}

func fromTAC(t ident.TAC) (ngapType.TAC, error) {
	if t > 0xffffff {
		return ngapType.TAC{}, fmt.Errorf("%w: TAC %#x", ident.ErrInvalid, uint32(t))
	}
	return ngapType.TAC{Value: aper.OctetString{byte(t >> 16), byte(t >> 8), byte(t)}}, nil
}

func toTAC(t ngapType.TAC) ident.TAC {
	return ident.TAC(t.Value[0])<<16 | ident.TAC(t.Value[1])<<8 | ident.TAC(t.Value[2])
}

func fromLocation(l ident.Location) (ngapType.UserLocationInformation, error) {
	var out ngapType.UserLocationInformation
	if l.NRCGI.Cell >= 1<<36 {
		return out, fmt.Errorf("%w: NR cell identity %#x", ident.ErrInvalid, uint64(l.NRCGI.Cell))
	}
	nr := &ngapType.UserLocationInformationNR{}
	nr.NRCGI.NRCellIdentity.Value = bitString(uint64(l.NRCGI.Cell), 36)
	var err1, err2, err3 error
	nr.NRCGI.PLMNIdentity, err1 = fromPLMN(l.NRCGI.PLMN)
	nr.TAI.PLMNIdentity, err2 = fromPLMN(l.TAI.PLMN)
	nr.TAI.TAC, err3 = fromTAC(l.TAI.TAC)
	out.Present = ngapType.UserLocationInformationPresentUserLocationInformationNR
	out.UserLocationInformationNR = nr
	return out, errors.Join(err1, err2, err3)
}

func toLocation(u ngapType.UserLocationInformation) (l ident.Location, err error) {
	nr := u.UserLocationInformationNR
	if nr == nil {
		return l, errors.New("user location is not an NR one")
	}
	var err1, err2 error
	l.NRCGI.PLMN, err1 = toPLMN(nr.NRCGI.PLMNIdentity)
	l.NRCGI.Cell = ident.NRCellID(bitValue(nr.NRCGI.NRCellIdentity.Value))
	l.TAI.PLMN, err2 = toPLMN(nr.TAI.PLMNIdentity)
	l.TAI.TAC = toTAC(nr.TAI.TAC)
	return l, errors.Join(err1, err2)
}

func fromGUAMI(g ident.GUAMI) (ngapType.GUAMI, error) {
	if g.Set > 0x3ff || g.Pointer > 0x3f {
		return ngapType.GUAMI{}, fmt.Errorf("%w: AMF set %d or pointer %d", ident.ErrInvalid, g.Set, g.Pointer)
	}
	p, err := fromPLMN(g.PLMN)
	return ngapType.GUAMI{
		PLMNIdentity: p,
		AMFRegionID:  ngapType.AMFRegionID{Value: bitString(uint64(g.Region), 8)},
		AMFSetID:     ngapType.AMFSetID{Value: bitString(uint64(g.Set), 10)},
		AMFPointer:   ngapType.AMFPointer{Value: bitString(uint64(g.Pointer), 6)},
	}, err
}

func toGUAMI(g ngapType.GUAMI) (ident.GUAMI, error) {
	p, err := toPLMN(g.PLMNIdentity)
	return ident.GUAMI{
		PLMN:    p,
		Region:  uint8(bitValue(g.AMFRegionID.Value)),
		Set:     uint16(bitValue(g.AMFSetID.Value)),
		Pointer: uint8(bitValue(g.AMFPointer.Value)),
	}, err
}

func fromSTMSI(s ident.STMSI) (ngapType.FiveGSTMSI, error) {
	if s.Set > 0x3ff || s.Pointer > 0x3f {
		return ngapType.FiveGSTMSI{}, fmt.Errorf("%w: AMF set %d or pointer %d", ident.ErrInvalid, s.Set, s.Pointer)
	}
	return ngapType.FiveGSTMSI{
		AMFSetID:   ngapType.AMFSetID{Value: bitString(uint64(s.Set), 10)},
		AMFPointer: ngapType.AMFPointer{Value: bitString(uint64(s.Pointer), 6)},
		FiveGTMSI:  ngapType.FiveGTMSI{Value: binary.BigEndian.AppendUint32(nil, s.TMSI)},
	}, nil
}

func toSTMSI(s ngapType.FiveGSTMSI) ident.STMSI {
	return ident.STMSI{
		Set:     uint16(bitValue(s.AMFSetID.Value)),
		Pointer: uint8(bitValue(s.AMFPointer.Value)),
		TMSI:    binary.BigEndian.Uint32(s.FiveGTMSI.Value),
	}
}

func fromCause(c Cause) (out ngapType.Cause, err error) {
	v := aper.Enumerated(c.Value())
	out.Present = int(c.Group())
	switch c.Group() {
	case CauseRadioNetwork:
		out.RadioNetwork = &ngapType.CauseRadioNetwork{Value: v}
	case CauseTransport:
		out.Transport = &ngapType.CauseTransport{Value: v}
	case CauseNAS:
		out.Nas = &ngapType.CauseNas{Value: v}
	case CauseProtocol:
		out.Protocol = &ngapType.CauseProtocol{Value: v}
	case CauseMisc:
		out.Misc = &ngapType.CauseMisc{Value: v}
	default:
		err = fmt.Errorf("cause %#x has no group", uint16(c))
	}
	return out, err
}

// toCause reads values from beyond our eight bits, and groups of later releases,
// as unspecified ones.
func toCause(c ngapType.Cause) Cause {
	v := aper.Enumerated(0)
	switch {
	case c.RadioNetwork != nil:
		v = c.RadioNetwork.Value
	case c.Transport != nil:
		v = c.Transport.Value
	case c.Nas != nil:
		v = c.Nas.Value
	case c.Protocol != nil:
		v = c.Protocol.Value
	case c.Misc != nil:
		v = c.Misc.Value
	default:
		return MiscUnspecified
	}
	if v > 0xff {
		return MiscUnspecified
	}
	return NewCause(CauseGroup(c.Present), uint8(v))
}

// maxBitRate is the root range of the Bit Rate IE, in bit/s; the encoding of
// higher ones differs (TS 38.413 clause 9.3.1.4).
const maxBitRate = 4_000_000_000_000

func fromRate(rate uint64) ngapType.BitRate {
	return ngapType.BitRate{Value: int64(min(rate, maxBitRate))}
}

func toRate(r ngapType.BitRate) uint64 { return min(uint64(max(r.Value, 0)), maxBitRate) }

// fromAlgorithms moves algorithm 1, on the wire the highest bit, to where it
// belongs; algorithm 0 has no bit (TS 38.413 clause 9.3.1.86).
func fromAlgorithms(set uint8) aper.BitString {
	return bitString(uint64(bits.Reverse8(set)<<1)<<8, 16)
}

func toAlgorithms(s aper.BitString) uint8 {
	if s.BitLength < 8 {
		return 1
	}
	return bits.Reverse8(s.Bytes[0]>>1) | 1
}

// fromTunnel takes IPv4 and IPv6 addresses (TS 38.413 clause 9.3.2.4).
func fromTunnel(f ident.FTEID) (out ngapType.UPTransportLayerInformation, err error) {
	if !f.Addr.IsValid() {
		return out, fmt.Errorf("%w: tunnel endpoint without address", ident.ErrInvalid)
	}
	b := f.Addr.Unmap().AsSlice()
	out.Present = ngapType.UPTransportLayerInformationPresentGTPTunnel
	out.GTPTunnel = &ngapType.GTPTunnel{
		TransportLayerAddress: ngapType.TransportLayerAddress{
			Value: aper.BitString{Bytes: b, BitLength: uint64(8 * len(b))},
		},
		GTPTEID: ngapType.GTPTEID{Value: binary.BigEndian.AppendUint32(nil, uint32(f.TEID))},
	}
	return out, nil
}

// toTunnel takes the IPv4 address where there are both.
func toTunnel(u ngapType.UPTransportLayerInformation) (ident.FTEID, error) {
	if u.GTPTunnel == nil {
		return ident.FTEID{}, errors.New("not a GTP tunnel")
	}
	a := u.GTPTunnel.TransportLayerAddress.Value
	f := ident.FTEID{TEID: ident.TEID(binary.BigEndian.Uint32(u.GTPTunnel.GTPTEID.Value))}
	switch a.BitLength {
	case 32, 160:
		f.Addr = netip.AddrFrom4([4]byte(a.Bytes[:4]))
	case 128:
		f.Addr = netip.AddrFrom16([16]byte(a.Bytes)).Unmap()
	default:
		return f, fmt.Errorf("transport layer address of %d bits", a.BitLength)
	}
	return f, nil
}
