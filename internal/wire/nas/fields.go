package nas

import (
	"fmt"
	"reflect"
)

// writer puts IE values into the library's struct of one message. The first
// error stays; later calls do nothing.
type writer struct {
	layout layout
	body   reflect.Value
	err    error
}

// header fills the octets that every message begins with (TS 24.501 clause 9.1.1).
func (w *writer) header(typ MessageType, m Message) error {
	if !w.body.IsValid() {
		return fmt.Errorf("message type %#x has no layout", uint8(typ))
	}
	octets := []byte{typ.epd(), 0, byte(typ)}
	if sm, ok := m.(smMessage); ok {
		h := sm.smHeader()
		octets = []byte{typ.epd(), byte(h.PDUSessionID), byte(h.PTI), byte(typ)}
	}
	for i, o := range octets {
		w.body.Field(i).FieldByName("Octet").SetUint(uint64(o))
	}
	return nil
}

// put sets the IE called name to value.
func (w *writer) put(name string, value ...byte) {
	if w.err != nil {
		return
	}
	f, ok := w.layout.field(name)
	if !ok {
		w.fail(fmt.Errorf("%s has no IE %s", w.layout.text, name))
		return
	}
	if len(value) < f.min || len(value) > f.max {
		w.fail(fmt.Errorf("IE %s has length %d, want %d to %d", name, len(value), f.min, f.max))
		return
	}
	v := w.body.FieldByName(name)
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if f.format == formatT1 {
		v.FieldByName("Octet").SetUint(uint64(f.iei<<4 | value[0]&0xf))
		return
	}
	if iei := v.FieldByName("Iei"); iei.IsValid() {
		iei.SetUint(uint64(f.iei))
	}
	if n := v.FieldByName("Len"); n.IsValid() {
		n.SetUint(uint64(len(value)))
	}
	if buf := v.FieldByName("Buffer"); buf.IsValid() {
		buf.SetBytes(value)
		return
	}
	if o := v.FieldByName("Octet"); o.Kind() == reflect.Array {
		reflect.Copy(o, reflect.ValueOf(value))
	} else {
		o.SetUint(uint64(value[0]))
	}
}

// putValue sets the IE called name to value unless err tells that there is none.
func (w *writer) putValue(name string, value []byte, err error) {
	if err != nil {
		w.fail(fmt.Errorf("IE %s: %w", name, err))
		return
	}
	w.put(name, value...)
}

func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// reader takes IE values out of the library's struct of one message. The first
// error stays, with its cause.
type reader struct {
	layout layout
	body   reflect.Value
	cause  uint8
	err    error
}

// get returns the value of the IE called name; ok is false if it is not present.
func (r *reader) get(name string) (value []byte, ok bool) {
	v := r.body.FieldByName(name)
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil, false
		}
		v = v.Elem()
	}
	if buf := v.FieldByName("Buffer"); buf.IsValid() {
		return buf.Bytes(), true
	}
	o := v.FieldByName("Octet")
	if o.Kind() != reflect.Array {
		return []byte{byte(o.Uint())}, true
	}
	n := o.Len()
	if l := v.FieldByName("Len"); l.IsValid() {
		n = min(n, int(l.Uint()))
	}
	value = make([]byte, n)
	reflect.Copy(reflect.ValueOf(value), o)
	return value, true
}

// octet returns the value of the IE called name that is one octet, or half of
// one; 0 if it is not present.
func (r *reader) octet(name string) byte {
	v, ok := r.get(name)
	if !ok || len(v) == 0 {
		return 0
	}
	if f, _ := r.layout.field(name); f.format == formatT1 {
		return v[0] & 0xf
	}
	return v[0]
}

// fail refuses the message for cause.
func (r *reader) fail(cause MMCause, err error) {
	if r.err == nil {
		r.cause, r.err = uint8(cause), err
	}
}

// mandatory understands the value of the IE called name; if it cannot be
// understood the message is refused with cause 96 (TS 24.501 clause 7.5.1).
func mandatory[T any](r *reader, name string, parse func([]byte) (T, error)) (t T) {
	v, _ := r.get(name)
	t, err := parse(v)
	if err != nil {
		r.fail(MMInvalidMandatoryIE, fmt.Errorf("mandatory IE %s: %w", name, err))
	}
	return t
}

// optional is mandatory for an IE that is left out, in the eyes of its reader,
// if it cannot be understood (TS 24.501 clause 7.7.1).
func optional[T any](r *reader, name string, parse func([]byte) (T, error)) (t T) {
	v, ok := r.get(name)
	if !ok {
		return t
	}
	if p, err := parse(v); err == nil {
		t = p
	}
	return t
}

// optionalPtr is optional for fields whose absence is nil.
func optionalPtr[T any](r *reader, name string, parse func([]byte) (T, error)) *T {
	return optional(r, name, func(v []byte) (*T, error) {
		t, err := parse(v)
		return &t, err
	})
}

// octets is the parse function of an IE that we take as it is.
func octets(v []byte) ([]byte, error) { return v, nil }

func (l *layout) field(name string) (field, bool) {
	for _, list := range [][]field{l.mandatory, l.optional} {
		for _, f := range list {
			if f.name == name {
				return f, true
			}
		}
	}
	return field{}, false
}
