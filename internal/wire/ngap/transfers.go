package ngap

import (
	"errors"
	"fmt"
	"slices"

	"github.com/free5gc/aper"
	"github.com/free5gc/ngap/ngapType"

	"github.com/simreach/simreach/internal/ident"
)

// EncodeTransfer returns v, a pointer to one of the Transfer types, as on the
// wire: the contents of a SessionSetup or SessionTransfer. Errors wrap ErrEncode.
func EncodeTransfer(v any) (b []byte, err error) {
	defer guard(&err, ErrEncode)
	switch t := v.(type) {
	case *SetupRequestTransfer:
		b, err = t.bytes()
	case *SetupResponseTransfer:
		b, err = t.bytes()
	case *UnsuccessfulTransfer:
		var c ngapType.Cause
		if c, err = fromCause(t.Cause); err == nil {
			b, err = aper.MarshalWithParams(ngapType.PDUSessionResourceSetupUnsuccessfulTransfer{Cause: c}, sequence)
		}
	case *ReleaseCommandTransfer:
		var c ngapType.Cause
		if c, err = fromCause(t.Cause); err == nil {
			b, err = aper.MarshalWithParams(ngapType.PDUSessionResourceReleaseCommandTransfer{Cause: c}, sequence)
		}
	case *ReleaseResponseTransfer:
		b, err = aper.MarshalWithParams(ngapType.PDUSessionResourceReleaseResponseTransfer{}, sequence)
	case *ModifyRequestTransfer:
		w := &writer{specs: modifyRequestTransferIEs}
		w.sessionAMBR(t.AMBR)
		b, err = w.container()
	case *ModifyResponseTransfer:
		b, err = aper.MarshalWithParams(ngapType.PDUSessionResourceModifyResponseTransfer{}, sequence)
	default:
		err = errors.New("not a transfer of this package")
	}
	if err != nil {
		return nil, fmt.Errorf("%w %T: %w", ErrEncode, v, err)
	}
	return b, nil
}

func (w *writer) container() ([]byte, error) {
	if w.err != nil {
		return nil, w.err
	}
	return containerBytes(w.ies)
}

func (w *writer) sessionAMBR(a *ident.AMBR) {
	if a != nil {
		w.put(idSessionAMBR, ngapType.PDUSessionAggregateMaximumBitRate{
			PDUSessionAggregateMaximumBitRateDL: fromRate(a.Downlink),
			PDUSessionAggregateMaximumBitRateUL: fromRate(a.Uplink),
		}, sequence)
	}
}

func (r *reader) sessionAMBR() *ident.AMBR {
	var v ngapType.PDUSessionAggregateMaximumBitRate
	if !r.get(idSessionAMBR, &v, sequence) {
		return nil
	}
	return &ident.AMBR{
		Uplink:   toRate(v.PDUSessionAggregateMaximumBitRateUL),
		Downlink: toRate(v.PDUSessionAggregateMaximumBitRateDL),
	}
}

const maxQFI = 63

