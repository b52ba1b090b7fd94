package ngap

import (
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/free5gc/aper"
	aperlog "github.com/free5gc/aper/logger"
	"github.com/free5gc/ngap/ngapType"
)

// codec is a message that can put its fields into IEs and take them out.
type codec interface {
	Message
	triggering() uint8
	encode(*writer)
	decode(*reader)
}

// Encode returns m as on the wire. It fails, wrapping ErrEncode, if m has a value
// that its IE cannot carry; m is not changed.
func Encode(m Message) (pdu []byte, err error) {
	defer guard(&err, ErrEncode)
	c, ok := m.(codec)
	if !ok {
		return nil, fmt.Errorf("%w %T: not a message of this package", ErrEncode, m)
	}
	key := pduKey{c.Procedure(), c.triggering()}
	spec := pduSpecs[key]
	w := &writer{specs: spec.ies}
	c.encode(w)
	if w.err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrEncode, spec.name, w.err)
	}
	e := envelope{triggering: key.triggering, procedure: key.procedure, crit: spec.crit, ies: w.ies}
	if pdu, err = e.bytes(); err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrEncode, spec.name, err)
	}
	return pdu, nil
}

// Decode understands pdu; the result shares no memory with it. Every error is a
// *DecodeError. Unknown IEs of criticality ignore or notify are stepped over, and
// a mandatory IE of criticality ignore that is missing leaves its field zero
// (TS 38.413 clauses 10.3.4.2 and 10.3.5); the UE's identifiers always have to be
// there.
func Decode(pdu []byte) (Message, error) {
	m, _, err := decode(slices.Clone(pdu))
	return m, err
}

// decode also tells whether a mandatory IE is missing; it keeps parts of pdu.
func decode(pdu []byte) (m Message, incomplete bool, err error) {
	var env envelope
	fail := func(cause Cause, d *Diagnostics, err error) (Message, bool, error) {
		return nil, false, &DecodeError{
			Procedure: env.procedure, Triggering: env.triggering, IDs: env.ids(),
			Cause: cause, Diagnostics: d, Err: err,
		}
	}
	if err := parseEnvelope(pdu, &env); err != nil {
		env.triggering = min(env.triggering, unsuccessfulOutcome)
		return fail(ProtocolTransferSyntax, nil, fmt.Errorf("%w: %w", errSyntax, err))
	}
	diag := &Diagnostics{Procedure: env.procedure, Triggering: env.triggering}
	spec, ok := pduSpecs[pduKey{env.procedure, env.triggering}]
	if !ok {
		cause := map[criticality]Cause{reject: ProtocolAbstractReject, notify: ProtocolAbstractIgnoreNotify}[env.crit]
		return fail(cause, diag, fmt.Errorf("%w: unknown procedure or message", errAbstract))
	}
	r := &reader{}
	if diag.IEs = r.comprehend(spec.ies, env.ies); len(diag.IEs) > 0 {
		return fail(ProtocolAbstractReject, diag, fmt.Errorf("%w: IEs missing or unknown: %v", errAbstract, diag.IEs))
	}
	if r.falsely != nil {
		return fail(ProtocolFalselyConstructed, diag, fmt.Errorf("%w: %w", errAbstract, r.falsely))
	}
	c := spec.new()
	c.decode(r)
	if r.err != nil {
		return fail(r.errCause, nil, r.err)
	}
	return c, r.incomplete, nil
}

// ids returns the UE identifiers in the IEs decoded so far.
func (e *envelope) ids() PartialIDs {
	var p PartialIDs
	r := &reader{ies: e.ies}
	var amf ngapType.AMFUENGAPID
	var ran ngapType.RANUENGAPID
	var both ngapType.UENGAPIDs
	if r.get(idAMFUENGAPID, &amf, "") {
		p.AMF = &amf.Value
	}
	if r.get(idRANUENGAPID, &ran, "") {
		id := uint32(ran.Value)
		p.RAN = &id
	}
	if r.get(idUENGAPIDs, &both, choiceUENGAPIDs) {
		if both.AMFUENGAPID != nil {
			p.AMF = &both.AMFUENGAPID.Value
		} else if both.UENGAPIDPair != nil {
			id := uint32(both.UENGAPIDPair.RANUENGAPID.Value)
			p.AMF, p.RAN = &both.UENGAPIDPair.AMFUENGAPID.Value, &id
		}
	}
	if p.AMF != nil && checkAMFID(*p.AMF) != nil {
		p.AMF = nil
	}
	return p
}

// guard turns a panic into an error that wraps kind. Apart from unmarshal it is
// the only place where this package recovers.
func guard(err *error, kind error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", kind, r)
	}
}

