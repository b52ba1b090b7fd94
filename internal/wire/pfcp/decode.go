package pfcp

import (
	"time"

	"github.com/wmnsk/go-pfcp/ie"

	"github.com/simreach/simreach/internal/ident"
)

// message reads the body of a message of type t.
func (d *decoder) message(t MessageType, ies []*ie.IE) Message {
	node := func() NodeID { return mandatory(d, ies, ie.NodeID, nodeIDLeaf) }
	recovery := func() time.Time { return mandatory(d, ies, ie.RecoveryTimeStamp, timeLeaf) }
	cause := func() Cause { return mandatory(d, ies, ie.Cause, causeLeaf) }
	offending := func() uint16 { return either(d, ies, ie.OffendingIE, u16) }
	switch t {
	case TypeHeartbeatRequest:
		return &HeartbeatRequest{Recovery: recovery()}
	case TypeHeartbeatResponse:
		return &HeartbeatResponse{Recovery: recovery()}
	case TypeAssociationSetupRequest:
		return &AssociationSetupRequest{Node: node(), Recovery: recovery(), FTUP: either(d, ies, ie.UPFunctionFeatures, ftupLeaf)}
	case TypeAssociationSetupResponse:
		return &AssociationSetupResponse{Node: node(), Cause: cause(), Recovery: recovery(), FTUP: either(d, ies, ie.UPFunctionFeatures, ftupLeaf)}
	case TypeAssociationReleaseRequest:
		return &AssociationReleaseRequest{Node: node()}
	case TypeAssociationReleaseResponse:
		return &AssociationReleaseResponse{Node: node(), Cause: cause()}
	case TypeVersionNotSupported:
		return &VersionNotSupported{}
	case TypeSessionEstablishmentRequest:
		return &SessionEstablishmentRequest{
			Node:  node(),
			FSEID: mandatory(d, ies, ie.FSEID, fseidLeaf),
			Rules: d.mandatoryRules(ies),
		}
	case TypeSessionEstablishmentResponse:
		m := &SessionEstablishmentResponse{
			Node: node(), Cause: cause(), OffendingIE: offending(),
			FSEID:   optional(d, ies, ie.FSEID, fseidLeaf),
			Created: groups(d, ies, ie.CreatedPDR, createdPDR),
		}
		if m.Cause == CauseAccepted && m.FSEID == nil {
			d.fail(CauseConditionalIEMissing, ie.FSEID, ErrMissing)
		}
		return m
	case TypeSessionModificationRequest:
		return &SessionModificationRequest{
			FSEID:     optional(d, ies, ie.FSEID, fseidLeaf),
			Create:    d.rules(ies, createTypes, true),
			Update:    d.rules(ies, updateTypes, false),
			Remove:    d.removals(ies),
			QueryURRs: groups(d, ies, ie.QueryURR, idIn(ie.URRID, u32)),
		}
	case TypeSessionModificationResponse:
		return &SessionModificationResponse{
			Cause: cause(), OffendingIE: offending(),
			Created: groups(d, ies, ie.CreatedPDR, createdPDR),
			Usage:   groups(d, ies, ie.UsageReportWithinSessionModificationResponse, usageReport),
		}
	case TypeSessionDeletionRequest:
		return &SessionDeletionRequest{}
	case TypeSessionDeletionResponse:
		return &SessionDeletionResponse{
			Cause: cause(), OffendingIE: offending(),
			Usage: groups(d, ies, ie.UsageReportWithinSessionDeletionResponse, usageReport),
		}
	case TypeSessionReportRequest:
		return d.sessionReport(ies)
	case TypeSessionReportResponse:
		return &SessionReportResponse{Cause: cause(), OffendingIE: offending()}
	}
	d.fail(CauseRejected, 0, ErrUnknownType)
	return nil
}

func ftupLeaf(c *cursor) bool { return u8(c)&featureFTUP != 0 }

// ruleTypes are the IE types of one rule list.
type ruleTypes struct{ pdr, far, qer, urr, forwarding uint16 }

var (
	createTypes = ruleTypes{ie.CreatePDR, ie.CreateFAR, ie.CreateQER, ie.CreateURR, ie.ForwardingParameters}
	updateTypes = ruleTypes{ie.UpdatePDR, ie.UpdateFAR, ie.UpdateQER, ie.UpdateURR, ie.UpdateForwardingParameters}
)

// mandatoryRules reads the rules of an establishment, which has at least one PDR
// and one FAR (TS 29.244 table 7.5.2.1-1).
func (d *decoder) mandatoryRules(ies []*ie.IE) Rules {
	for _, t := range []uint16{ie.CreatePDR, ie.CreateFAR} {
		if find(ies, t) == nil {
			d.fail(CauseMandatoryIEMissing, t, ErrMissing)
		}
	}
	return d.rules(ies, createTypes, true)
}

