package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

// Questions and answers are the messages ResolveRequest and ResolveResponse of
// relay.proto. They are written and read here, field by field, because the generated code
// takes several times as long and allocates each text: a test compares the two.

// Fields of ResolveRequest.
const (
	questionID protowire.Number = iota + 1
	questionHit
	questionClient
	questionConnection
	questionTarget
	questionTrace
)

// Fields of ResolveResponse.
const (
	answerID protowire.Number = iota + 1
	answerRoute
	answerFailure
)

// Fields of Route.
const (
	routeEntry protowire.Number = iota + 1
	routeConnection
	routeRanges
	routeExpires
	routeDevice
	routeInnerID
	routeInner
	routeTicket
	routeOperator
	routeIMSI
	routeSIM
	routeTLS
	routeCredential
	routeProxy
)

// Fields of Failure.
const (
	failureCode protowire.Number = iota + 1
	failureArgs
)

// question is a ResolveRequest.
type question struct {
	id    uint64
	trace string
	manager.ResolveRequest
}

// appendQuestion appends a frame.
func appendQuestion(b []byte, id uint64, q *manager.ResolveRequest, trace string) []byte {
	b, begin := beginFrame(b)
	b = appendUint(b, questionID, id)
	b = appendAddrPort(b, questionHit, q.Hit)
	b = appendAddrPort(b, questionClient, q.Client)
	b = appendText(b, questionConnection, q.ConnectionID)
	b = appendText(b, questionTarget, q.Target)
	b = appendText(b, questionTrace, trace)
	return endFrame(b, begin)
}

// parseQuestion takes a message apart. errMessage.
func parseQuestion(m []byte) (q question, err error) {
	f := fields{b: m}
	for f.next() {
		switch f.num {
		case questionID:
			q.id = f.uint()
		case questionHit:
			q.Hit = f.addrPort()
		case questionClient:
			q.Client = f.addrPort()
		case questionConnection:
			q.ConnectionID = f.text()
		case questionTarget:
			q.Target = f.text()
		case questionTrace:
			q.trace = f.text()
		}
	}
	if !q.Hit.IsValid() {
		f.bad = true
	}
	return q, f.err("question")
}

// appendRoute appends a frame with a route.
func appendRoute(b []byte, id uint64, r *manager.Route) []byte {
	b, begin := beginFrame(b)
	b = appendUint(b, answerID, id)
	b, inner := beginMessage(b, answerRoute)
	b = appendText(b, routeEntry, string(r.EntryID))
	b = appendText(b, routeConnection, r.ConnectionID)
	for _, p := range r.Ranges {
		b = appendPrefix(b, routeRanges, p)
	}
	if !r.Expires.IsZero() {
		b = appendUint(b, routeExpires, uint64(r.Expires.UnixMilli()))
	}
	b = appendAddrPort(b, routeDevice, r.Device)
	b = appendText(b, routeInnerID, string(r.InnerID))
	b = appendAddrPort(b, routeInner, r.Inner)
	b = appendText(b, routeTicket, r.Ticket)
	b = appendText(b, routeOperator, string(r.OperatorID))
	b = appendText(b, routeIMSI, string(r.IMSI))
	b = appendText(b, routeSIM, r.SIMID)
	b = appendBool(b, routeTLS, r.TLS)
	b = appendText(b, routeCredential, string(r.CredentialID))
	b = appendBool(b, routeProxy, r.ProxyProtocol)
	return endFrame(endSized(b, inner), begin)
}

// appendFailure appends a frame with an error: its code and arguments.
func appendFailure(b []byte, id uint64, e *manager.Error) []byte {
	b, begin := beginFrame(b)
	b = appendUint(b, answerID, id)
	b, inner := beginMessage(b, answerFailure)
	b = appendText(b, failureCode, string(e.Code))
	for _, a := range e.Args {
		b = protowire.AppendTag(b, failureArgs, protowire.BytesType)
		b = protowire.AppendString(b, fmt.Sprintf("%.*s", maxDetail, fmt.Sprint(a)))
	}
	return endFrame(endSized(b, inner), begin)
}

// parseAnswer takes a message apart: a route, or an error that the manager answered.
// errMessage.
func parseAnswer(m []byte) (id uint64, r manager.Route, failure *manager.Error, err error) {
	f := fields{b: m}
	answered := false
	for f.next() {
		switch f.num {
		case answerID:
			id = f.uint()
		case answerRoute:
			r, failure, answered = f.route(), nil, true
		case answerFailure:
			r, failure, answered = manager.Route{}, f.failure(), true
		}
	}
	if !answered {
		f.bad = true
	}
	return id, r, failure, f.err("answer")
}

func (f *fields) route() (r manager.Route) {
	in := f.message()
	for in.next() {
		switch in.num {
		case routeEntry:
			r.EntryID = manager.EntryID(in.text())
		case routeConnection:
			r.ConnectionID = in.text()
		case routeRanges:
			r.Ranges = append(r.Ranges, in.prefix())
		case routeExpires:
			r.Expires = time.UnixMilli(int64(in.uint())).UTC()
		case routeDevice:
			r.Device = in.addrPort()
		case routeInnerID:
			r.InnerID = manager.RelayID(in.text())
		case routeInner:
			r.Inner = in.addrPort()
		case routeTicket:
			r.Ticket = in.text()
		case routeOperator:
			r.OperatorID = manager.OperatorID(in.text())
		case routeIMSI:
			r.IMSI = ident.IMSI(in.text())
		case routeSIM:
			r.SIMID = in.text()
		case routeTLS:
			r.TLS = in.uint() != 0
		case routeCredential:
			r.CredentialID = manager.CredentialID(in.text())
		case routeProxy:
			r.ProxyProtocol = in.uint() != 0
		}
	}
	f.took(in)
	if !r.Device.IsValid() || !r.Inner.IsValid() {
		f.bad = true
	}
	return r
}