func (t *SetupRequestTransfer) bytes() ([]byte, error) {
	w := &writer{specs: setupRequestTransferIEs}
	w.sessionAMBR(t.AMBR)
	tunnel, err := fromTunnel(t.Uplink)
	if err != nil {
		return nil, err
	}
	w.put(idULTunnel, tunnel, choiceTunnel)
	if t.Type < ident.IPv4 || t.Type > ident.IPv4v6 {
		return nil, fmt.Errorf("PDU session type %d", t.Type)
	}
	w.put(idPDUSessionType, ngapType.PDUSessionType{Value: aper.Enumerated(t.Type - 1)}, "")
	var flows ngapType.QosFlowSetupRequestList
	for _, f := range t.Flows {
		if f.QFI > maxQFI || f.ARPPriority < 1 || f.ARPPriority > 15 {
			return nil, fmt.Errorf("QFI %d or ARP priority %d", f.QFI, f.ARPPriority)
		}
		flows.List = append(flows.List, ngapType.QosFlowSetupRequestItem{
			QosFlowIdentifier: ngapType.QosFlowIdentifier{Value: int64(f.QFI)},
			QosFlowLevelQosParameters: ngapType.QosFlowLevelQosParameters{
				QosCharacteristics: ngapType.QosCharacteristics{
					Present: ngapType.QosCharacteristicsPresentNonDynamic5QI,
					NonDynamic5QI: &ngapType.NonDynamic5QIDescriptor{
						FiveQI: ngapType.FiveQI{Value: int64(f.FiveQI)},
					},
				},
				AllocationAndRetentionPriority: ngapType.AllocationAndRetentionPriority{
					PriorityLevelARP: ngapType.PriorityLevelARP{Value: int64(f.ARPPriority)},
					PreEmptionCapability: ngapType.PreEmptionCapability{
						Value: ngapType.PreEmptionCapabilityPresentShallNotTriggerPreEmption,
					},
					PreEmptionVulnerability: ngapType.PreEmptionVulnerability{
						Value: ngapType.PreEmptionVulnerabilityPresentNotPreEmptable,
					},
				},
			},
		})
	}
	w.put(idFlowSetupList, flows, "")
	return w.container()
}

// DecodeSetupRequestTransfer understands the transfer of a resource setup
// request. Flows with a dynamic 5QI have FiveQI 0. Errors wrap ErrTransfer.
func DecodeSetupRequestTransfer(b []byte) (*SetupRequestTransfer, error) {
	r, err := containerReader(b, setupRequestTransferIEs)
	if err != nil {
		return nil, err
	}
	t := &SetupRequestTransfer{AMBR: r.sessionAMBR()}
	var tunnel ngapType.UPTransportLayerInformation
	if r.get(idULTunnel, &tunnel, choiceTunnel) {
		t.Uplink, err = toTunnel(tunnel)
		r.check(idULTunnel, err)
	}
	var typ ngapType.PDUSessionType
	if r.get(idPDUSessionType, &typ, "") {
		if typ.Value > 2 {
			r.check(idPDUSessionType, fmt.Errorf("PDU session type %d not supported", typ.Value))
		}
		t.Type = ident.PDUSessionType(typ.Value) + 1
	}
	var flows ngapType.QosFlowSetupRequestList
	r.get(idFlowSetupList, &flows, "")
	for _, item := range flows.List {
		p := item.QosFlowLevelQosParameters
		f := QoSFlow{
			QFI:         ident.QFI(item.QosFlowIdentifier.Value),
			ARPPriority: uint8(p.AllocationAndRetentionPriority.PriorityLevelARP.Value),
		}
		if q := p.QosCharacteristics.NonDynamic5QI; q != nil {
			f.FiveQI = uint8(q.FiveQI.Value)
			if q.FiveQI.Value < 0 || q.FiveQI.Value > 0xff {
				r.check(idFlowSetupList, fmt.Errorf("5QI %d", q.FiveQI.Value))
			}
		}
		if v := item.QosFlowIdentifier.Value; v < 0 || v > maxQFI {
			r.check(idFlowSetupList, fmt.Errorf("QFI %d", v))
		}
		t.Flows = append(t.Flows, f)
	}
	if r.err != nil {
		return nil, transferError(r.err)
	}
	return t, nil
}

func transferError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrTransfer, err)
}

// containerReader reads a transfer that is a container of IEs.
func containerReader(b []byte, specs []ieSpec) (*reader, error) {
	ies, err := parseContainer(slices.Clone(b))
	if err != nil {
		return nil, transferError(err)
	}
	r := &reader{}
	if bad := r.comprehend(specs, ies); len(bad) > 0 {
		return nil, transferError(fmt.Errorf("%w: IEs missing or unknown: %v", errAbstract, bad))
	}
	if r.falsely != nil {
		return nil, transferError(r.falsely)
	}
	return r, nil
}

