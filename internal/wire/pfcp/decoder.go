package pfcp

import "github.com/wmnsk/go-pfcp/ie"

// decoder remembers the first fault; after it every read returns zero values, so
// that a message is written down as one expression without a check per IE.
type decoder struct{ err error }

func (d *decoder) fail(c Cause, typ uint16, err error) {
	if d.err == nil {
		d.err = &ieFault{cause: c, ie: typ, err: err}
	}
}

func find(ies []*ie.IE, typ uint16) *ie.IE {
	for _, i := range ies {
		if i.Type == typ {
			return i
		}
	}
	return nil
}

// leaf reads one IE payload. Its field reports what went wrong.
type leaf[T any] func(c *cursor) T

func read[T any](d *decoder, i *ie.IE, f leaf[T]) T {
	var zero T
	c := &cursor{b: i.Payload}
	v := f(c)
	switch {
	case c.short:
		d.fail(CauseInvalidLength, i.Type, ErrIELength)
	case c.bad:
		d.fail(CauseMandatoryIEIncorrect, i.Type, ErrIEValue)
	default:
		return v
	}
	return zero
}

// must reads an IE whose absence is the given cause.
func must[T any](d *decoder, ies []*ie.IE, typ uint16, missing Cause, f leaf[T]) T {
	var zero T
	if d.err != nil {
		return zero
	}
	i := find(ies, typ)
	if i == nil {
		d.fail(missing, typ, ErrMissing)
		return zero
	}
	return read(d, i, f)
}

// mandatory is must with cause 66.
func mandatory[T any](d *decoder, ies []*ie.IE, typ uint16, f leaf[T]) T {
	return must(d, ies, typ, CauseMandatoryIEMissing, f)
}

// optional returns nil when the IE is absent.
func optional[T any](d *decoder, ies []*ie.IE, typ uint16, f leaf[T]) *T {
	if d.err != nil {
		return nil
	}
	i := find(ies, typ)
	if i == nil {
		return nil
	}
	v := read(d, i, f)
	return &v
}

// either returns the zero value when the IE is absent.
func either[T any](d *decoder, ies []*ie.IE, typ uint16, f leaf[T]) T {
	if v := optional(d, ies, typ, f); v != nil {
		return *v
	}
	var zero T
	return zero
}

// all reads every IE of a type that holds one leaf value.
func all[T any](d *decoder, ies []*ie.IE, typ uint16, f leaf[T]) []T {
	var out []T
	for _, i := range ies {
		if i.Type == typ && d.err == nil {
			out = append(out, read(d, i, f))
		}
	}
	return out
}

// groups reads every grouped IE of a type.
func groups[T any](d *decoder, ies []*ie.IE, typ uint16, f func(*decoder, []*ie.IE) T) []T {
	var out []T
	for _, i := range ies {
		if i.Type != typ || d.err != nil {
			continue
		}
		inner, err := split(i.Payload)
		if err != nil {
			d.err = err
			return nil
		}
		out = append(out, f(d, inner))
	}
	return out
}

// group reads a grouped IE that occurs at most once; nil when absent.
func group[T any](d *decoder, ies []*ie.IE, typ uint16, f func(*decoder, []*ie.IE) T) *T {
	if i := find(ies, typ); i != nil {
		if g := groups(d, []*ie.IE{i}, typ, f); len(g) == 1 {
			return &g[0]
		}
	}
	return nil
}

// cursor reads a leaf payload from the front. Octets after the known ones are
// ignored: later releases append to IEs (TS 29.244 clause 8.1.1).
type cursor struct {
	b          []byte
	short, bad bool
}

func (c *cursor) bytes(n int) []byte {
	if len(c.b) < n {
		c.short = true
		return make([]byte, n)
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}

func (c *cursor) uint(n int) uint64 {
	var v uint64
	for _, x := range c.bytes(n) {
		v = v<<8 | uint64(x)
	}
	return v
}

func (c *cursor) rest() []byte {
	v := c.b
	c.b = nil
	return v
}
