package nas

import (
	"errors"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

const forBit = 1 << 3 // follow-on request pending

func (m *RegistrationRequest) encode(w *writer) {
	b := ngksiValue(m.NGKSI)<<4 | m.RegistrationType&7
	if m.FollowOnRequest {
		b |= forBit
	}
	w.put("NgksiAndRegistrationType5GS", b)
	v, err := identityValue(m.Identity)
	w.putValue("MobileIdentity5GS", v, err)
	if m.Capability != nil {
		w.put("UESecurityCapability", capabilityValue(*m.Capability)...)
	}
	w.putNSSAI("RequestedNSSAI", m.RequestedNSSAI)
	if m.LastVisitedTAI != nil {
		v, err := taiValue(*m.LastVisitedTAI)
		w.putValue("LastVisitedRegisteredTAI", v, err)
	}
	w.putSet("UplinkDataStatus", m.UplinkDataStatus)
	w.putSet("PDUSessionStatus", m.PDUSessionStatus)
	w.putContainer(m.NASContainer)
}

func (m *RegistrationRequest) decode(r *reader) {
	b := r.octet("NgksiAndRegistrationType5GS")
	m.NGKSI, m.RegistrationType, m.FollowOnRequest = parseNGKSI(b>>4), b&7, b&forBit != 0
	m.Identity = mandatory(r, "MobileIdentity5GS", parseSomeIdentity)
	m.Capability = optionalPtr(r, "UESecurityCapability", parseCapability)
	m.RequestedNSSAI = optional(r, "RequestedNSSAI", parseNSSAI)
	m.LastVisitedTAI = optionalPtr(r, "LastVisitedRegisteredTAI", parseTAI)
	m.UplinkDataStatus = optionalPtr(r, "UplinkDataStatus", parseSessionSet)
	m.PDUSessionStatus = optionalPtr(r, "PDUSessionStatus", parseSessionSet)
	m.NASContainer = optional(r, "NASMessageContainer", octets)
}

var errNoIdentity = errors.New("no identity")

// parseSomeIdentity refuses "no identity", which only answers an identity request.
func parseSomeIdentity(v []byte) (MobileIdentity, error) {
	m, err := parseIdentity(v)
	if err == nil && m == (MobileIdentity{}) {
		err = errNoIdentity
	}
	return m, err
}

// result3GPP is the 5GS registration result "3GPP access" (TS 24.501 clause 9.11.3.6).
const result3GPP = 1

func (m *RegistrationAccept) encode(w *writer) {
	w.put("RegistrationResult5GS", result3GPP)
	w.putGUTI(m.GUTI)
	if len(m.TAIList) > 0 {
		v, err := taiListValue(m.TAIList)
		w.putValue("TAIList", v, err)
	}
	w.putNSSAI("AllowedNSSAI", m.AllowedNSSAI)
	if len(m.RejectedNSSAI) > 0 {
		v, err := rejectedValue(m.RejectedNSSAI)
		w.putValue("RejectedNSSAI", v, err)
	}
	w.putSet("PDUSessionStatus", m.PDUSessionStatus)
	w.putTimer("T3512Value", timer3Units, m.T3512)
	w.putTimer("T3502Value", timer2Units, m.T3502)
}

func (m *RegistrationAccept) decode(r *reader) {
	m.GUTI = optionalPtr(r, "GUTI5G", parseGUTI)
	m.TAIList = optional(r, "TAIList", parseTAIList)
	m.AllowedNSSAI = optional(r, "AllowedNSSAI", parseNSSAI)
	m.RejectedNSSAI = optional(r, "RejectedNSSAI", parseRejected)
	m.PDUSessionStatus = optionalPtr(r, "PDUSessionStatus", parseSessionSet)
	m.T3512 = optional(r, "T3512Value", parsePeriodic)
	m.T3502 = optional(r, "T3502Value", parseTimer(timer2Units))
}

// parsePeriodic reads T3512: "if the timer is deactivated or the timer value is
// zero" there is no periodic registration (TS 24.501 clause 5.3.7).
func parsePeriodic(v []byte) (time.Duration, error) {
	d, err := parseTimer(timer3Units)(v)
	if d == 0 && err == nil {
		d = TimerDeactivated
	}
	return d, err
}

func (m *RegistrationComplete) encode(*writer) {}
func (m *RegistrationComplete) decode(*reader) {}

func (m *RegistrationReject) encode(w *writer) {
	w.put("Cause5GMM", byte(m.Cause))
	w.putTimer("T3346Value", timer2Units, m.T3346)
	w.putTimer("T3502Value", timer2Units, m.T3502)
}

func (m *RegistrationReject) decode(r *reader) {
	m.Cause = MMCause(r.octet("Cause5GMM"))
	m.T3346 = optional(r, "T3346Value", parseTimer(timer2Units))
	m.T3502 = optional(r, "T3502Value", parseTimer(timer2Units))
}

func (w *writer) putNSSAI(name string, list []ident.SNSSAI) {
	if len(list) > 0 {
		v, err := nssaiValue(list)
		w.putValue(name, v, err)
	}
}

func (w *writer) putGUTI(g *ident.GUTI) {
	if g != nil {
		v, err := gutiValue(*g)
		w.putValue("GUTI5G", v, err)
	}
}

func (w *writer) putContainer(message []byte) {
	if len(message) > 0 {
		w.put("NASMessageContainer", message...)
	}
}
