package audit

import (
	"crypto/sha256"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/simreach/simreach/manager"
)

// connKey stands for a connection's ID in little memory.
type connKey [16]byte

func keyOf(connection string) connKey {
	if id, err := ulid.ParseStrict(connection); err == nil {
		return connKey(id)
	}
	sum := sha256.Sum256([]byte(connection))
	return connKey(sum[:16])
}

// living is a connection that has begun and is not over.
type living struct {
	index   uint64 // of the entry with its ACCESS
	decided bool   // it has CONNECTED, DENIED or REFUSED
}

// connections are those that are not over, as the log tells.
type connections map[connKey]living

// note follows one record.
func (c connections) note(t tag, kind manager.AuditType, key connKey, index uint64) {
	switch kind {
	case manager.AuditAccess:
		c[key] = living{index, t == tagDecided}
	case manager.AuditConnected, manager.AuditDenied, manager.AuditRefused:
		if l, ok := c[key]; ok {
			l.decided = true
			c[key] = l
		}
	case manager.AuditClosed:
		delete(c, key)
	}
}

// upTo returns the connections whose ACCESS is not behind an index, in its order.
func (c connections) upTo(index uint64) []living {
	var out []living
	for _, l := range c {
		if l.index <= index {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b living) int {
		if a.index < b.index {
			return -1
		}
		return 1
	})
	return out
}

// endings returns the records that end a connection whose relay died. Their IDs are
// always the same, so that doing it twice does it once.
func endings(access manager.AuditRecord, decided bool, at time.Time) []manager.AuditRecord {
	make1 := func(t manager.AuditType) manager.AuditRecord {
		r := access
		r.Type, r.At, r.Cause = t, at.UTC().Truncate(time.Millisecond), manager.CauseStopped
		sum := sha256.Sum256([]byte(string(t) + " " + access.ID))
		var id ulid.ULID
		_ = id.SetTime(ulid.Timestamp(access.At)) // fails in the year 10889
		copy(id[6:], sum[:10])
		r.ID = id.String()
		return r
	}
	if decided {
		return []manager.AuditRecord{make1(manager.AuditClosed)}
	}
	return []manager.AuditRecord{make1(manager.AuditDenied), make1(manager.AuditClosed)}
}
