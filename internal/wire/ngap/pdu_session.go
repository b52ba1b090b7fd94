package ngap

import (
	"github.com/free5gc/ngap/ngapType"

	"github.com/simreach/simreach/internal/ident"
)

func (m *PDUSessionResourceSetupRequest) encode(w *writer) {
	w.ids(m.IDs)
	w.sessionSetups(idSetupListSUReq, m.Sessions)
	w.ueAMBR(m.AMBR)
}

func (m *PDUSessionResourceSetupRequest) decode(r *reader) {
	m.IDs = r.ids()
	m.Sessions = r.sessionSetups(idSetupListSUReq)
	m.AMBR = r.ueAMBR()
}

func (m *PDUSessionResourceSetupResponse) encode(w *writer) {
	w.ids(m.IDs)
	w.someTransfers(idSetupListSURes, m.Sessions)
	w.someTransfers(idFailedToSetupListSURes, m.Failed)
}

func (m *PDUSessionResourceSetupResponse) decode(r *reader) {
	m.IDs = r.ids()
	m.Sessions = r.transfers(idSetupListSURes)
	m.Failed = r.transfers(idFailedToSetupListSURes)
}

func (m *PDUSessionResourceReleaseCommand) encode(w *writer) {
	w.ids(m.IDs)
	w.nas(m.NAS)
	w.transfers(idToReleaseListRelCmd, m.Sessions)
}

func (m *PDUSessionResourceReleaseCommand) decode(r *reader) {
	m.IDs = r.ids()
	m.NAS = r.nas()
	m.Sessions = r.transfers(idToReleaseListRelCmd)
}

func (m *PDUSessionResourceReleaseResponse) encode(w *writer) {
	w.ids(m.IDs)
	w.transfers(idReleasedListRelRes, m.Sessions)
}

func (m *PDUSessionResourceReleaseResponse) decode(r *reader) {
	m.IDs = r.ids()
	m.Sessions = r.transfers(idReleasedListRelRes)
}

func (m *PDUSessionResourceModifyRequest) encode(w *writer) {
	w.ids(m.IDs)
	var list ngapType.PDUSessionResourceModifyListModReq
	for _, s := range m.Sessions {
		item := ngapType.PDUSessionResourceModifyItemModReq{
			PDUSessionID:                            ngapType.PDUSessionID{Value: int64(s.ID)},
			PDUSessionResourceModifyRequestTransfer: s.Transfer,
		}
		if s.NAS != nil {
			item.NASPDU = &ngapType.NASPDU{Value: s.NAS}
		}
		list.List = append(list.List, item)
	}
	w.put(idModifyListModReq, list, "")
}

func (m *PDUSessionResourceModifyRequest) decode(r *reader) {
	m.IDs = r.ids()
	var list ngapType.PDUSessionResourceModifyListModReq
	r.get(idModifyListModReq, &list, "")
	for _, item := range list.List {
		s := SessionSetup{
			ID:       ident.PDUSessionID(item.PDUSessionID.Value),
			Transfer: item.PDUSessionResourceModifyRequestTransfer,
		}
		if item.NASPDU != nil {
			s.NAS = item.NASPDU.Value
		}
		m.Sessions = append(m.Sessions, s)
	}
}

func (m *PDUSessionResourceModifyResponse) encode(w *writer) {
	w.ids(m.IDs)
	w.someTransfers(idModifyListModRes, m.Sessions)
	w.someTransfers(idFailedToModifyListModRes, m.Failed)
}

func (m *PDUSessionResourceModifyResponse) decode(r *reader) {
	m.IDs = r.ids()
	m.Sessions = r.transfers(idModifyListModRes)
	m.Failed = r.transfers(idFailedToModifyListModRes)
}
