package nas

import (
	"errors"

	"github.com/simreach/simreach/internal/ident"
)

// fullRate is the integrity protection maximum data rate "full data rate", both
// ways (TS 24.501 clause 9.11.4.7).
const fullRate = 0xff

func (m *PDUSessionEstablishmentRequest) encode(w *writer) {
	w.put("IntegrityProtectionMaximumDataRate", fullRate, fullRate)
	if m.SessionType != 0 {
		w.put("PDUSessionType", byte(m.SessionType)&7)
	}
	if m.SSCMode != 0 {
		w.put("SSCMode", m.SSCMode&7)
	}
	w.putPCO(m.PCO)
}

func (m *PDUSessionEstablishmentRequest) decode(r *reader) {
	m.SessionType = ident.PDUSessionType(r.octet("PDUSessionType") & 7)
	m.SSCMode = r.octet("SSCMode") & 7
	m.PCO = optionalPtr(r, "ExtendedProtocolConfigurationOptions", parsePCO)
}

func (m *PDUSessionEstablishmentAccept) encode(w *writer) {
	w.put("SelectedSSCModeAndSelectedPDUSessionType", m.SSCMode&7<<4|byte(m.SessionType)&7)
	rules, err := rulesValue(m.Rules)
	w.putValue("AuthorizedQosRules", rules, err)
	w.put("SessionAMBR", ambrValue(m.AMBR)...)
	if m.Cause != 0 {
		w.put("Cause5GSM", byte(m.Cause))
	}
	if m.Address.V4.IsValid() || m.Address.V6.IsValid() {
		v, err := addressValue(m.Address)
		w.putValue("PDUAddress", v, err)
	}
	w.putSNSSAI(m.SNSSAI)
	if len(m.Flows) > 0 {
		v, err := flowsValue(m.Flows)
		w.putValue("AuthorizedQosFlowDescriptions", v, err)
	}
	w.putPCO(m.PCO)
	w.putDNN(m.DNN)
}

var errAddressType = errors.New("PDU address of another type than the PDU session")

func (m *PDUSessionEstablishmentAccept) decode(r *reader) {
	b := r.octet("SelectedSSCModeAndSelectedPDUSessionType")
	m.SSCMode, m.SessionType = b>>4&7, ident.PDUSessionType(b&7)
	m.Rules = mandatory(r, "AuthorizedQosRules", parseRules)
	m.AMBR = mandatory(r, "SessionAMBR", parseAMBR)
	m.Cause = SMCause(r.octet("Cause5GSM"))
	m.Address = optional(r, "PDUAddress", parseAddress)
	m.SNSSAI = optionalPtr(r, "SNSSAI", parseSNSSAI)
	m.Flows = optional(r, "AuthorizedQosFlowDescriptions", parseFlows)
	m.PCO = optionalPtr(r, "ExtendedProtocolConfigurationOptions", parsePCO)
	m.DNN = optional(r, "DNN", parseDNN)
	v4, v6 := m.Address.V4.IsValid(), m.Address.V6.IsValid()
	if v4 && m.SessionType&ident.IPv4 == 0 || v6 && m.SessionType&ident.IPv6 == 0 {
		r.fail(MMSemanticallyIncorrect, errAddressType)
	}
}

func (m *PDUSessionEstablishmentReject) encode(w *writer) {
	w.put("Cause5GSM", byte(m.Cause))
	w.putTimer("BackoffTimerValue", timer3Units, m.BackOff)
}

func (m *PDUSessionEstablishmentReject) decode(r *reader) {
	m.Cause = SMCause(r.octet("Cause5GSM"))
	m.BackOff = optional(r, "BackoffTimerValue", parseTimer(timer3Units))
}

func (w *writer) putPCO(p *PCO) {
	if p != nil {
		v, err := pcoValue(p)
		w.putValue("ExtendedProtocolConfigurationOptions", v, err)
	}
}
