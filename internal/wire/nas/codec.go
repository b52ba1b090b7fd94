package nas

import (
	"errors"
	"fmt"
	"reflect"

	lib "github.com/free5gc/nas"

	"github.com/simreach/simreach/internal/ident"
)

// Encode returns the plain message m as on the wire. It fails, wrapping
// ErrEncode, if m has a value that its IE cannot carry; m is not changed.
func Encode(m Message) (pdu []byte, err error) {
	defer guard(&err, ErrEncode)
	c, ok := m.(codec)
	if !ok {
		return nil, fmt.Errorf("%w %T: not a message of this package", ErrEncode, m)
	}
	typ := c.Type()
	lay := layouts[typ]
	envelope, body := libMessage(typ, lay.lib)
	w := &writer{layout: lay, body: body}
	if err := w.header(typ, m); err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrEncode, typ, err)
	}
	c.encode(w)
	if w.err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrEncode, typ, w.err)
	}
	pdu, err = envelope.PlainNasEncode()
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrEncode, typ, err)
	}
	return pdu, nil
}

// Decode understands the plain message pdu; the result shares no memory with it.
// Every error is a *DecodeError. Optional IEs that are unknown, repeated or
// syntactically incorrect are taken as not present (TS 24.501 clauses 7.6.1,
// 7.6.3 and 7.7.1).
func Decode(pdu []byte) (Message, error) {
	e := &DecodeError{}
	m, err := decode(pdu, e)
	if err != nil {
		e.Err = err
		return nil, e
	}
	return m, nil
}

// decode fills e with the header and the cause as it learns them.
func decode(pdu []byte, e *DecodeError) (m Message, err error) {
	start := 3
	switch {
	case len(pdu) == 0:
		return nil, ErrTooShort
	case pdu[0] == epd5GMM:
		if e.EPD = pdu[0]; len(pdu) < start {
			return nil, ErrTooShort
		}
		if pdu[1]&0xf != byte(HeaderPlain) {
			e.Cause = uint8(MMProtocolError)
			return nil, ErrProtected
		}
		e.Type = MessageType(pdu[2])
	case pdu[0] == epd5GSM:
		start = 4
		if e.EPD = pdu[0]; len(pdu) < start {
			return nil, ErrTooShort
		}
		e.PDUSessionID, e.PTI, e.Type = ident.PDUSessionID(pdu[1]), ident.PTI(pdu[2]), MessageType(pdu[3])
	default:
		e.EPD = pdu[0]
		return nil, ErrDiscriminator
	}
	lay, ok := layouts[e.Type]
	if !ok || e.Type.epd() != e.EPD {
		e.Cause = uint8(MMTypeNonExistent)
		return nil, fmt.Errorf("message type %#x does not exist", uint8(e.Type))
	}
	tidy, err := lay.tidy(pdu, start)
	if err != nil {
		e.Cause = uint8(MMInvalidMandatoryIE)
		return nil, err
	}

	// Whatever goes wrong from here on, and is not said more precisely, is a
	// protocol error, unspecified.
	e.Cause = uint8(MMProtocolError)
	defer guard(&err, errLibrary)
	envelope := lib.NewMessage()
	if err := envelope.PlainNasDecode(&tidy); err != nil {
		return nil, err
	}
	r := &reader{layout: lay, body: libBody(envelope, e.EPD, lay.lib), cause: e.Cause}
	c := lay.new()
	setHeader(c, SMHeader{PDUSessionID: e.PDUSessionID, PTI: e.PTI})
	c.decode(r)
	if r.err != nil {
		e.Cause = r.cause
		return nil, r.err
	}
	e.Cause = 0
	return c, nil
}

// errLibrary marks a panic of the codec library, which it answers malformed
// input with.
var errLibrary = errors.New("codec library failed")

// guard turns a panic into an error that wraps kind. It is the only place where
// this package recovers.
func guard(err *error, kind error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", kind, r)
	}
}

// libMessage returns an empty library message of type typ and its body, the
// struct called name within it.
func libMessage(typ MessageType, name string) (*lib.Message, reflect.Value) {
	m := lib.NewMessage()
	if typ.epd() == epd5GSM {
		m.GsmMessage = lib.NewGsmMessage()
		m.GsmHeader.SetMessageType(uint8(typ))
	} else {
		m.GmmMessage = lib.NewGmmMessage()
		m.GmmHeader.SetMessageType(uint8(typ))
	}
	f := libGroup(m, typ.epd()).FieldByName(name)
	f.Set(reflect.New(f.Type().Elem()))
	return m, f.Elem()
}

func libBody(m *lib.Message, epd byte, name string) reflect.Value {
	return libGroup(m, epd).FieldByName(name).Elem()
}

func libGroup(m *lib.Message, epd byte) reflect.Value {
	if epd == epd5GSM {
		return reflect.ValueOf(m.GsmMessage).Elem()
	}
	return reflect.ValueOf(m.GmmMessage).Elem()
}

// smMessage is implemented by all 5GSM messages, through SMHeader.
type smMessage interface{ smHeader() *SMHeader }

func (h *SMHeader) smHeader() *SMHeader { return h }

func setHeader(m Message, h SMHeader) {
	if sm, ok := m.(smMessage); ok {
		*sm.smHeader() = h
	}
}