func (t *SetupResponseTransfer) bytes() ([]byte, error) {
	tunnel, err := fromTunnel(t.Downlink)
	if err != nil {
		return nil, err
	}
	v := ngapType.PDUSessionResourceSetupResponseTransfer{}
	v.DLQosFlowPerTNLInformation.UPTransportLayerInformation = tunnel
	for _, q := range t.Flows {
		if q > maxQFI {
			return nil, fmt.Errorf("QFI %d", q)
		}
		l := &v.DLQosFlowPerTNLInformation.AssociatedQosFlowList
		l.List = append(l.List, ngapType.AssociatedQosFlowItem{
			QosFlowIdentifier: ngapType.QosFlowIdentifier{Value: int64(q)},
		})
	}
	return aper.MarshalWithParams(v, sequence)
}

// DecodeSetupResponseTransfer understands the transfer of a resource setup
// response. Errors wrap ErrTransfer.
func DecodeSetupResponseTransfer(b []byte) (*SetupResponseTransfer, error) {
	var v ngapType.PDUSessionResourceSetupResponseTransfer
	if err := unmarshal(slices.Clone(b), &v, sequence); err != nil {
		return nil, transferError(err)
	}
	f, err := toTunnel(v.DLQosFlowPerTNLInformation.UPTransportLayerInformation)
	if err != nil {
		return nil, transferError(err)
	}
	t := &SetupResponseTransfer{Downlink: f}
	for _, item := range v.DLQosFlowPerTNLInformation.AssociatedQosFlowList.List {
		q := item.QosFlowIdentifier.Value
		if q < 0 || q > maxQFI {
			return nil, transferError(fmt.Errorf("QFI %d", q))
		}
		t.Flows = append(t.Flows, ident.QFI(q))
	}
	return t, nil
}

// DecodeUnsuccessfulTransfer understands the transfer of a session whose setup or
// modification failed. Errors wrap ErrTransfer.
func DecodeUnsuccessfulTransfer(b []byte) (*UnsuccessfulTransfer, error) {
	var v ngapType.PDUSessionResourceSetupUnsuccessfulTransfer
	if err := unmarshal(b, &v, sequence); err != nil {
		return nil, transferError(err)
	}
	return &UnsuccessfulTransfer{Cause: toCause(v.Cause)}, nil
}

// DecodeReleaseCommandTransfer understands the transfer of a release command.
// Errors wrap ErrTransfer.
func DecodeReleaseCommandTransfer(b []byte) (*ReleaseCommandTransfer, error) {
	var v ngapType.PDUSessionResourceReleaseCommandTransfer
	if err := unmarshal(b, &v, sequence); err != nil {
		return nil, transferError(err)
	}
	return &ReleaseCommandTransfer{Cause: toCause(v.Cause)}, nil
}

// DecodeReleaseResponseTransfer understands the transfer of a release response;
// no octets at all will do. Errors wrap ErrTransfer.
func DecodeReleaseResponseTransfer(b []byte) (*ReleaseResponseTransfer, error) {
	if len(b) == 0 {
		return &ReleaseResponseTransfer{}, nil
	}
	var v ngapType.PDUSessionResourceReleaseResponseTransfer
	if err := unmarshal(b, &v, sequence); err != nil {
		return nil, transferError(err)
	}
	return &ReleaseResponseTransfer{}, nil
}

// DecodeModifyRequestTransfer understands the transfer of a modify request.
// Errors wrap ErrTransfer.
func DecodeModifyRequestTransfer(b []byte) (*ModifyRequestTransfer, error) {
	r, err := containerReader(b, modifyRequestTransferIEs)
	if err != nil {
		return nil, err
	}
	t := &ModifyRequestTransfer{AMBR: r.sessionAMBR()}
	if r.err != nil {
		return nil, transferError(r.err)
	}
	return t, nil
}

// DecodeModifyResponseTransfer understands the transfer of a modify response.
// Errors wrap ErrTransfer.
func DecodeModifyResponseTransfer(b []byte) (*ModifyResponseTransfer, error) {
	var v ngapType.PDUSessionResourceModifyResponseTransfer
	if err := unmarshal(b, &v, sequence); err != nil {
		return nil, transferError(err)
	}
	return &ModifyResponseTransfer{}, nil
}
