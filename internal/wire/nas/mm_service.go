package nas

func (m *ServiceRequest) encode(w *writer) {
	w.put("ServiceTypeAndNgksi", m.ServiceType<<4|ngksiValue(m.NGKSI))
	v, err := stmsiValue(m.STMSI)
	w.putValue("TMSI5GS", v, err)
	w.putSet("UplinkDataStatus", m.UplinkDataStatus)
	w.putSet("PDUSessionStatus", m.PDUSessionStatus)
	w.putContainer(m.NASContainer)
}

func (m *ServiceRequest) decode(r *reader) {
	b := r.octet("ServiceTypeAndNgksi")
	m.ServiceType, m.NGKSI = b>>4, parseNGKSI(b&0xf)
	m.STMSI = mandatory(r, "TMSI5GS", parseSTMSI)
	m.UplinkDataStatus = optionalPtr(r, "UplinkDataStatus", parseSessionSet)
	m.PDUSessionStatus = optionalPtr(r, "PDUSessionStatus", parseSessionSet)
	m.NASContainer = optional(r, "NASMessageContainer", octets)
}

func (m *ServiceAccept) encode(w *writer) {
	w.putSet("PDUSessionStatus", m.PDUSessionStatus)
	w.putSet("PDUSessionReactivationResult", m.ReactivationResult)
}

func (m *ServiceAccept) decode(r *reader) {
	m.PDUSessionStatus = optionalPtr(r, "PDUSessionStatus", parseSessionSet)
	m.ReactivationResult = optionalPtr(r, "PDUSessionReactivationResult", parseSessionSet)
}

func (m *ServiceReject) encode(w *writer) {
	w.put("Cause5GMM", byte(m.Cause))
	w.putSet("PDUSessionStatus", m.PDUSessionStatus)
	w.putTimer("T3346Value", timer2Units, m.T3346)
}

func (m *ServiceReject) decode(r *reader) {
	m.Cause = MMCause(r.octet("Cause5GMM"))
	m.PDUSessionStatus = optionalPtr(r, "PDUSessionStatus", parseSessionSet)
	m.T3346 = optional(r, "T3346Value", parseTimer(timer2Units))
}

// Bits of the configuration update indication (TS 24.501 clause 9.11.3.18).
const (
	ackBit        = 1 << 0
	registerAgain = 1 << 1
)

func (m *ConfigurationUpdateCommand) encode(w *writer) {
	var b byte
	if m.AckRequested {
		b |= ackBit
	}
	if m.RegistrationRequested {
		b |= registerAgain
	}
	if b != 0 {
		w.put("ConfigurationUpdateIndication", b)
	}
	w.putGUTI(m.GUTI)
	w.putNSSAI("AllowedNSSAI", m.AllowedNSSAI)
}

func (m *ConfigurationUpdateCommand) decode(r *reader) {
	b := r.octet("ConfigurationUpdateIndication")
	m.AckRequested, m.RegistrationRequested = b&ackBit != 0, b&registerAgain != 0
	m.GUTI = optionalPtr(r, "GUTI5G", parseGUTI)
	m.AllowedNSSAI = optional(r, "AllowedNSSAI", parseNSSAI)
}

func (m *ConfigurationUpdateComplete) encode(*writer) {}
func (m *ConfigurationUpdateComplete) decode(*reader) {}

func (m *MMStatus) encode(w *writer) { w.put("Cause5GMM", byte(m.Cause)) }
func (m *MMStatus) decode(r *reader) { m.Cause = MMCause(r.octet("Cause5GMM")) }
