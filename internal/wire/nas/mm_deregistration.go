package nas

// Bits of the de-registration type (TS 24.501 clause 9.11.3.20).
const (
	access3GPP    = 1
	reregisterBit = 1 << 2
	switchOffBit  = 1 << 3
)

func (m *DeregistrationRequest) encode(w *writer) {
	b := byte(access3GPP)
	if m.FromNetwork {
		if m.Reregister {
			b |= reregisterBit
		}
		w.put("SpareHalfOctetAndDeregistrationType", b)
		if m.Cause != 0 {
			w.put("Cause5GMM", byte(m.Cause))
		}
		return
	}
	if m.SwitchOff {
		b |= switchOffBit
	}
	w.put("NgksiAndDeregistrationType", ngksiValue(m.NGKSI)<<4|b)
	v, err := identityValue(m.Identity)
	w.putValue("MobileIdentity5GS", v, err)
}

func (m *DeregistrationRequest) decode(r *reader) {
	if m.FromNetwork {
		m.Reregister = r.octet("SpareHalfOctetAndDeregistrationType")&reregisterBit != 0
		m.Cause = MMCause(r.octet("Cause5GMM"))
		return
	}
	b := r.octet("NgksiAndDeregistrationType")
	m.NGKSI, m.SwitchOff = parseNGKSI(b>>4), b&switchOffBit != 0
	m.Identity = mandatory(r, "MobileIdentity5GS", parseSomeIdentity)
}

func (m *DeregistrationAccept) encode(*writer) {}
func (m *DeregistrationAccept) decode(*reader) {}
