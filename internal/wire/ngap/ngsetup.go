package ngap

import (
	"fmt"
	"slices"

	"github.com/free5gc/aper"
	"github.com/free5gc/ngap/ngapType"

	"github.com/simreach/simreach/internal/ident"
)

// Paging DRX values in the order of the enumeration (TS 38.413 clause 9.3.1.90).
var pagingDRX = []uint16{32, 64, 128, 256}

const defaultDRX = 128

func (m *NGSetupRequest) encode(w *writer) {
	node, err := fromGNBID(m.GNB)
	if err != nil {
		w.fail(err)
		return
	}
	w.put(idGlobalRANNodeID, node, choiceRANNode)
	if m.Name != "" {
		w.put(idRANNodeName, ngapType.RANNodeName{Value: m.Name}, "")
	}
	var list ngapType.SupportedTAList
	for _, ta := range m.Supported {
		item := ngapType.SupportedTAItem{}
		if item.TAC, err = fromTAC(ta.TAC); err != nil {
			w.fail(err)
			return
		}
		for _, b := range ta.Broadcast {
			var bi ngapType.BroadcastPLMNItem
			if bi.PLMNIdentity, bi.TAISliceSupportList, err = fromBroadcast(b); err != nil {
				w.fail(err)
				return
			}
			item.BroadcastPLMNList.List = append(item.BroadcastPLMNList.List, bi)
		}
		list.List = append(list.List, item)
	}
	w.put(idSupportedTAList, list, "")
	w.pagingDRX(m.DefaultDRX)
}

func (w *writer) pagingDRX(drx uint16) {
	if drx == 0 {
		drx = defaultDRX
	}
	for i, d := range pagingDRX {
		if d == drx {
			w.put(idDefaultPagingDRX, ngapType.PagingDRX{Value: aper.Enumerated(i)}, "")
			return
		}
	}
	w.fail(fmt.Errorf("paging DRX %d", drx))
}

func (m *NGSetupRequest) decode(r *reader) {
	var err error
	var node ngapType.GlobalRANNodeID
	if r.get(idGlobalRANNodeID, &node, choiceRANNode) {
		m.GNB, err = toGNBID(node)
		r.check(idGlobalRANNodeID, err)
	}
	var name ngapType.RANNodeName
	if r.get(idRANNodeName, &name, "") {
		m.Name = name.Value
	}
	var list ngapType.SupportedTAList
	r.get(idSupportedTAList, &list, "")
	for _, item := range list.List {
		ta := SupportedTA{TAC: toTAC(item.TAC)}
		for _, bi := range item.BroadcastPLMNList.List {
			b, err := toBroadcast(bi.PLMNIdentity, bi.TAISliceSupportList)
			r.check(idSupportedTAList, err)
			ta.Broadcast = append(ta.Broadcast, b)
		}
		m.Supported = append(m.Supported, ta)
	}
	m.DefaultDRX = defaultDRX
	var drx ngapType.PagingDRX
	if r.get(idDefaultPagingDRX, &drx, "") && int(drx.Value) < len(pagingDRX) {
		m.DefaultDRX = pagingDRX[drx.Value]
	}
}

func fromBroadcast(b BroadcastPLMN) (p ngapType.PLMNIdentity, s ngapType.SliceSupportList, err error) {
	if p, err = fromPLMN(b.PLMN); err == nil {
		s, err = fromSlices(b.Slices)
	}
	return p, s, err
}

func toBroadcast(p ngapType.PLMNIdentity, s ngapType.SliceSupportList) (BroadcastPLMN, error) {
	plmn, err := toPLMN(p)
	return BroadcastPLMN{PLMN: plmn, Slices: toSlices(s)}, err
}

// Lengths of a gNB ID in bits (TS 38.413 clause 9.3.1.6).
const (
	minGNBBits = 22
	maxGNBBits = 32
)

