package ngap

import (
	"fmt"

	"github.com/free5gc/aper"
	"github.com/free5gc/ngap/ngapType"
)

func (m *InitialContextSetupRequest) encode(w *writer) {
	w.ids(m.IDs)
	w.ueAMBR(m.AMBR)
	guami, err := fromGUAMI(m.GUAMI)
	if err != nil {
		w.fail(err)
		return
	}
	w.put(idGUAMI, guami, sequence)
	if len(m.Sessions) > 0 {
		w.sessionSetups(idSetupListCxtReq, m.Sessions)
	}
	allowed, err := fromAllowed(m.AllowedNSSAI)
	if err != nil {
		w.fail(err)
		return
	}
	w.put(idAllowedNSSAI, allowed, "")
	none := aper.BitString{Bytes: make([]byte, 2), BitLength: 16}
	w.put(idUESecurityCapabilities, ngapType.UESecurityCapabilities{
		NRencryptionAlgorithms:             ngapType.NRencryptionAlgorithms{Value: fromAlgorithms(m.EA)},
		NRintegrityProtectionAlgorithms:    ngapType.NRintegrityProtectionAlgorithms{Value: fromAlgorithms(m.IA)},
		EUTRAencryptionAlgorithms:          ngapType.EUTRAencryptionAlgorithms{Value: none},
		EUTRAintegrityProtectionAlgorithms: ngapType.EUTRAintegrityProtectionAlgorithms{Value: none},
	}, sequence)
	w.put(idSecurityKey, ngapType.SecurityKey{
		Value: aper.BitString{Bytes: m.SecurityKey[:], BitLength: 256},
	}, "")
	w.nas(m.NAS)
}

func (m *InitialContextSetupRequest) decode(r *reader) {
	m.IDs = r.ids()
	m.AMBR = r.ueAMBR()
	var guami ngapType.GUAMI
	if r.get(idGUAMI, &guami, sequence) {
		var err error
		m.GUAMI, err = toGUAMI(guami)
		r.check(idGUAMI, err)
	}
	m.Sessions = r.sessionSetups(idSetupListCxtReq)
	var allowed ngapType.AllowedNSSAI
	r.get(idAllowedNSSAI, &allowed, "")
	m.AllowedNSSAI = toAllowed(allowed)
	var capability ngapType.UESecurityCapabilities
	if r.get(idUESecurityCapabilities, &capability, sequence) {
		m.EA = toAlgorithms(capability.NRencryptionAlgorithms.Value)
		m.IA = toAlgorithms(capability.NRintegrityProtectionAlgorithms.Value)
	}
	var key ngapType.SecurityKey
	if r.get(idSecurityKey, &key, "") {
		copy(m.SecurityKey[:], key.Value.Bytes)
	}
	m.NAS = r.nas()
}

func (m *InitialContextSetupResponse) encode(w *writer) {
	w.ids(m.IDs)
	w.someTransfers(idSetupListCxtRes, m.Sessions)
	w.someTransfers(idFailedToSetupListCxtRes, m.Failed)
}

func (m *InitialContextSetupResponse) decode(r *reader) {
	m.IDs = r.ids()
	m.Sessions = r.transfers(idSetupListCxtRes)
	m.Failed = r.transfers(idFailedToSetupListCxtRes)
}

func (m *InitialContextSetupFailure) encode(w *writer) {
	w.ids(m.IDs)
	w.someTransfers(idFailedToSetupListCxtFail, m.Failed)
	w.cause(m.Cause)
	w.diagnostics(m.Diagnostics)
}

func (m *InitialContextSetupFailure) decode(r *reader) {
	m.IDs = r.ids()
	m.Failed = r.transfers(idFailedToSetupListCxtFail)
	m.Cause = r.causeOrUnspecified()
	m.Diagnostics = r.diagnostics()
}

func (m *UEContextReleaseRequest) encode(w *writer) {
	w.ids(m.IDs)
	w.sessionIDs(idListCxtRelReq, m.Sessions)
	w.cause(m.Cause)
}

func (m *UEContextReleaseRequest) decode(r *reader) {
	m.IDs = r.ids()
	m.Sessions = r.sessionIDs(idListCxtRelReq)
	m.Cause = r.causeOrUnspecified()
}

func (m *UEContextReleaseCommand) encode(w *writer) {
	if err := checkAMFID(m.IDs.AMF); err != nil {
		w.fail(err)
		return
	}
	amf := ngapType.AMFUENGAPID{Value: m.IDs.AMF}
	v := ngapType.UENGAPIDs{Present: ngapType.UENGAPIDsPresentAMFUENGAPID, AMFUENGAPID: &amf}
	if m.HasRAN {
		v = ngapType.UENGAPIDs{
			Present: ngapType.UENGAPIDsPresentUENGAPIDPair,
			UENGAPIDPair: &ngapType.UENGAPIDPair{
				AMFUENGAPID: amf,
				RANUENGAPID: ngapType.RANUENGAPID{Value: int64(m.IDs.RAN)},
			},
		}
	}
	w.put(idUENGAPIDs, v, choiceUENGAPIDs)
	w.cause(m.Cause)
}

func (m *UEContextReleaseCommand) decode(r *reader) {
	var v ngapType.UENGAPIDs
	if r.get(idUENGAPIDs, &v, choiceUENGAPIDs) {
		switch {
		case v.UENGAPIDPair != nil:
			m.HasRAN = true
			m.IDs = UEIDs{AMF: v.UENGAPIDPair.AMFUENGAPID.Value, RAN: uint32(v.UENGAPIDPair.RANUENGAPID.Value)}
		case v.AMFUENGAPID != nil:
			m.IDs.AMF = v.AMFUENGAPID.Value
		default:
			r.check(idUENGAPIDs, fmt.Errorf("no identifier"))
		}
		if err := checkAMFID(m.IDs.AMF); err != nil {
			r.fail(ProtocolTransferSyntax, err)
		}
	}
	m.Cause = r.causeOrUnspecified()
}

func (m *UEContextReleaseComplete) encode(w *writer) {
	w.ids(m.IDs)
	w.sessionIDs(idListCxtRelCpl, m.Sessions)
}

func (m *UEContextReleaseComplete) decode(r *reader) {
	m.IDs = r.ids()
	m.Sessions = r.sessionIDs(idListCxtRelCpl)
}
