package pfcp

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/wmnsk/go-pfcp/ie"

	"github.com/simreach/simreach/internal/ident"
)

// Values of single IEs.
const (
	removeGTPv4  = 0 // outer header removal, clause 8.2.64
	removeGTPv6  = 1
	removeGTPAny = 6

	createGTPv4 = 0x0100 // outer header creation, clause 8.2.56
	createGTPv6 = 0x0200

	featureFTUP = 0x10 // UP function features, clause 8.2.25
	flagSNDEM   = 0x02 // PFCPSMReq-Flags, clause 8.2.68
	maxKbps     = 1<<40 - 1

	methodDuration = 0x01 // measurement method, clause 8.2.40
	methodVolume   = 0x02

	reportDownlinkData    = 0x01 // report type, clause 8.2.21
	reportUsage           = 0x02
	reportErrorIndication = 0x04
)

// encoder collects IEs and remembers the first value without a wire form.
type encoder struct {
	ies []*ie.IE
	err error
}

func (e *encoder) add(ies ...*ie.IE) { e.ies = append(e.ies, ies...) }

func (e *encoder) fail(format string, args ...any) *ie.IE {
	if e.err == nil {
		e.err = fmt.Errorf("%w: %s", ErrUnencodable, fmt.Sprintf(format, args...))
	}
	return nil
}

func (e *encoder) message(m Message) {
	switch m := m.(type) {
	case *HeartbeatRequest:
		e.add(timeIE(ie.RecoveryTimeStamp, m.Recovery))
	case *HeartbeatResponse:
		e.add(timeIE(ie.RecoveryTimeStamp, m.Recovery))
	case *AssociationSetupRequest:
		e.add(e.node(m.Node), timeIE(ie.RecoveryTimeStamp, m.Recovery))
		e.features(m.FTUP)
	case *AssociationSetupResponse:
		e.add(e.node(m.Node), causeIE(m.Cause), timeIE(ie.RecoveryTimeStamp, m.Recovery))
		e.features(m.FTUP)
	case *AssociationReleaseRequest:
		e.add(e.node(m.Node))
	case *AssociationReleaseResponse:
		e.add(e.node(m.Node), causeIE(m.Cause))
	case *VersionNotSupported, *SessionDeletionRequest:
	case *SessionEstablishmentRequest:
		e.add(e.node(m.Node), e.fseid(m.FSEID))
		e.rules(m.Rules, createTypes, true)
		if t := pdnType(m.Rules); t != 0 {
			e.add(ie.NewPDNType(t))
		}
	case *SessionEstablishmentResponse:
		e.add(e.node(m.Node), causeIE(m.Cause))
		e.offending(m.OffendingIE)
		if m.FSEID != nil {
			e.add(e.fseid(*m.FSEID))
		}
		e.created(m.Created)
	case *SessionModificationRequest:
		e.modification(m)
	case *SessionModificationResponse:
		e.add(causeIE(m.Cause))
		e.offending(m.OffendingIE)
		e.created(m.Created)
		e.usage(ie.UsageReportWithinSessionModificationResponse, m.Usage)
	case *SessionDeletionResponse:
		e.add(causeIE(m.Cause))
		e.offending(m.OffendingIE)
		e.usage(ie.UsageReportWithinSessionDeletionResponse, m.Usage)
	case *SessionReportRequest:
		e.report(m)
	case *SessionReportResponse:
		e.add(causeIE(m.Cause))
		e.offending(m.OffendingIE)
	default:
		e.fail("message %T", m)
	}
}

func (e *encoder) modification(m *SessionModificationRequest) {
	if m.FSEID != nil {
		e.add(e.fseid(*m.FSEID))
	}
	for _, id := range m.Remove.PDRs {
		e.add(ie.NewRemovePDR(ie.NewPDRID(id)))
	}
	for _, id := range m.Remove.FARs {
		e.add(ie.NewRemoveFAR(ie.NewFARID(id)))
	}
	for _, id := range m.Remove.URRs {
		e.add(ie.NewRemoveURR(ie.NewURRID(id)))
	}
	for _, id := range m.Remove.QERs {
		e.add(ie.NewRemoveQER(ie.NewQERID(id)))
	}
	e.rules(m.Create, createTypes, true)
	e.rules(m.Update, updateTypes, false)
	for _, id := range m.QueryURRs {
		e.add(ie.NewQueryURR(ie.NewURRID(id)))
	}
}

