package nas

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Containers of the protocol configuration options (TS 24.008 table 10.5.154):
// a request has no contents, an answer has the value.
const (
	pcoDNSv6 = 0x0003
	pcoDNSv4 = 0x000d
	pcoMTU   = 0x0010 // IPv4 link MTU

	pcoForIP = 0x80 // extension bit, configuration protocol PPP for use with IP
)

// pcoValue is the value of the extended protocol configuration options IE
// (TS 24.008 clause 10.5.6.3A).
func pcoValue(p *PCO) ([]byte, error) {
	v := []byte{pcoForIP}
	add := func(id uint16, content ...byte) {
		v = append(binary.BigEndian.AppendUint16(v, id), byte(len(content)))
		v = append(v, content...)
	}
	if p.RequestDNSv6 {
		add(pcoDNSv6)
	}
	if p.RequestDNSv4 {
		add(pcoDNSv4)
	}
	if p.RequestMTU {
		add(pcoMTU)
	}
	for _, a := range p.DNS {
		switch {
		case a.Is4():
			add(pcoDNSv4, a.AsSlice()...)
		case a.Is6():
			add(pcoDNSv6, a.AsSlice()...)
		default:
			return nil, fmt.Errorf("DNS server %s", a)
		}
	}
	if p.MTU != 0 {
		add(pcoMTU, byte(p.MTU>>8), byte(p.MTU))
	}
	return v, nil
}

// parsePCO steps over containers that are unknown or have an odd length.
func parsePCO(v []byte) (PCO, error) {
	var p PCO
	if len(v) < 1 {
		return p, errLength
	}
	for v = v[1:]; len(v) > 0; {
		if len(v) < 3 || len(v) < 3+int(v[2]) {
			return p, errLength
		}
		id, content := binary.BigEndian.Uint16(v), v[3:3+int(v[2])]
		v = v[3+len(content):]
		switch n := len(content); {
		case id == pcoDNSv4 && n == 0:
			p.RequestDNSv4 = true
		case id == pcoDNSv6 && n == 0:
			p.RequestDNSv6 = true
		case id == pcoMTU && n == 0:
			p.RequestMTU = true
		case id == pcoDNSv4 && n == 4:
			p.DNS = append(p.DNS, netip.AddrFrom4([4]byte(content)))
		case id == pcoDNSv6 && n == 16:
			p.DNS = append(p.DNS, netip.AddrFrom16([16]byte(content)))
		case id == pcoMTU && n == 2:
			p.MTU = binary.BigEndian.Uint16(content)
		}
	}
	return p, nil
}
