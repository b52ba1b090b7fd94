package rpc

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	"github.com/simreach/simreach/manager"
	pb "github.com/simreach/simreach/manager/rpc/relayv1"
)

var at = time.Date(2026, 3, 4, 5, 6, 7, 89e6, time.UTC)

// fill gives every field a value that is not its zero, so that a field that was
// forgotten on the way is missing.
func fill(v reflect.Value) {
	switch v.Interface().(type) {
	case netip.Addr:
		v.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.7")))
		return
	case netip.AddrPort:
		v.Set(reflect.ValueOf(netip.MustParseAddrPort("[2001:db8::1]:4711")))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.MustParsePrefix("198.51.100.0/24")))
		return
	case time.Time:
		v.Set(reflect.ValueOf(at))
		return
	case time.Duration:
		v.SetInt(int64(2 * time.Second))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(3)
	case reflect.Uint8:
		v.SetUint(1)
	case reflect.Uint16, reflect.Uint64:
		v.SetUint(5)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]uint64{"source-denied": 2}))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	}
}

// through encodes and decodes a message as the wire does.
func through[M proto.Message](t *testing.T, m M) M {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	out := m.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out.(M)
}

func check[T any](t *testing.T, travel func(T) (T, error), ignore ...string) {
	t.Helper()
	var want T
	fill(reflect.ValueOf(&want).Elem())
	got, err := travel(want)
	if err != nil {
		t.Fatalf("%T: %v", want, err)
	}
	opts := []cmp.Option{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})}
	if len(ignore) > 0 {
		opts = append(opts, cmpopts.IgnoreFields(want, ignore...))
	}
	if d := cmp.Diff(want, got, opts...); d != "" {
		t.Errorf("%T changed on the way (-want +got):\n%s", want, d)
	}
}

func TestEveryFieldTravels(t *testing.T) {
	check(t, func(r manager.Relay) (manager.Relay, error) { return helloFromPB(through(t, helloToPB(r))) })
	check(t, func(l manager.RelayLoad) (manager.RelayLoad, error) { return loadFromPB(through(t, loadToPB(l))), nil })
	check(t, func(c manager.Credential) (manager.Credential, error) {
		return credentialFromPB(through(t, credentialToPB(c))), nil
	})
	check(t, func(p manager.Ping) (manager.Ping, error) { return pingFromPB(through(t, pingToPB(p))) })
	check(t, func(a manager.Acknowledgement) (manager.Acknowledgement, error) {
		a.Failures = nil
		return ackFromPB(a.Session, through(t, ackToPB(a))), nil
	}, "Failures")
	check(t, func(ps []manager.Place) ([]manager.Place, error) {
		return placesFromPB(through(t, &pb.Places{Places: placesToPB(ps)}).GetPlaces())
	})
	for _, k := range []manager.CommandKind{
		manager.CommandSnapshot, manager.CommandOpen, manager.CommandClose, manager.CommandCredential, manager.CommandPing, manager.CommandDrain, manager.CommandCut, manager.CommandReview,
	} {
		var c manager.Command
		fill(reflect.ValueOf(&c).Elem())
		want := manager.Command{Session: c.Session, ID: c.ID, Kind: k}
		switch k {
		case manager.CommandSnapshot, manager.CommandOpen:
			want.Openings = c.Openings
		case manager.CommandClose:
			want.EntryID, want.Reason = c.EntryID, c.Reason
		case manager.CommandCredential:
			want.CredentialID = c.CredentialID
		case manager.CommandCut:
			want.IMSI, want.Device = c.IMSI, c.Device
		case manager.CommandPing:
			want.Ping = c.Ping
		}
		got, err := commandFromPB(c.Session, through(t, commandToPB(want)))
		if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); err != nil || d != "" {
			t.Errorf("%s: %v (-want +got):\n%s", k, err, d)
		}
	}
}