func (d *decoder) rules(ies []*ie.IE, t ruleTypes, create bool) Rules {
	return Rules{
		PDRs: groups(d, ies, t.pdr, func(d *decoder, in []*ie.IE) PDR { return d.pdr(in, create) }),
		FARs: groups(d, ies, t.far, func(d *decoder, in []*ie.IE) FAR { return d.far(in, t.forwarding, create) }),
		QERs: groups(d, ies, t.qer, func(d *decoder, in []*ie.IE) QER { return d.qer(in, create) }),
		URRs: groups(d, ies, t.urr, func(d *decoder, in []*ie.IE) URR { return d.urr(in, create) }),
	}
}

// idIn reads a grouped IE that only names a rule.
func idIn[T any](typ uint16, f leaf[T]) func(*decoder, []*ie.IE) T {
	return func(d *decoder, ies []*ie.IE) T { return mandatory(d, ies, typ, f) }
}

func (d *decoder) removals(ies []*ie.IE) RuleIDs {
	return RuleIDs{
		PDRs: groups(d, ies, ie.RemovePDR, idIn(ie.PDRID, u16)),
		FARs: groups(d, ies, ie.RemoveFAR, idIn(ie.FARID, u32)),
		QERs: groups(d, ies, ie.RemoveQER, idIn(ie.QERID, u32)),
		URRs: groups(d, ies, ie.RemoveURR, idIn(ie.URRID, u32)),
	}
}

// pdr is tables 7.5.2.2-1 and 7.5.4.2-1.
func (d *decoder) pdr(ies []*ie.IE, create bool) PDR {
	p := PDR{
		ID:                mandatory(d, ies, ie.PDRID, u16),
		RemoveOuterHeader: either(d, ies, ie.OuterHeaderRemoval, removalLeaf),
		FAR:               either(d, ies, ie.FARID, u32),
		QERs:              d.ids(ies, ie.QERID, create),
		URRs:              d.ids(ies, ie.URRID, create),
		Precedence:        either(d, ies, ie.Precedence, u32),
	}
	pdi := group(d, ies, ie.PDI, pdiGroup)
	if pdi != nil {
		p.PDI = *pdi
	}
	if !create {
		return p
	}
	for _, t := range []uint16{ie.Precedence, ie.PDI} {
		if find(ies, t) == nil {
			d.fail(CauseMandatoryIEMissing, t, ErrMissing)
		}
	}
	if find(ies, ie.FARID) == nil { // no predefined rules here, so a FAR must do it
		d.fail(CauseConditionalIEMissing, ie.FARID, ErrMissing)
	}
	return p
}

// ids reads the rules that a PDR refers to. An update detaches all of them by a
// single IE of null length (clause 5.6.3).
func (d *decoder) ids(ies []*ie.IE, typ uint16, create bool) []uint32 {
	if i := find(ies, typ); !create && i != nil && len(i.Payload) == 0 {
		return []uint32{}
	}
	return all(d, ies, typ, u32)
}

// pdiGroup is table 7.5.2.2-2.
func pdiGroup(d *decoder, ies []*ie.IE) PDI {
	p := PDI{
		Source:          mandatory(d, ies, ie.SourceInterface, interfaceLeaf),
		NetworkInstance: either(d, ies, ie.NetworkInstance, networkInstanceLeaf),
		QFI:             optional(d, ies, ie.QFI, qfiLeaf),
	}
	f := either(d, ies, ie.FTEID, fteidLeaf)
	p.FTEID, p.ChooseTEID = f.fteid, f.choose
	if u := optional(d, ies, ie.UEIPAddress, ueAddressLeaf); u != nil {
		p.UEAddress, p.UEIsSource = &u.addr, u.source
	}
	return p
}

// far is tables 7.5.2.3-1 and 7.5.4.3-1.
func (d *decoder) far(ies []*ie.IE, params uint16, create bool) FAR {
	f := FAR{
		ID:     mandatory(d, ies, ie.FARID, u32),
		Action: either(d, ies, ie.ApplyAction, actionLeaf),
	}
	if create && find(ies, ie.ApplyAction) == nil {
		d.fail(CauseMandatoryIEMissing, ie.ApplyAction, ErrMissing)
	}
	f.Forward = group(d, ies, params, func(d *decoder, in []*ie.IE) Forwarding {
		fw := Forwarding{
			Destination:     optional(d, in, ie.DestinationInterface, interfaceLeaf),
			NetworkInstance: either(d, in, ie.NetworkInstance, networkInstanceLeaf),
			Outer:           optional(d, in, ie.OuterHeaderCreation, creationLeaf),
		}
		if create && fw.Destination == nil {
			d.fail(CauseMandatoryIEMissing, ie.DestinationInterface, ErrMissing)
		}
		if !create {
			fw.SendEndMarker = either(d, in, ie.PFCPSMReqFlags, u8)&flagSNDEM != 0
		}
		return fw
	})
	if create && f.Action&ActionForward != 0 && f.Forward == nil {
		d.fail(CauseConditionalIEMissing, params, ErrMissing)
	}
	return f
}

