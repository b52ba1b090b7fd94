package rpc

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

// Fields of AuditRecord.
const (
	auditID protowire.Number = iota + 1
	auditType
	auditAt
	auditOperator
	auditEntry
	auditConnection
	auditIMSI
	auditSIM
	auditRelay
	auditSource
	auditDestination
	auditPort
	auditTLS
	auditCause
	auditUp
	auditDown
)

// auditSize is about what a record takes.
const auditSize = 224

// maxRecords bounds the records of one call: a record without fields takes one byte, and
// 256 here. It is the largest batch of a relay's spool (relay/audit).
const maxRecords = 10_000

// appendAudit appends an AuditRecord and, before it, its length.
func appendAudit(b []byte, r *manager.AuditRecord) []byte {
	b, begin := beginSized(b)
	b = appendText(b, auditID, r.ID)
	b = appendText(b, auditType, string(r.Type))
	b = appendUint(b, auditAt, uint64(r.At.UnixMilli()))
	b = appendText(b, auditOperator, string(r.OperatorID))
	b = appendText(b, auditEntry, string(r.EntryID))
	b = appendText(b, auditConnection, r.ConnectionID)
	b = appendText(b, auditIMSI, string(r.IMSI))
	b = appendText(b, auditSIM, r.SIMID)
	b = appendText(b, auditRelay, string(r.RelayID))
	b = appendAddrPort(b, auditSource, r.Source)
	b = appendAddrPort(b, auditDestination, r.Destination)
	b = appendUint(b, auditPort, uint64(r.DevicePort))
	b = appendBool(b, auditTLS, r.TLS)
	b = appendText(b, auditCause, string(r.Cause))
	b = appendUint(b, auditUp, r.Up)
	b = appendUint(b, auditDown, r.Down)
	return endSized(b, begin)
}

// parseAudit takes records apart, which share nothing with b. errMessage, also for more
// than maxRecords.
func parseAudit(b []byte) ([]manager.AuditRecord, error) {
	records := make([]manager.AuditRecord, 0, min(len(b)/auditSize+1, maxRecords))
	var entry manager.EntryID
	for len(b) > 0 {
		m, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return nil, fmt.Errorf("%w: audit records: %w", errMessage, errField)
		}
		if len(records) == maxRecords {
			return nil, fmt.Errorf("%w: more than %d audit records", errMessage, maxRecords)
		}
		b = b[n:]
		r, err := parseAuditRecord(m)
		if err != nil {
			return nil, err
		}
		// Who keeps the ID of an entry shall not keep the rest of the record with it. Most
		// have that of the one before.
		if r.EntryID != entry {
			entry = manager.EntryID(strings.Clone(string(r.EntryID)))
		}
		r.EntryID = entry
		records = append(records, r)
	}
	return records, nil
}

func parseAuditRecord(m []byte) (r manager.AuditRecord, err error) {
	f := fields{b: m}
	r.At = time.UnixMilli(0).UTC()
	for f.next() {
		switch f.num {
		case auditID:
			r.ID = f.text()
		case auditType:
			r.Type = manager.AuditType(f.text())
		case auditAt:
			r.At = time.UnixMilli(int64(f.uint())).UTC()
		case auditOperator:
			r.OperatorID = manager.OperatorID(f.text())
		case auditEntry:
			r.EntryID = manager.EntryID(f.text())
		case auditConnection:
			r.ConnectionID = f.text()
		case auditIMSI:
			r.IMSI = ident.IMSI(f.text())
		case auditSIM:
			r.SIMID = f.text()
		case auditRelay:
			r.RelayID = manager.RelayID(f.text())
		case auditSource:
			r.Source = f.addrPort()
		case auditDestination:
			r.Destination = f.addrPort()
		case auditPort:
			r.DevicePort = uint16(min(f.uint(), 65535))
		case auditTLS:
			r.TLS = f.uint() != 0
		case auditCause:
			r.Cause = manager.Cause(f.text())
		case auditUp:
			r.Up = f.uint()
		case auditDown:
			r.Down = f.uint()
		}
	}
	return r, f.err("audit record")
}