func fromGNBID(g ident.GNBID) (out ngapType.GlobalRANNodeID, err error) {
	if g.Bits < minGNBBits || g.Bits > maxGNBBits || uint64(g.Value) >= 1<<g.Bits {
		return out, fmt.Errorf("%w: gNB ID %#x of %d bits", ident.ErrInvalid, g.Value, g.Bits)
	}
	id := &ngapType.GlobalGNBID{}
	if id.PLMNIdentity, err = fromPLMN(g.PLMN); err != nil {
		return out, err
	}
	bits := bitString(uint64(g.Value), uint(g.Bits))
	id.GNBID = ngapType.GNBID{Present: ngapType.GNBIDPresentGNBID, GNBID: &bits}
	return ngapType.GlobalRANNodeID{Present: ngapType.GlobalRANNodeIDPresentGlobalGNBID, GlobalGNBID: id}, nil
}

func toGNBID(n ngapType.GlobalRANNodeID) (g ident.GNBID, err error) {
	if n.GlobalGNBID == nil || n.GlobalGNBID.GNBID.GNBID == nil {
		return g, fmt.Errorf("RAN node is not a gNB")
	}
	bits := *n.GlobalGNBID.GNBID.GNBID
	if bits.BitLength > maxGNBBits {
		return g, fmt.Errorf("gNB ID of %d bits", bits.BitLength)
	}
	g.PLMN, err = toPLMN(n.GlobalGNBID.PLMNIdentity)
	g.Value, g.Bits = uint32(bitValue(bits)), uint8(bits.BitLength)
	return g, err
}

func (m *NGSetupResponse) encode(w *writer) {
	w.put(idAMFName, ngapType.AMFName{Value: m.AMFName}, "")
	var guamis ngapType.ServedGUAMIList
	for _, g := range m.GUAMIs {
		v, err := fromGUAMI(g)
		if err != nil {
			w.fail(err)
			return
		}
		guamis.List = append(guamis.List, ngapType.ServedGUAMIItem{GUAMI: v})
	}
	w.put(idServedGUAMIList, guamis, "")
	w.put(idRelativeAMFCapacity, ngapType.RelativeAMFCapacity{Value: int64(m.Capacity)}, "")
	var plmns ngapType.PLMNSupportList
	for _, b := range m.PLMNs {
		var item ngapType.PLMNSupportItem
		var err error
		if item.PLMNIdentity, item.SliceSupportList, err = fromBroadcast(b); err != nil {
			w.fail(err)
			return
		}
		plmns.List = append(plmns.List, item)
	}
	w.put(idPLMNSupportList, plmns, "")
}

func (m *NGSetupResponse) decode(r *reader) {
	var name ngapType.AMFName
	r.get(idAMFName, &name, "")
	m.AMFName = name.Value
	var guamis ngapType.ServedGUAMIList
	r.get(idServedGUAMIList, &guamis, "")
	for _, item := range guamis.List {
		g, err := toGUAMI(item.GUAMI)
		r.check(idServedGUAMIList, err)
		m.GUAMIs = append(m.GUAMIs, g)
	}
	var capacity ngapType.RelativeAMFCapacity
	r.get(idRelativeAMFCapacity, &capacity, "")
	m.Capacity = uint8(capacity.Value)
	var plmns ngapType.PLMNSupportList
	r.get(idPLMNSupportList, &plmns, "")
	for _, item := range plmns.List {
		b, err := toBroadcast(item.PLMNIdentity, item.SliceSupportList)
		r.check(idPLMNSupportList, err)
		m.PLMNs = append(m.PLMNs, b)
	}
}

// Times to wait in seconds in the order of the enumeration (TS 38.413 clause 9.3.1.56).
var timeToWait = []uint8{1, 2, 5, 10, 20, 60}

func (m *NGSetupFailure) encode(w *writer) {
	w.cause(m.Cause)
	if m.TimeToWait != 0 {
		i := slices.Index(timeToWait, m.TimeToWait)
		if i < 0 {
			w.fail(fmt.Errorf("time to wait %d s", m.TimeToWait))
			return
		}
		w.put(idTimeToWait, ngapType.TimeToWait{Value: aper.Enumerated(i)}, "")
	}
	w.diagnostics(m.Diagnostics)
}

func (m *NGSetupFailure) decode(r *reader) {
	m.Cause = r.causeOrUnspecified()
	var t ngapType.TimeToWait
	if r.get(idTimeToWait, &t, "") && int(t.Value) < len(timeToWait) {
		m.TimeToWait = timeToWait[t.Value]
	}
	m.Diagnostics = r.diagnostics()
}