func (f *fields) failure() *manager.Error {
	in := f.message()
	e := &manager.Error{}
	for in.next() {
		switch in.num {
		case failureCode:
			e.Code = manager.Code(in.text())
		case failureArgs:
			e.Args = append(e.Args, in.text())
		}
	}
	f.took(in)
	if e.Code == "" {
		f.bad = true
	}
	return e
}

func appendUint(b []byte, n protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

func appendBool(b []byte, n protowire.Number, v bool) []byte {
	if !v {
		return b
	}
	return append(protowire.AppendTag(b, n, protowire.VarintType), 1)
}

func appendText(b []byte, n protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}

// appendAddrPort appends the 4 or 16 bytes of an address and the two of a port. A zone
// is of one host only and is left out.
func appendAddrPort(b []byte, n protowire.Number, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return b
	}
	b = append(protowire.AppendTag(b, n, protowire.BytesType), byte(a.Addr().BitLen()/8+2))
	return binary.BigEndian.AppendUint16(appendAddr(b, a.Addr()), a.Port())
}

// appendPrefix appends the 4 or 16 bytes of an address and one with the prefix's length.
func appendPrefix(b []byte, n protowire.Number, p netip.Prefix) []byte {
	b = append(protowire.AppendTag(b, n, protowire.BytesType), byte(p.Addr().BitLen()/8+1))
	return append(appendAddr(b, p.Addr()), byte(p.Bits()))
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		four := a.As4()
		return append(b, four[:]...)
	}
	sixteen := a.As16()
	return append(b, sixteen[:]...)
}

// sizeRoom is what beginSized leaves for a length: a varint may be longer than it
// must.
const sizeRoom = 3

// beginMessage appends the tag of a message within, and room for its length, which
// endSized fills in.
func beginMessage(b []byte, n protowire.Number) ([]byte, int) {
	return beginSized(protowire.AppendTag(b, n, protowire.BytesType))
}

// beginSized appends room for a length, which endSized fills in.
func beginSized(b []byte) ([]byte, int) { return append(b, 0x80, 0x80, 0), len(b) }

func endSized(b []byte, begin int) []byte {
	n := len(b) - begin - sizeRoom // of some kilobytes, which 21 bits have room for
	b[begin] |= byte(n & 0x7f)
	b[begin+1] |= byte(n >> 7 & 0x7f)
	b[begin+2] = byte(n >> 14)
	return b
}

var errField = errors.New("malformed field")

// fields takes a protobuf message apart. Texts are parts of one copy of it.
type fields struct {
	b    []byte // what is left
	copy string // of the message; made with the first text
	num  protowire.Number
	typ  protowire.Type
	val  []byte // of a field with a length
	n    uint64 // of a varint
	bad  bool
}

// next goes on to the next field; false at the end, or if something is wrong.
func (f *fields) next() bool {
	if f.bad || len(f.b) == 0 {
		return false
	}
	if f.copy == "" {
		f.copy = string(f.b)
	}
	num, typ, n := protowire.ConsumeTag(f.b)
	if n < 0 {
		f.bad = true
		return false
	}
	f.b = f.b[n:]
	f.num, f.typ, f.val, f.n = num, typ, nil, 0
	switch typ {
	case protowire.VarintType:
		f.n, n = protowire.ConsumeVarint(f.b)
	case protowire.BytesType:
		f.val, n = protowire.ConsumeBytes(f.b)
	default: // none of ours: a later version's
		n = protowire.ConsumeFieldValue(num, typ, f.b)
	}
	if n < 0 {
		f.bad = true
		return false
	}
	f.b = f.b[n:]
	return true
}

func (f *fields) is(t protowire.Type) bool {
	if f.typ != t {
		f.bad = true
	}
	return f.typ == t
}

func (f *fields) uint() uint64 {
	f.is(protowire.VarintType)
	return f.n
}

func (f *fields) text() string {
	if !f.is(protowire.BytesType) || len(f.val) == 0 {
		return ""
	}
	end := len(f.copy) - len(f.b)
	return f.copy[end-len(f.val) : end]
}

func (f *fields) addrPort() netip.AddrPort {
	n := len(f.val) - 2
	if !f.is(protowire.BytesType) || n < 0 {
		f.bad = true
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(f.addr(f.val[:n]), binary.BigEndian.Uint16(f.val[n:]))
}

func (f *fields) prefix() netip.Prefix {
	n := len(f.val) - 1
	if !f.is(protowire.BytesType) || n < 0 {
		f.bad = true
		return netip.Prefix{}
	}
	p := netip.PrefixFrom(f.addr(f.val[:n]), int(f.val[n]))
	if !p.IsValid() {
		f.bad = true
	}
	return p
}

func (f *fields) addr(b []byte) netip.Addr {
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		f.bad = true
	}
	return a
}

// message returns the fields of a message within; took must follow.
func (f *fields) message() fields {
	f.is(protowire.BytesType)
	end := len(f.copy) - len(f.b)
	return fields{b: f.val, copy: f.copy[end-len(f.val) : end]}
}

func (f *fields) took(in fields) { f.bad = f.bad || in.bad }

func (f *fields) err(what string) error {
	if f.bad {
		return fmt.Errorf("%w: %s: %w", errMessage, what, errField)
	}
	return nil
}
