package nas

import "github.com/simreach/simreach/internal/ident"

const (
	imeisvRequested = 1      // TS 24.501 clause 9.11.3.28, TS 24.008 clause 10.5.5.10
	retransmitBit   = 1 << 1 // RINMR, TS 24.501 clause 9.11.3.12
)

func (m *SecurityModeCommand) encode(w *writer) {
	w.put("SelectedNASSecurityAlgorithms", m.Ciphering<<4|m.Integrity&0xf)
	w.put("SpareHalfOctetAndNgksi", ngksiValue(m.NGKSI))
	w.put("ReplayedUESecurityCapabilities", capabilityValue(m.Replayed)...)
	if m.IMEISVRequested {
		w.put("IMEISVRequest", imeisvRequested)
	}
	if m.Retransmit {
		w.put("Additional5GSecurityInformation", retransmitBit)
	}
}

func (m *SecurityModeCommand) decode(r *reader) {
	b := r.octet("SelectedNASSecurityAlgorithms")
	m.Ciphering, m.Integrity = b>>4, b&0xf
	m.NGKSI = parseNGKSI(r.octet("SpareHalfOctetAndNgksi") & 0xf)
	m.Replayed = mandatory(r, "ReplayedUESecurityCapabilities", parseCapability)
	m.IMEISVRequested = r.octet("IMEISVRequest")&7 == imeisvRequested
	m.Retransmit = r.octet("Additional5GSecurityInformation")&retransmitBit != 0
}

func (m *SecurityModeComplete) encode(w *writer) {
	if m.PEI != "" {
		v, err := peiValue(m.PEI)
		w.putValue("IMEISV", v, err)
	}
	w.putContainer(m.NASContainer)
}

func (m *SecurityModeComplete) decode(r *reader) {
	m.PEI = optional(r, "IMEISV", parseIMEISV)
	m.NASContainer = optional(r, "NASMessageContainer", octets)
}

func parseIMEISV(v []byte) (ident.PEI, error) {
	if v[0]&7 != identityIMEISV {
		return "", errIdentity
	}
	return parsePEI(v)
}

func (m *SecurityModeReject) encode(w *writer) { w.put("Cause5GMM", byte(m.Cause)) }
func (m *SecurityModeReject) decode(r *reader) { m.Cause = MMCause(r.octet("Cause5GMM")) }