// quietLibrary stops the codec library from writing about malformed input to
// standard error: we report it ourselves, as an error.
var quietLibrary = sync.OnceFunc(func() { aperlog.AperLog.Logger.SetOutput(io.Discard) })

// unmarshal decodes the value of an IE or transfer; the codec library answers
// some malformed input with a panic.
func unmarshal(b []byte, v any, params string) (err error) {
	quietLibrary()
	defer guard(&err, errSyntax)
	if err := aper.UnmarshalWithParams(b, v, params); err != nil {
		return fmt.Errorf("%w: %w", errSyntax, err)
	}
	return nil
}

// writer collects the IEs of one message. The first error stays; later calls do
// nothing.
type writer struct {
	specs []ieSpec
	ies   []rawIE
	err   error
}

// put adds the IE id with the library value v. params is the library's notation
// for what v's type does not say about its encoding: see the params constants.
func (w *writer) put(id int64, v any, params string) {
	if w.err != nil {
		return
	}
	b, err := aper.MarshalWithParams(v, params)
	if err != nil {
		w.fail(fmt.Errorf("IE %d: %w", id, err))
		return
	}
	w.putRaw(id, b)
}

// putRaw adds the IE id, whose value is encoded already.
func (w *writer) putRaw(id int64, value []byte) {
	if w.err != nil {
		return
	}
	i := slices.IndexFunc(w.specs, func(s ieSpec) bool { return s.id == id })
	if i < 0 {
		w.fail(fmt.Errorf("no IE %d in this message", id))
		return
	}
	w.ies = append(w.ies, rawIE{id: id, crit: w.specs[i].crit, value: value})
}

func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// reader holds the IEs of one message. The first error stays, with its cause.
type reader struct {
	ies        []rawIE
	incomplete bool  // a mandatory IE is missing that may be
	falsely    error // the message is falsely constructed
	errCause   Cause
	err        error
}

// comprehend takes those of the received IEs that specs has, and returns what
// makes the message unacceptable: unknown IEs of criticality reject and missing
// mandatory ones (TS 38.413 clauses 10.3.4.2 and 10.3.5). IEs that come twice or
// in another order make it falsely constructed (clause 10.3.6).
func (r *reader) comprehend(specs []ieSpec, received []rawIE) (bad []IEDiagnostic) {
	last := -1
	found := map[int64]bool{}
	for _, ie := range received {
		i := slices.IndexFunc(specs, func(s ieSpec) bool { return s.id == ie.id })
		switch {
		case i < 0 && ie.crit == reject:
			bad = append(bad, IEDiagnostic{ID: ie.id, Criticality: uint8(ie.crit)})
			continue
		case i < 0:
			continue
		case i <= last && r.falsely == nil:
			r.falsely = fmt.Errorf("IE %d repeated or out of order", ie.id)
		}
		last = max(last, i)
		found[ie.id] = true
		r.ies = append(r.ies, ie)
	}
	for _, s := range specs {
		switch {
		case !s.mandatory || found[s.id]:
		case s.crit == reject || s.id == idAMFUENGAPID || s.id == idRANUENGAPID:
			bad = append(bad, IEDiagnostic{ID: s.id, Missing: true, Criticality: uint8(s.crit)})
		default:
			r.incomplete = true
		}
	}
	return bad
}

// raw returns the value of the IE id as it came.
func (r *reader) raw(id int64) ([]byte, bool) {
	i := slices.IndexFunc(r.ies, func(ie rawIE) bool { return ie.id == id })
	if i < 0 || r.err != nil {
		return nil, false
	}
	return r.ies[i].value, true
}

// get decodes the IE id into v, a pointer to its library type, and reports
// whether it is there and well formed.
func (r *reader) get(id int64, v any, params string) bool {
	value, ok := r.raw(id)
	if !ok {
		return false
	}
	if err := unmarshal(value, v, params); err != nil {
		r.fail(ProtocolTransferSyntax, fmt.Errorf("IE %d: %w", id, err))
		return false
	}
	return true
}

func (r *reader) fail(cause Cause, err error) {
	if r.err == nil {
		r.errCause, r.err = cause, err
	}
}

// check refuses the message as semantically wrong if err is not nil.
func (r *reader) check(id int64, err error) {
	if err != nil {
		r.fail(ProtocolSemantic, fmt.Errorf("%w: IE %d: %w", errSemantic, id, err))
	}
}

// What the library's types do not say about their own encoding.
const (
	sequence           = "valueExt"            // an extensible SEQUENCE
	choiceRANNode      = "valueLB:0,valueUB:3" // CHOICEs, by their number of alternatives
	choiceUserLocation = "valueLB:0,valueUB:3"
	choiceCause        = "valueLB:0,valueUB:5"
	choiceUENGAPIDs    = "valueLB:0,valueUB:2"
	choiceTunnel       = "valueLB:0,valueUB:1"
)