func (e *encoder) report(m *SessionReportRequest) {
	var kind uint8
	if m.DownlinkData != 0 {
		kind |= reportDownlinkData
	}
	if len(m.Usage) > 0 {
		kind |= reportUsage
	}
	if m.ErrorIndication != nil {
		kind |= reportErrorIndication
	}
	e.add(ie.NewUint8IE(ie.ReportType, kind))
	if m.DownlinkData != 0 {
		e.add(ie.NewDownlinkDataReport(ie.NewPDRID(m.DownlinkData)))
	}
	e.usage(ie.UsageReportWithinSessionReportRequest, m.Usage)
	if m.ErrorIndication != nil {
		e.add(ie.NewErrorIndicationReport(e.fteid(*m.ErrorIndication)))
	}
}

func (e *encoder) rules(r Rules, t ruleTypes, create bool) {
	for _, p := range r.PDRs {
		e.add(ie.NewGroupedIE(t.pdr, e.pdr(p, create)...))
	}
	for _, f := range r.FARs {
		e.add(ie.NewGroupedIE(t.far, e.far(f, t.forwarding, create)...))
	}
	for _, u := range r.URRs {
		e.add(ie.NewGroupedIE(t.urr, e.urr(u, create)...))
	}
	for _, q := range r.QERs {
		e.add(ie.NewGroupedIE(t.qer, e.qer(q, create)...))
	}
}

func (e *encoder) pdr(p PDR, create bool) []*ie.IE {
	out := []*ie.IE{ie.NewPDRID(p.ID)}
	if p.RemoveOuterHeader {
		out = append(out, ie.NewOuterHeaderRemoval(removal(p.PDI), 0))
	}
	if create || p.Precedence != 0 {
		out = append(out, ie.NewPrecedence(p.Precedence))
	}
	if create || p.PDI != (PDI{}) {
		out = append(out, ie.NewGroupedIE(ie.PDI, e.pdi(p.PDI)...))
	}
	if create || p.FAR != 0 {
		out = append(out, ie.NewFARID(p.FAR))
	}
	for _, id := range p.URRs {
		out = append(out, ie.NewURRID(id))
	}
	if !create && p.URRs != nil && len(p.URRs) == 0 {
		out = append(out, ie.New(ie.URRID, nil)) // null length: removed
	}
	for _, id := range p.QERs {
		out = append(out, ie.NewQERID(id))
	}
	if !create && p.QERs != nil && len(p.QERs) == 0 {
		out = append(out, ie.New(ie.QERID, nil))
	}
	return out
}

// removal picks the outer header removal description for a PDI: by the family of
// its local endpoint, or "any IP" when there is none.
func removal(p PDI) uint8 {
	switch {
	case p.FTEID != nil && p.FTEID.Addr.Is4(), p.FTEID == nil && p.ChooseTEID:
		return removeGTPv4
	case p.FTEID != nil:
		return removeGTPv6
	}
	return removeGTPAny
}

func (e *encoder) pdi(p PDI) []*ie.IE {
	out := []*ie.IE{ie.NewSourceInterface(uint8(p.Source))}
	switch {
	case p.ChooseTEID:
		flags := byte(0x04 | 0x01)
		if p.FTEID != nil && p.FTEID.Addr.Is6() {
			flags = 0x04 | 0x02
		}
		out = append(out, ie.New(ie.FTEID, []byte{flags}))
	case p.FTEID != nil:
		out = append(out, e.fteid(*p.FTEID))
	}
	if p.NetworkInstance != "" {
		out = append(out, ie.NewNetworkInstance(p.NetworkInstance))
	}
	if p.UEAddress != nil {
		out = append(out, e.ueAddress(*p.UEAddress, p.UEIsSource))
	}
	if p.QFI != nil {
		out = append(out, e.qfi(*p.QFI))
	}
	return out
}

