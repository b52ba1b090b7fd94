package rpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	pb "github.com/simreach/simreach/manager/rpc/relayv1"
)

var comparable = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

// message returns the message of a frame that is all there is.
func message(t testing.TB, frame []byte) []byte {
	t.Helper()
	if len(frame) < lengthSize || int(binary.BigEndian.Uint32(frame)) != len(frame)-lengthSize {
		t.Fatalf("frame %x has another length than it says", frame)
	}
	return frame[lengthSize:]
}

func addrPortOf(b []byte) (a netip.AddrPort) {
	if len(b) > 2 {
		ip, _ := netip.AddrFromSlice(b[:len(b)-2])
		a = netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[len(b)-2:]))
	}
	return a
}

// routeOf reads a route with protoc's code.
func routeOf(m *pb.Route) manager.Route {
	r := manager.Route{
		EntryID: manager.EntryID(m.GetEntryId()), ConnectionID: m.GetConnectionId(), Expires: time.UnixMilli(m.GetExpiresMs()).UTC(),
		Device: addrPortOf(m.GetDevice()), InnerID: manager.RelayID(m.GetInnerId()), Inner: addrPortOf(m.GetInner()), Ticket: m.GetTicket(),
		OperatorID: manager.OperatorID(m.GetOperatorId()), IMSI: ident.IMSI(m.GetImsi()), SIMID: m.GetSimId(), TLS: m.GetTls(),
		CredentialID: manager.CredentialID(m.GetCredentialId()), ProxyProtocol: m.GetProxyProtocol(),
	}
	for _, p := range m.GetRanges() {
		ip, _ := netip.AddrFromSlice(p[:len(p)-1])
		r.Ranges = append(r.Ranges, netip.PrefixFrom(ip, int(p[len(p)-1])))
	}
	return r
}

// Every field travels, and protoc's code reads the same as ours, and writes what ours
// reads.
func TestQuestionsTravel(t *testing.T) {
	var want question
	fill(reflect.ValueOf(&want.ResolveRequest).Elem())
	want.id, want.trace = 1<<40, "00-trace"
	m := message(t, appendQuestion(nil, want.id, &want.ResolveRequest, want.trace))
	got, err := parseQuestion(m)
	if d := cmp.Diff(want, got, comparable, cmp.AllowUnexported(question{})); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	var g pb.ResolveRequest
	if err := proto.Unmarshal(m, &g); err != nil {
		t.Fatal(err)
	}
	if g.GetId() != want.id || addrPortOf(g.GetHit()) != want.Hit || addrPortOf(g.GetClient()) != want.Client ||
		g.GetConnectionId() != want.ConnectionID || g.GetTarget() != want.Target || g.GetTraceparent() != want.trace {
		t.Errorf("protoc's code reads %v; want %+v", &g, want)
	}
	again, err := proto.Marshal(&g)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseQuestion(again); err != nil || got != want {
		t.Errorf("of protoc's code %+v, %v; want %+v", got, err, want)
	}
}

func TestAnswersTravel(t *testing.T) {
	var want manager.Route
	fill(reflect.ValueOf(&want).Elem())
	want.Device = netip.MustParseAddrPort("10.0.0.7:22")
	want.Ranges = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	m := message(t, appendRoute(nil, 7, &want))
	id, got, failure, err := parseAnswer(m)
	if d := cmp.Diff(want, got, comparable); id != 7 || failure != nil || err != nil || d != "" {
		t.Errorf("%d, %v, %v (-want +got):\n%s", id, failure, err, d)
	}
	var g pb.ResolveResponse
	if err := proto.Unmarshal(m, &g); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, routeOf(g.GetRoute()), comparable); g.GetId() != 7 || d != "" {
		t.Errorf("by protoc's code %d (-want +got):\n%s", g.GetId(), d)
	}
	again, err := proto.Marshal(&g)
	if err != nil {
		t.Fatal(err)
	}
	if id, got, _, err := parseAnswer(again); id != 7 || err != nil || cmp.Diff(want, got, comparable) != "" {
		t.Errorf("of protoc's code %d, %+v, %v; want %+v", id, got, err, want)
	}
	// The longest there may be.
	for len(want.Ranges) < 64 {
		want.Ranges = append(want.Ranges, want.Ranges[1])
	}
	if n := len(appendRoute(nil, 7, &want)); n > maxRoute/2 {
		t.Errorf("%d bytes; want room below %d", n, maxRoute)
	}

	e := manager.NewError(manager.CodeUnknownEntry, netip.MustParseAddrPort("192.0.2.1:1"), "x")
	m = message(t, appendFailure(nil, 8, e))
	id, _, failure, err = parseAnswer(m)
	if id != 8 || err != nil || failure == nil || failure.Code != e.Code || failure.Error() != e.Error() {
		t.Errorf("%d, %v, %v; want %v", id, failure, err, e)
	}
	if err := proto.Unmarshal(m, &g); err != nil || g.GetFailure().GetCode() != string(e.Code) || len(g.GetFailure().GetArgs()) != 2 {
		t.Errorf("by protoc's code %v, %v", &g, err)
	}
}

