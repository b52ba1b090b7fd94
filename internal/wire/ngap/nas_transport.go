package ngap

import (
	"github.com/free5gc/aper"
	"github.com/free5gc/ngap/ngapType"
)

func (m *InitialUEMessage) encode(w *writer) {
	w.ranID(m.RAN)
	w.mustNAS(m.NAS)
	w.location(m.Location)
	w.put(idRRCEstablishmentCause, ngapType.RRCEstablishmentCause{Value: aper.Enumerated(m.EstablishmentCause)}, "")
	if m.STMSI != nil {
		v, err := fromSTMSI(*m.STMSI)
		if err != nil {
			w.fail(err)
		}
		w.put(idFiveGSTMSI, v, sequence)
	}
	if m.ContextRequested {
		w.put(idUEContextRequest, ngapType.UEContextRequest{Value: ngapType.UEContextRequestPresentRequested}, "")
	}
}

func (m *InitialUEMessage) decode(r *reader) {
	m.RAN, _ = r.ranID()
	m.NAS = r.mustNAS()
	m.Location = r.location()
	var cause ngapType.RRCEstablishmentCause
	r.get(idRRCEstablishmentCause, &cause, "")
	m.EstablishmentCause = uint8(min(cause.Value, 0xff))
	var s ngapType.FiveGSTMSI
	if r.get(idFiveGSTMSI, &s, sequence) {
		stmsi := toSTMSI(s)
		m.STMSI = &stmsi
	}
	var request ngapType.UEContextRequest
	m.ContextRequested = r.get(idUEContextRequest, &request, "")
}

func (m *DownlinkNASTransport) encode(w *writer) {
	w.ids(m.IDs)
	w.mustNAS(m.NAS)
}

func (m *DownlinkNASTransport) decode(r *reader) {
	m.IDs = r.ids()
	m.NAS = r.mustNAS()
}

func (m *UplinkNASTransport) encode(w *writer) {
	w.ids(m.IDs)
	w.mustNAS(m.NAS)
	w.location(m.Location)
}

func (m *UplinkNASTransport) decode(r *reader) {
	m.IDs = r.ids()
	m.NAS = r.mustNAS()
	m.Location = r.location()
}

func (m *NASNonDeliveryIndication) encode(w *writer) {
	w.ids(m.IDs)
	w.mustNAS(m.NAS)
	w.cause(m.Cause)
}

func (m *NASNonDeliveryIndication) decode(r *reader) {
	m.IDs = r.ids()
	m.NAS = r.mustNAS()
	m.Cause = r.causeOrUnspecified()
}