func (e *encoder) far(f FAR, params uint16, create bool) []*ie.IE {
	out := []*ie.IE{ie.NewFARID(f.ID)}
	if create && f.Action == 0 {
		e.fail("FAR %d without apply action", f.ID)
	}
	if f.Action != 0 {
		out = append(out, ie.NewApplyAction(uint8(f.Action), 0))
	}
	if f.Forward == nil {
		return out
	}
	var in []*ie.IE
	if d := f.Forward.Destination; d != nil {
		in = append(in, ie.NewDestinationInterface(uint8(*d)))
	} else if create {
		e.fail("FAR %d without destination interface", f.ID)
	}
	if f.Forward.NetworkInstance != "" {
		in = append(in, ie.NewNetworkInstance(f.Forward.NetworkInstance))
	}
	if o := f.Forward.Outer; o != nil {
		in = append(in, e.creation(*o))
	}
	if f.Forward.SendEndMarker && !create {
		in = append(in, ie.NewPFCPSMReqFlags(flagSNDEM))
	}
	return append(out, ie.NewGroupedIE(params, in...))
}

func (e *encoder) qer(q QER, create bool) []*ie.IE {
	out := []*ie.IE{ie.NewQERID(q.ID)}
	gates := q.Gates
	if create && gates == nil {
		gates = &GateStatus{}
	}
	if gates != nil {
		out = append(out, ie.NewUint8IE(ie.GateStatus, bit(gates.UplinkClosed)<<2|bit(gates.DownlinkClosed)))
	}
	switch {
	case q.MBR == nil, create && *q.MBR == (ident.AMBR{}):
	case *q.MBR == (ident.AMBR{}):
		out = append(out, ie.New(ie.MBR, nil)) // null length: removed
	default:
		out = append(out, ie.NewMBR(kbps(q.MBR.Uplink), kbps(q.MBR.Downlink)))
	}
	if q.QFI != 0 {
		out = append(out, e.qfi(q.QFI))
	}
	return out
}

// kbps rounds up, so that a limit is never below what was asked for. The largest
// value stands for "no limit".
func kbps(bps uint64) uint64 {
	if bps == 0 {
		return maxKbps
	}
	k := bps / 1000
	if bps%1000 != 0 {
		k++
	}
	return min(k, maxKbps)
}

func (e *encoder) urr(u URR, create bool) []*ie.IE {
	out := []*ie.IE{ie.NewURRID(u.ID)}
	if method := bit(u.Duration)*methodDuration | bit(u.Volume)*methodVolume; create || method != 0 {
		out = append(out, ie.NewUint8IE(ie.MeasurementMethod, method))
	}
	periodic, volume := bit(u.Period > 0), bit(u.VolumeThreshold > 0)
	if create || periodic|volume != 0 {
		out = append(out, ie.NewReportingTriggers(periodic|volume<<1, 0, 0))
	}
	if u.Period > 0 {
		s := (u.Period + time.Second - 1) / time.Second
		out = append(out, ie.NewUint32IE(ie.MeasurementPeriod, uint32(min(s, math.MaxUint32))))
	}
	if u.VolumeThreshold > 0 {
		out = append(out, ie.NewVolumeThreshold(0x01, u.VolumeThreshold, 0, 0))
	}
	return out
}

func (e *encoder) created(list []CreatedPDR) {
	for _, c := range list {
		in := []*ie.IE{ie.NewPDRID(c.ID)}
		if c.FTEID != (ident.FTEID{}) {
			in = append(in, e.fteid(c.FTEID))
		}
		e.add(ie.NewCreatedPDR(in...))
	}
}

var triggerOctets = map[UsageTrigger][3]byte{
	TriggerPeriod: {0x01}, TriggerVolume: {0x02}, TriggerTermination: {0, 0x08}, TriggerImmediate: {0x80},
}

func (e *encoder) usage(typ uint16, list []UsageReport) {
	for _, u := range list {
		t := triggerOctets[u.Trigger]
		in := []*ie.IE{ie.NewURRID(u.URR), ie.NewURSEQN(u.Sequence), ie.New(ie.UsageReportTrigger, t[:])}
		if !u.Start.IsZero() {
			in = append(in, timeIE(ie.StartTime, u.Start))
		}
		if !u.End.IsZero() {
			in = append(in, timeIE(ie.EndTime, u.End))
		}
		in = append(in, ie.NewVolumeMeasurement(0x3f, u.UplinkBytes+u.DownlinkBytes, u.UplinkBytes, u.DownlinkBytes,
			u.UplinkPackets+u.DownlinkPackets, u.UplinkPackets, u.DownlinkPackets))
		e.add(ie.NewGroupedIE(typ, in...))
	}
}

