package audit

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/simreach/simreach/manager"
)

func full() manager.AuditRecord {
	r := record(manager.AuditClosed, "01J0000000000000000000000A")
	r.SIMID, r.Cause, r.TLS, r.Up, r.Down = "8942310000000000001", manager.CauseIdle, true, 1<<63, 7
	r.Source, r.Destination = netip.MustParseAddrPort("[2001:db8::1]:65535"), netip.MustParseAddrPort("10.0.0.1:1")
	return r
}

func TestCodec(t *testing.T) {
	empty := manager.AuditRecord{At: record("", "").At}
	zone := full()
	zone.Source = netip.MustParseAddrPort("[fe80::1%eth0]:1")
	for _, want := range []manager.AuditRecord{full(), record(manager.AuditAccess, "x"), empty, zone} {
		tg, got, err := parseEntry(appendEntry(nil, tagDecided, &want))
		if d := cmp.Diff(want, got, equal); err != nil || tg != tagDecided || d != "" {
			t.Errorf("%v, tag %d (-want +got):\n%s", err, tg, d)
		}
	}
	r := full()
	whole := appendEntry(nil, tagRecord, &r)
	for n := range whole {
		if _, _, err := parseEntry(whole[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are an entry", n, len(whole))
		}
		flipped := append([]byte(nil), whole...)
		flipped[n] ^= 0x10
		if _, _, err := parseEntry(flipped); err == nil {
			t.Errorf("an entry with byte %d changed is an entry", n)
		}
	}
}

// FuzzEntry: no bytes make the parser panic, and what it reads it writes again.
func FuzzEntry(f *testing.F) {
	r := full()
	f.Add(appendEntry(nil, tagRecord, &r))
	f.Add([]byte{1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		tg, r, err := parseEntry(b)
		if err != nil {
			return
		}
		t2, r2, err := parseEntry(appendEntry(nil, tg, &r))
		if err != nil || t2 != tg || cmp.Diff(r, r2, equal) != "" {
			t.Errorf("read %+v, written and read again %+v, %v", r, r2, err)
		}
	})
}