// Frames come out as they went in however the bytes come; what is too long does not.
func TestFrames(t *testing.T) {
	var want [][]byte
	var stream []byte
	for _, n := range []int{0, 1, 3, 5000, readSize, 0, readSize + 1, 200} {
		b, begin := beginFrame(stream)
		m := bytes.Repeat([]byte{byte(n)}, n)
		want = append(want, m)
		stream = endFrame(append(b, m...), begin)
	}
	for name, r := range map[string]func() *frames{
		"whole": func() *frames { return newFrames(bytes.NewReader(stream), maxRoute) },
		"bytes": func() *frames { return newFrames(iotest.OneByteReader(bytes.NewReader(stream)), maxRoute) },
		"half":  func() *frames { return newFrames(iotest.HalfReader(bytes.NewReader(stream)), maxRoute) },
		"error": func() *frames { return newFrames(iotest.DataErrReader(bytes.NewReader(stream)), maxRoute) },
	} {
		f := r()
		var got [][]byte
		for f.fill() == nil {
			for {
				m, ok, err := f.next()
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if !ok {
					break
				}
				got = append(got, append([]byte{}, m...))
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: (-want +got):\n%s", name, d)
		}
	}
	f := newFrames(bytes.NewReader(stream), readSize)
	err := f.fill()
	for err == nil {
		var ok bool
		if _, ok, err = f.next(); !ok && err == nil {
			err = f.fill()
		}
	}
	if !errors.Is(err, errMessage) {
		t.Errorf("a frame that is too long: %v; want errMessage", err)
	}
}

// What a peer sends is read, or refused, without harm; what is read is read by protoc's
// code too, as the same, and reads the same when written again.
func FuzzQuestions(f *testing.F) {
	var q manager.ResolveRequest
	fill(reflect.ValueOf(&q).Elem())
	var r manager.Route
	fill(reflect.ValueOf(&r).Elem())
	both := appendRoute(appendPing(appendQuestion(nil, 5, &q, "trace")), 5, &r)
	f.Add(both)
	f.Add(appendFailure(both, 6, manager.NewError(manager.CodeUnknownEntry, "x")))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 2, 0x0a, 0x05})
	f.Fuzz(func(t *testing.T, b []byte) {
		in := newFrames(iotest.HalfReader(bytes.NewReader(b)), maxQuestion)
		for in.fill() == nil {
			for {
				m, ok, err := in.next()
				if err != nil {
					if !errors.Is(err, errMessage) {
						t.Fatal(err)
					}
					return
				}
				if !ok {
					break
				}
				checkMessage(t, m)
			}
		}
	})
}

func checkMessage(t *testing.T, m []byte) {
	if q, err := parseQuestion(m); err == nil {
		again, err := parseQuestion(message(t, appendQuestion(nil, q.id, &q.ResolveRequest, q.trace)))
		if err != nil || again != q {
			t.Errorf("%+v is read again as %+v, %v", q, again, err)
		}
		var g pb.ResolveRequest
		if err := proto.Unmarshal(m, &g); err == nil && (g.GetId() != q.id || g.GetTarget() != q.Target || addrPortOf(g.GetHit()) != q.Hit) {
			t.Errorf("protoc's code reads %v; want %+v", &g, q)
		}
	} else if !errors.Is(err, errMessage) {
		t.Error(err)
	}
	if id, r, failure, err := parseAnswer(m); err == nil {
		frame := appendRoute(nil, id, &r)
		if failure != nil {
			frame = appendFailure(nil, id, failure)
		}
		id2, r2, failure2, err := parseAnswer(message(t, frame))
		if err != nil || id2 != id || cmp.Diff(r, r2, comparable) != "" || (failure == nil) != (failure2 == nil) {
			t.Errorf("%d, %+v is read again as %d, %+v, %v", id, r, id2, r2, err)
		}
	} else if !errors.Is(err, errMessage) {
		t.Error(err)
	}
}

// Writing allocates nothing, and reading one copy of the texts.
func TestQuestionAllocations(t *testing.T) {
	q := manager.ResolveRequest{ConnectionID: "c", Hit: netip.MustParseAddrPort("192.0.2.1:40000"), Client: netip.MustParseAddrPort("198.51.100.7:5555")}
	buf := make([]byte, 0, 4096)
	n := testing.AllocsPerRun(100, func() {
		b := appendQuestion(buf, 9, &q, "")
		if _, err := parseQuestion(b[lengthSize:]); err != nil {
			t.Fatal(err)
		}
	})
	if n > 1 {
		t.Errorf("%v allocations; want at most 1", n)
	}
}

func BenchmarkQuestion(b *testing.B) {
	q := manager.ResolveRequest{ConnectionID: "01JDABCDEFGHJKMNPQRSTVWXYZ", Hit: netip.MustParseAddrPort("192.0.2.1:40000"), Client: netip.MustParseAddrPort("198.51.100.7:5555")}
	r := manager.Route{
		EntryID: "01JDABCDEFGHJKMNPQRSTVWXYZ", ConnectionID: q.ConnectionID, OperatorID: "OP0000000001", IMSI: "001010000000001", Expires: at,
		Ranges: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, Device: q.Client, Inner: q.Hit, InnerID: "inner1", Ticket: string(make([]byte, 500)),
	}
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		f := appendQuestion(buf, 9, &q, "")
		if _, err := parseQuestion(f[lengthSize:]); err != nil {
			b.Fatal(err)
		}
		f = appendRoute(buf, 9, &r)
		if _, _, _, err := parseAnswer(f[lengthSize:]); err != nil {
			b.Fatal(err)
		}
	}
}