func (e *encoder) features(ftup bool) {
	if ftup {
		e.add(ie.NewUPFunctionFeatures(featureFTUP, 0))
	}
}

func (e *encoder) offending(typ uint16) {
	if typ != 0 {
		e.add(ie.NewOffendingIE(typ))
	}
}

func (e *encoder) node(n NodeID) *ie.IE {
	switch {
	case n.Addr.Is4():
		return ie.New(ie.NodeID, append([]byte{0}, n.Addr.AsSlice()...))
	case n.Addr.IsValid():
		return ie.New(ie.NodeID, append([]byte{1}, n.Addr.AsSlice()...))
	}
	p := []byte{2}
	for l := range strings.SplitSeq(n.FQDN, ".") {
		if l == "" || len(l) > 63 {
			return e.fail("node ID %q", n.FQDN)
		}
		p = append(append(p, byte(len(l))), l...)
	}
	return ie.New(ie.NodeID, p)
}

func (e *encoder) fseid(f FSEID) *ie.IE {
	switch {
	case f.Addr.Is4():
		return ie.NewFSEID(uint64(f.SEID), f.Addr.AsSlice(), nil)
	case f.Addr.IsValid():
		return ie.NewFSEID(uint64(f.SEID), nil, f.Addr.AsSlice())
	}
	return e.fail("F-SEID without address")
}

func (e *encoder) fteid(f ident.FTEID) *ie.IE {
	switch {
	case f.Addr.Is4():
		return ie.NewFTEID(0x01, uint32(f.TEID), f.Addr.AsSlice(), nil, 0)
	case f.Addr.IsValid():
		return ie.NewFTEID(0x02, uint32(f.TEID), nil, f.Addr.AsSlice(), 0)
	}
	return e.fail("F-TEID without address")
}

func (e *encoder) creation(f ident.FTEID) *ie.IE {
	if !f.Addr.IsValid() {
		return e.fail("outer header without address")
	}
	desc := byte(createGTPv6 >> 8)
	if f.Addr.Is4() {
		desc = createGTPv4 >> 8
	}
	p := []byte{desc, 0, byte(f.TEID >> 24), byte(f.TEID >> 16), byte(f.TEID >> 8), byte(f.TEID)}
	return ie.New(ie.OuterHeaderCreation, append(p, f.Addr.AsSlice()...))
}

func (e *encoder) ueAddress(a ident.UEAddress, source bool) *ie.IE {
	p := []byte{0}
	if !source {
		p[0] |= 0x04
	}
	if a.V4.IsValid() {
		if !a.V4.Is4() {
			return e.fail("UE address %s", a.V4)
		}
		p[0] |= 0x02
		p = append(p, a.V4.AsSlice()...)
	}
	if a.V6.IsValid() {
		if !a.V6.Addr().Is6() || a.V6.Addr().Is4In6() || a.V6.Bits() < 1 {
			return e.fail("UE prefix %s", a.V6)
		}
		p[0] |= 0x01
		p = append(p, a.V6.Masked().Addr().AsSlice()...)
		if a.V6.Bits() != 64 {
			p[0] |= 0x40
			p = append(p, byte(a.V6.Bits()))
		}
	}
	if p[0]&0x03 == 0 {
		return e.fail("empty UE address")
	}
	return ie.New(ie.UEIPAddress, p)
}

func (e *encoder) qfi(q ident.QFI) *ie.IE {
	if q > 63 {
		return e.fail("QFI %d", q)
	}
	return ie.NewQFI(uint8(q))
}

// pdnType derives the PDN Type IE from the UE addresses of the rules (TS 29.244
// table 7.5.2.1-1: present for a PDU session).
func pdnType(r Rules) uint8 {
	var t uint8
	for _, p := range r.PDRs {
		if a := p.PDI.UEAddress; a != nil {
			t |= bit(a.V4.IsValid())*ie.PDNTypeIPv4 | bit(a.V6.IsValid())*ie.PDNTypeIPv6
		}
	}
	return t
}

func causeIE(c Cause) *ie.IE { return ie.NewCause(uint8(c)) }

func timeIE(typ uint16, t time.Time) *ie.IE {
	return ie.NewUint32IE(typ, uint32(t.Unix()-ntpEpoch))
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}
