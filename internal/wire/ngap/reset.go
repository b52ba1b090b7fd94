package ngap

import "fmt"

// Alternatives of the Reset Type IE in the two high bits of its first octet
// (TS 38.413 clauses 9.2.6.11 and 9.4.5).
const (
	resetAll  = 0x00
	resetPart = 0x40
)

func (m *NGReset) encode(w *writer) {
	w.cause(m.Cause)
	if m.All || len(m.Connections) == 0 {
		w.putRaw(idResetType, []byte{resetAll})
		return
	}
	list, err := connectionsValue(m.Connections)
	if err != nil {
		w.fail(err)
		return
	}
	w.putRaw(idResetType, append([]byte{resetPart}, list...))
}

func (m *NGReset) decode(r *reader) {
	m.Cause = r.causeOrUnspecified()
	v, ok := r.raw(idResetType)
	if !ok {
		return
	}
	switch {
	case len(v) > 0 && v[0]&0xc0 == resetAll:
		m.All = true
	case len(v) > 0 && v[0]&0xc0 == resetPart:
		m.Connections = r.connections(idResetType, v[1:])
	default:
		r.fail(ProtocolTransferSyntax, fmt.Errorf("%w: IE %d: %x", errSyntax, idResetType, v))
	}
}

func (m *NGResetAcknowledge) encode(w *writer) {
	if len(m.Connections) == 0 {
		return
	}
	list, err := connectionsValue(m.Connections)
	if err != nil {
		w.fail(err)
		return
	}
	w.putRaw(idConnectionList, list)
}

func (m *NGResetAcknowledge) decode(r *reader) {
	if v, ok := r.raw(idConnectionList); ok {
		m.Connections = r.connections(idConnectionList, v)
	}
}

func (r *reader) connections(id int64, v []byte) []PartialIDs {
	list, err := parseConnections(v)
	if err != nil {
		r.fail(ProtocolTransferSyntax, fmt.Errorf("%w: IE %d: %w", errSyntax, id, err))
	}
	return list
}
