package ngap

import (
	"fmt"

	"github.com/free5gc/aper"
	"github.com/free5gc/ngap/ngapType"
)

func (m *ErrorIndication) encode(w *writer) {
	if m.IDs.AMF != nil {
		w.amfID(*m.IDs.AMF)
	}
	if m.IDs.RAN != nil {
		w.ranID(*m.IDs.RAN)
	}
	if m.Cause == nil && m.Diagnostics == nil {
		w.fail(fmt.Errorf("neither cause nor diagnostics")) // TS 38.413 clause 8.7.5.2
	}
	if m.Cause != nil {
		w.cause(*m.Cause)
	}
	w.diagnostics(m.Diagnostics)
}

// diagnostics writes the Criticality Diagnostics IE unless d is nil.
func (w *writer) diagnostics(d *Diagnostics) {
	if d != nil {
		w.put(idCriticalityDiagnostics, fromDiagnostics(d), sequence)
	}
}

// diagnostics returns the Criticality Diagnostics IE, nil if there is none.
func (r *reader) diagnostics() *Diagnostics {
	var v ngapType.CriticalityDiagnostics
	if !r.get(idCriticalityDiagnostics, &v, sequence) {
		return nil
	}
	d, err := toDiagnostics(v)
	if err != nil {
		r.fail(ProtocolTransferSyntax, err)
	}
	return d
}

func (m *ErrorIndication) decode(r *reader) {
	if id, ok := r.amfID(); ok {
		m.IDs.AMF = &id
	}
	if id, ok := r.ranID(); ok {
		m.IDs.RAN = &id
	}
	m.Cause = r.cause()
	m.Diagnostics = r.diagnostics()
}

// fromDiagnostics writes procedure and message only if there is a procedure:
// code 0 is one that the testbed does not use (TS 38.413 clause 9.3.1.3).
func fromDiagnostics(d *Diagnostics) ngapType.CriticalityDiagnostics {
	var v ngapType.CriticalityDiagnostics
	if d.Procedure != 0 || d.Triggering != 0 {
		v.ProcedureCode = &ngapType.ProcedureCode{Value: int64(d.Procedure)}
		v.TriggeringMessage = &ngapType.TriggeringMessage{Value: aper.Enumerated(d.Triggering)}
		if spec, ok := pduSpecs[pduKey{d.Procedure, d.Triggering}]; ok {
			// Wanted by clauses 10.3.4.2 and 10.3.5, allowed elsewhere.
			v.ProcedureCriticality = &ngapType.Criticality{Value: aper.Enumerated(spec.crit)}
		}
	}
	if len(d.IEs) > 0 {
		v.IEsCriticalityDiagnostics = &ngapType.CriticalityDiagnosticsIEList{}
	}
	for _, ie := range d.IEs {
		typ := ngapType.TypeOfErrorPresentNotUnderstood
		if ie.Missing {
			typ = ngapType.TypeOfErrorPresentMissing
		}
		l := v.IEsCriticalityDiagnostics
		l.List = append(l.List, ngapType.CriticalityDiagnosticsIEItem{
			IECriticality: ngapType.Criticality{Value: aper.Enumerated(ie.Criticality)},
			IEID:          ngapType.ProtocolIEID{Value: ie.ID},
			TypeOfError:   ngapType.TypeOfError{Value: typ},
		})
	}
	return v
}

// toDiagnostics refuses the fourth value of two enumerations that have three: the
// library does not.
func toDiagnostics(v ngapType.CriticalityDiagnostics) (*Diagnostics, error) {
	d := &Diagnostics{}
	if v.ProcedureCode != nil {
		d.Procedure = ProcedureCode(v.ProcedureCode.Value)
	}
	if v.TriggeringMessage != nil {
		d.Triggering = uint8(v.TriggeringMessage.Value)
	}
	if d.Triggering > unsuccessfulOutcome {
		return nil, fmt.Errorf("%w: triggering message %d", errSyntax, d.Triggering)
	}
	if v.IEsCriticalityDiagnostics == nil {
		return d, nil
	}
	for _, item := range v.IEsCriticalityDiagnostics.List {
		ie := IEDiagnostic{
			ID:          item.IEID.Value,
			Missing:     item.TypeOfError.Value == ngapType.TypeOfErrorPresentMissing,
			Criticality: uint8(item.IECriticality.Value),
		}
		if criticality(ie.Criticality) > notify {
			return nil, fmt.Errorf("%w: criticality %d", errSyntax, ie.Criticality)
		}
		d.IEs = append(d.IEs, ie)
	}
	return d, nil
}
