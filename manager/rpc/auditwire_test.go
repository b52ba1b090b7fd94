package rpc

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/simreach/simreach/manager"
	pb "github.com/simreach/simreach/manager/rpc/relayv1"
)

func auditExamples() []manager.AuditRecord {
	var full manager.AuditRecord
	fill(reflect.ValueOf(&full).Elem())
	short := manager.AuditRecord{ID: "i", Type: manager.AuditAccess, At: time.UnixMilli(1).UTC(), Source: netip.MustParseAddrPort("192.0.2.1:1")}
	return []manager.AuditRecord{full, short, full}
}

// Every field travels, and protoc's code reads the same.
func TestAuditTravels(t *testing.T) {
	want := auditExamples()
	var b []byte
	for i := range want {
		b = appendAudit(b, &want[i])
	}
	got, err := parseAudit(b)
	if d := cmp.Diff(want, got, comparable); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	for i := 0; len(b) > 0; i++ {
		m, n := protowire.ConsumeBytes(b)
		b = b[n:]
		var g pb.AuditRecord
		if err := proto.Unmarshal(m, &g); err != nil {
			t.Fatal(err)
		}
		w := want[i]
		if g.GetId() != w.ID || g.GetType() != string(w.Type) || g.GetAtMs() != w.At.UnixMilli() || g.GetOperatorId() != string(w.OperatorID) ||
			g.GetEntryId() != string(w.EntryID) || g.GetConnectionId() != w.ConnectionID || g.GetImsi() != string(w.IMSI) || g.GetSimId() != w.SIMID ||
			g.GetRelayId() != string(w.RelayID) || addrPortOf(g.GetSource()) != w.Source || addrPortOf(g.GetDestination()) != w.Destination ||
			g.GetDevicePort() != uint32(w.DevicePort) || g.GetTls() != w.TLS || g.GetCause() != string(w.Cause) || g.GetUp() != w.Up || g.GetDown() != w.Down {
			t.Errorf("protoc's code reads %v; want %+v", &g, w)
		}
		again, err := proto.Marshal(&g)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := parseAuditRecord(again); err != nil || cmp.Diff(w, r, comparable) != "" {
			t.Errorf("of protoc's code %+v, %v; want %+v", r, err, w)
		}
	}
}

// A call has no more records than a relay hands over at one time, however small they are.
func TestManyAuditRecords(t *testing.T) {
	if rs, err := parseAudit(make([]byte, maxRecords)); err != nil || len(rs) != maxRecords {
		t.Errorf("%d records, %v; want %d", len(rs), err, maxRecords)
	}
	if rs, err := parseAudit(make([]byte, maxRecords+1)); !errors.Is(err, errMessage) {
		t.Errorf("one more: %d records, %v; want errMessage", len(rs), err)
	}
}

func FuzzAudit(f *testing.F) {
	var all []byte
	for _, r := range auditExamples() {
		all = appendAudit(all, &r)
	}
	f.Add(all)
	f.Add(all[:len(all)-1])
	f.Add([]byte{0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		rs, err := parseAudit(b)
		if err != nil {
			if !errors.Is(err, errMessage) {
				t.Error(err)
			}
			return
		}
		var again []byte
		for i := range rs {
			again = appendAudit(again, &rs[i])
		}
		rs2, err := parseAudit(again)
		if err != nil || len(rs) != len(rs2) || (len(rs) > 0 && cmp.Diff(rs, rs2, comparable) != "") {
			t.Errorf("%+v is read again as %+v, %v", rs, rs2, err)
		}
	})
}

func BenchmarkAudit(b *testing.B) {
	r := auditExamples()[0]
	r.ID, r.ConnectionID, r.EntryID = "01JDABCDEFGHJKMNPQRSTVWXYZ", "01JDABCDEFGHJKMNPQRSTVWXYZ", "01JDABCDEFGHJKMNPQRSTVWXYZ"
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		buf = buf[:0]
		for range 200 {
			buf = appendAudit(buf, &r)
		}
		if rs, err := parseAudit(buf); err != nil || len(rs) != 200 {
			b.Fatal(len(rs), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/200, "ns/record")
}
