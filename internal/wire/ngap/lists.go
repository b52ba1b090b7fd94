package ngap

import (
	"github.com/free5gc/aper"
	"github.com/free5gc/ngap/ngapType"

	"github.com/simreach/simreach/internal/ident"
)

// NGAP has a dozen lists whose items are a PDU session ID and perhaps an octet
// string with a transfer. In the ASN.1, and so in the library, each is a type of
// its own, though all are encoded alike; we use one of the types for all of them
// where the items agree.

// sessionSetups writes the list id of items that have NAS, S-NSSAI and transfer.
func (w *writer) sessionSetups(id int64, sessions []SessionSetup) {
	var list ngapType.PDUSessionResourceSetupListSUReq
	for _, s := range sessions {
		snssai, err := fromSNSSAI(s.SNSSAI)
		if err != nil {
			w.fail(err)
			return
		}
		item := ngapType.PDUSessionResourceSetupItemSUReq{
			PDUSessionID:                           ngapType.PDUSessionID{Value: int64(s.ID)},
			SNSSAI:                                 snssai,
			PDUSessionResourceSetupRequestTransfer: s.Transfer,
		}
		if s.NAS != nil {
			item.PDUSessionNASPDU = &ngapType.NASPDU{Value: s.NAS}
		}
		list.List = append(list.List, item)
	}
	w.put(id, list, "")
}

func (r *reader) sessionSetups(id int64) (out []SessionSetup) {
	var list ngapType.PDUSessionResourceSetupListSUReq
	r.get(id, &list, "")
	for _, item := range list.List {
		s := SessionSetup{
			ID:       ident.PDUSessionID(item.PDUSessionID.Value),
			SNSSAI:   toSNSSAI(item.SNSSAI),
			Transfer: item.PDUSessionResourceSetupRequestTransfer,
		}
		if item.PDUSessionNASPDU != nil {
			s.NAS = item.PDUSessionNASPDU.Value
		}
		out = append(out, s)
	}
	return out
}

// transfers writes the list id of items that have a transfer.
func (w *writer) transfers(id int64, sessions []SessionTransfer) {
	var list ngapType.PDUSessionResourceSetupListSURes
	for _, s := range sessions {
		list.List = append(list.List, ngapType.PDUSessionResourceSetupItemSURes{
			PDUSessionID:                            ngapType.PDUSessionID{Value: int64(s.ID)},
			PDUSessionResourceSetupResponseTransfer: aper.OctetString(s.Transfer),
		})
	}
	w.put(id, list, "")
}

// someTransfers leaves the list out if there are none.
func (w *writer) someTransfers(id int64, sessions []SessionTransfer) {
	if len(sessions) > 0 {
		w.transfers(id, sessions)
	}
}

func (r *reader) transfers(id int64) (out []SessionTransfer) {
	var list ngapType.PDUSessionResourceSetupListSURes
	r.get(id, &list, "")
	for _, item := range list.List {
		out = append(out, SessionTransfer{
			ID:       ident.PDUSessionID(item.PDUSessionID.Value),
			Transfer: item.PDUSessionResourceSetupResponseTransfer,
		})
	}
	return out
}

// sessionIDs writes the list id of bare PDU session IDs, unless there are none.
func (w *writer) sessionIDs(id int64, sessions []ident.PDUSessionID) {
	if len(sessions) == 0 {
		return
	}
	var list ngapType.PDUSessionResourceListCxtRelReq
	for _, s := range sessions {
		list.List = append(list.List, ngapType.PDUSessionResourceItemCxtRelReq{
			PDUSessionID: ngapType.PDUSessionID{Value: int64(s)},
		})
	}
	w.put(id, list, "")
}

func (r *reader) sessionIDs(id int64) (out []ident.PDUSessionID) {
	var list ngapType.PDUSessionResourceListCxtRelReq
	r.get(id, &list, "")
	for _, item := range list.List {
		out = append(out, ident.PDUSessionID(item.PDUSessionID.Value))
	}
	return out
}
