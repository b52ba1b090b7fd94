package nas

import "github.com/simreach/simreach/internal/ident"

func (m *ULNASTransport) encode(w *writer) {
	w.put("SpareHalfOctetAndPayloadContainerType", m.PayloadType&0xf)
	w.put("PayloadContainer", m.Payload...)
	if m.PDUSessionID != 0 {
		w.put("PduSessionID2Value", byte(m.PDUSessionID))
	}
	if m.RequestType != 0 {
		w.put("RequestType", m.RequestType&7)
	}
	w.putSNSSAI(m.SNSSAI)
	w.putDNN(m.DNN)
}

func (m *ULNASTransport) decode(r *reader) {
	m.PayloadType = r.octet("SpareHalfOctetAndPayloadContainerType") & 0xf
	m.Payload = mandatory(r, "PayloadContainer", octets)
	m.PDUSessionID = ident.PDUSessionID(r.octet("PduSessionID2Value"))
	m.RequestType = r.octet("RequestType") & 7
	m.SNSSAI = optionalPtr(r, "SNSSAI", parseSNSSAI)
	m.DNN = optional(r, "DNN", parseDNN)
}

func (m *DLNASTransport) encode(w *writer) {
	w.put("SpareHalfOctetAndPayloadContainerType", m.PayloadType&0xf)
	w.put("PayloadContainer", m.Payload...)
	if m.PDUSessionID != 0 {
		w.put("PduSessionID2Value", byte(m.PDUSessionID))
	}
	if m.Cause != 0 {
		w.put("Cause5GMM", byte(m.Cause))
	}
	w.putTimer("BackoffTimerValue", timer3Units, m.BackOff)
}

func (m *DLNASTransport) decode(r *reader) {
	m.PayloadType = r.octet("SpareHalfOctetAndPayloadContainerType") & 0xf
	m.Payload = mandatory(r, "PayloadContainer", octets)
	m.PDUSessionID = ident.PDUSessionID(r.octet("PduSessionID2Value"))
	m.Cause = MMCause(r.octet("Cause5GMM"))
	m.BackOff = optional(r, "BackoffTimerValue", parseTimer(timer3Units))
}

func (w *writer) putSNSSAI(s *ident.SNSSAI) {
	if s != nil {
		v, err := snssaiValue(*s)
		w.putValue("SNSSAI", v, err)
	}
}

func (w *writer) putDNN(d ident.DNN) {
	if d != "" {
		v, err := dnnValue(d)
		w.putValue("DNN", v, err)
	}
}