// qer is tables 7.5.2.5-1 and 7.5.4.5-1.
func (d *decoder) qer(ies []*ie.IE, create bool) QER {
	q := QER{
		ID:    mandatory(d, ies, ie.QERID, u32),
		QFI:   either(d, ies, ie.QFI, qfiLeaf),
		Gates: optional(d, ies, ie.GateStatus, gateLeaf),
	}
	if i := find(ies, ie.MBR); !create && i != nil && len(i.Payload) == 0 {
		q.MBR = &ident.AMBR{} // removed (clause 5.6.3)
	} else if q.MBR = optional(d, ies, ie.MBR, mbrLeaf); create && q.MBR != nil && *q.MBR == (ident.AMBR{}) {
		q.MBR = nil
	}
	if create && q.Gates == nil {
		d.fail(CauseMandatoryIEMissing, ie.GateStatus, ErrMissing)
	}
	return q
}

// urr is tables 7.5.2.4-1 and 7.5.4.4-1.
func (d *decoder) urr(ies []*ie.IE, create bool) URR {
	method := either(d, ies, ie.MeasurementMethod, u8)
	either(d, ies, ie.ReportingTriggers, func(c *cursor) []byte { return c.bytes(2) })
	u := URR{
		ID:              mandatory(d, ies, ie.URRID, u32),
		Duration:        method&methodDuration != 0,
		Volume:          method&methodVolume != 0,
		Period:          time.Duration(either(d, ies, ie.MeasurementPeriod, u32)) * time.Second,
		VolumeThreshold: either(d, ies, ie.VolumeThreshold, thresholdLeaf),
	}
	if create {
		for _, t := range []uint16{ie.MeasurementMethod, ie.ReportingTriggers} {
			if find(ies, t) == nil {
				d.fail(CauseMandatoryIEMissing, t, ErrMissing)
			}
		}
	}
	return u
}

// createdPDR is table 7.5.3.2-1.
func createdPDR(d *decoder, ies []*ie.IE) CreatedPDR {
	return CreatedPDR{
		ID:    mandatory(d, ies, ie.PDRID, u16),
		FTEID: either(d, ies, ie.FTEID, chosenFTEID),
	}
}

// usageReport is tables 7.5.5.2-1, 7.5.7.2-1 and 7.5.8.3-1.
func usageReport(d *decoder, ies []*ie.IE) UsageReport {
	v := either(d, ies, ie.VolumeMeasurement, volumeLeaf)
	return UsageReport{
		URR:      mandatory(d, ies, ie.URRID, u32),
		Sequence: mandatory(d, ies, ie.URSEQN, u32),
		Trigger:  mandatory(d, ies, ie.UsageReportTrigger, triggerLeaf),
		Start:    either(d, ies, ie.StartTime, timeLeaf), End: either(d, ies, ie.EndTime, timeLeaf),
		UplinkBytes: v.upBytes, DownlinkBytes: v.downBytes,
		UplinkPackets: v.upPackets, DownlinkPackets: v.downPackets,
	}
}

// sessionReport is table 7.5.8.1-1: the report type says which parts must follow.
func (d *decoder) sessionReport(ies []*ie.IE) *SessionReportRequest {
	kind := mandatory(d, ies, ie.ReportType, u8)
	need := func(bit uint8, typ uint16) {
		if kind&bit != 0 && find(ies, typ) == nil {
			d.fail(CauseConditionalIEMissing, typ, ErrMissing)
		}
	}
	need(reportDownlinkData, ie.DownlinkDataReport)
	need(reportUsage, ie.UsageReportWithinSessionReportRequest)
	need(reportErrorIndication, ie.ErrorIndicationReport)
	m := &SessionReportRequest{
		Usage: groups(d, ies, ie.UsageReportWithinSessionReportRequest, usageReport),
		ErrorIndication: group(d, ies, ie.ErrorIndicationReport, func(d *decoder, in []*ie.IE) ident.FTEID {
			return mandatory(d, in, ie.FTEID, chosenFTEID)
		}),
	}
	if p := group(d, ies, ie.DownlinkDataReport, idIn(ie.PDRID, u16)); p != nil {
		m.DownlinkData = *p
	}
	return m
}
