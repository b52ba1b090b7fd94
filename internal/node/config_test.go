package node

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/nf/udm"
	"github.com/simreach/simreach/ue"
)

func sample(t *testing.T, role string) Role {
	t.Helper()
	r, err := Load(role, filepath.Join("testdata", role+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// write puts text into a file of its own.
func write(t *testing.T, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "role.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// validate calls Validate on every configuration inside v.
func validate(t *testing.T, at string, v reflect.Value) (seen int) {
	t.Helper()
	if v.CanInterface() {
		if c, ok := v.Interface().(interface{ Validate() error }); ok && v.Kind() == reflect.Struct {
			seen++
			if err := c.Validate(); err != nil {
				t.Errorf("%s: %v", at, err)
			}
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			seen += validate(t, at, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if tag := f.Tag.Get("yaml"); tag != "" && tag != "-" {
				seen += validate(t, at+"."+tag, v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			seen += validate(t, at, v.Index(i))
		}
	}
	return seen
}

// TestSamples: each role has an example under testdata that people may start from;
// it loads, its parts accept it, and writing it out and reading it gives the same.
func TestSamples(t *testing.T) {
	for role := range Roles() {
		r := sample(t, role)
		if n := validate(t, role, reflect.ValueOf(r)); n == 0 {
			t.Errorf("%s: nothing to validate", role)
		}
		text, err := Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Load(role, write(t, text))
		if err != nil {
			t.Errorf("%s: written out, it does not load: %v\n%s", role, err, text)
			continue
		}
		// An empty list written out comes back as an empty list: equal in YAML.
		second, err := Marshal(again)
		if err != nil || !bytes.Equal(text, second) {
			t.Errorf("%s: written out and read, it differs: %v\n%s\n%s", role, err, text, second)
		}
	}
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) != len(Roles()) {
		t.Errorf("%d samples for %d roles: %v", len(files), len(Roles()), err)
	}
}

// TestSamplesFitTogether: the addresses by which the samples know each other.
func TestSamplesFitTogether(t *testing.T) {
	m, s, a := sample(t, "manager").(*Manager), sample(t, "smf").(*SMF), sample(t, "amf").(*AMF)
	u, f, g := sample(t, "udm").(*UDM), sample(t, "upf").(*UPF), sample(t, "gnb").(*GNB)
	in, out, e := sample(t, "relay-inner").(*Inner), sample(t, "relay-outer").(*Outer), sample(t, "ue").(*UE)
	for what, pair := range map[string][2]any{
		"UDM of the AMF":         {a.UDM, "http://" + u.SBI.String()},
		"UDM of the SMF":         {s.UDM, "http://" + u.SBI.String()},
		"SMF of the AMF":         {a.SMF, "http://" + s.SBI.String()},
		"AMF of the SMF":         {s.AMFs[string(a.AMF.NFID)], "http://" + a.SBI.String()},
		"SMF of the manager":     {m.Events.SMF, "http://" + s.SBI.String()},
		"UPF of the SMF":         {s.SMF.UPFs[0].N4, f.N4},
		"UPF's name":             {s.SMF.UPFs[0].Name, f.UPF.NodeID},
		"UPF's N3":               {f.UPF.N3Address, f.N3.Addr()},
		"inner relay's UPF":      {m.Manager.InnerRelays[0].UPFs[0], f.UPF.NodeID},
		"inner relay":            {string(m.Manager.InnerRelays[0].ID), in.Relay.ID},
		"AMF of the gNB":         {g.GNB.AMFs[0], a.N2.Local},
		"gNB of the UE":          {e.GNBs[0].Server, g.Air},
		"gNB's name":             {e.UEs[0].UE.GNBs[0], g.GNB.Name},
		"K":                      {udm.Secret("465b5ce8b199b49faa5f0a2ee238a6bc"), u.UDM.Subscribers[0].K},
		"SUPI":                   {e.UEs[0].UE.SUPI, u.UDM.Subscribers[0].SUPI},
		"SIM":                    {m.Manager.Subscribers[0].IMSI, string(e.UEs[0].UE.SUPI.IMSI())},
		"manager of inner relay": {in.Control.Manager, m.RPC.Listen},
		"manager of outer relay": {out.Control.Manager, m.RPC.Listen},
		"secret of inner relay":  {in.Control.Secret, m.RPC.Secret},
		"secret of outer relay":  {out.Control.Secret, m.RPC.Secret},
		"UDM of the manager":     {m.UDM, "http://" + u.SBI.String()},
		"SMF it commands":        {m.SMF, "http://" + s.SBI.String()},
		"charging of the SMF":    {s.CHF, "http://" + m.Charging.String()},
		"equipment events":       {u.EquipmentEvents, "http://" + m.Charging.String()},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: %v and %v", what, pair[0], pair[1])
		}
	}
}

// TestCommentedExamplesLoad: what stands in a sample as a comment that may be taken in.
func TestCommentedExamplesLoad(t *testing.T) {
	example := regexp.MustCompile(`(?m)^# ([a-z_]+: .*)$`)
	seen := 0
	for role := range Roles() {
		text, err := os.ReadFile(filepath.Join("testdata", role+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range example.FindAllSubmatch(text, -1) {
			seen++
			if _, err := Load(role, write(t, m[1])); err != nil {
				t.Errorf("%s: %s: %v", role, m[1], err)
			}
		}
	}
	if seen < 6 {
		t.Errorf("%d examples found", seen)
	}
}

// TestStaticDirectoryFromAFile: the devices of the file are where it says, and no SMF
// is listened to.
func TestStaticDirectoryFromAFile(t *testing.T) {
	load := func(text string) (manager.Directory, error) {
		t.Helper()
		r, err := Load("manager", write(t, []byte("static_directory: "+text+"\n")))
		if err != nil {
			t.Fatal(err)
		}
		d, parts, err := r.(*Manager).directory(slog.New(slog.DiscardHandler), func(what, at string) (net.Listener, error) {
			return nil, fmt.Errorf("%s listens on %s", what, at)
		})
		if len(parts) != 0 {
			t.Errorf("%d parts to run", len(parts))
		}
		return d, err
	}
	d, err := load(`[{imsi: "001010000000001", count: 2, upf: upf1, address: 10.45.0.1}]`)
	if err != nil {
		t.Fatal(err)
	}
	want := manager.Attachment{UPF: "upf1", Address: netip.MustParseAddr("10.45.0.2")}
	if got, err := d.Lookup(t.Context(), "001010000000002"); err != nil || got != want {
		t.Errorf("the second device is at %v, %v; want %v", got, err, want)
	}
	if _, err := load(`[{imsi: "001010000000001", upf: upf1}]`); err == nil {
		t.Error("a device without an address is accepted")
	}
	if _, err := load(`[]`); err == nil || !strings.Contains(err.Error(), "SMF events listens") {
		t.Errorf("an empty list: %v; want the SMF's events", err)
	}
}

// TestKeysSurvive: keys that look like numbers, and are hidden from every other
// printer, arrive as they left.
func TestKeysSurvive(t *testing.T) {
	for _, text := range []string{
		"00112233445566778899001122334455", "12345678901234567890123456789012", "0000000000000000000000000000e123",
		"1e000000000000000000000000000001", "0b000000000000000000000000000001", "465b5ce8b199b49faa5f0a2ee238a6bc", "ffffffffffffffffffffffffffffffff",
	} {
		var k ue.Key
		if err := k.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		e := &UE{UEs: []UEDevice{{Name: "a", UE: ue.Config{SUPI: "imsi-001010000000001", K: k, OPc: k, HomeKey: ue.HexBytes(k[:])}}}}
		var gotUE *UE
		reload(t, "ue", e, func(r Role) { gotUE = r.(*UE) })
		if got := gotUE.UEs[0].UE; got.K != k || got.OPc != k || !bytes.Equal(got.HomeKey, k[:]) || got.OP != (ue.Key{}) {
			t.Errorf("the UE's keys %s arrive as %x, %x, %x, %x", text, got.K[:], got.OPc[:], []byte(got.HomeKey), got.OP[:])
		}
		d := &UDM{UDM: udm.Config{PLMN: ident.PLMN{MCC: "001", MNC: "01"}, Subscribers: []udm.Subscriber{{K: udm.Secret(text), OPc: udm.Secret(text)}},
			HomeKeys: []udm.HomeKey{{ID: 1, Scheme: "A", PrivateKey: udm.Secret(text + text)}}}}
		var gotUDM *UDM
		reload(t, "udm", d, func(r Role) { gotUDM = r.(*UDM) })
		if s := gotUDM.UDM; s.Subscribers[0].K != udm.Secret(text) || s.Subscribers[0].OPc != udm.Secret(text) || s.HomeKeys[0].PrivateKey != udm.Secret(text+text) {
			t.Errorf("the UDM's key %s does not arrive", text)
		}
	}
	m := &Manager{}
	m.RPC.Secret = "0123"
	m.Manager.Subscribers = append(m.Manager.Subscribers, sample(t, "manager").(*Manager).Manager.Subscribers...)
	reload(t, "manager", m, func(r Role) {
		if got := r.(*Manager); got.RPC.Secret != "0123" || got.Manager.Subscribers[0] != m.Manager.Subscribers[0] {
			t.Errorf("the manager's secret arrives as %q, its subscriber as %v", got.RPC.Secret, got.Manager.Subscribers[0])
		}
	})
}

func reload(t *testing.T, name string, r Role, use func(Role)) {
	t.Helper()
	b, err := Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load(name, write(t, b))
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	use(got)
}

// TestConfigurationErrorsHaveAPlace, and never the value: it may be a key.
func TestConfigurationErrorsHaveAPlace(t *testing.T) {
	for _, c := range []struct{ role, text, want string }{
		{"amf", "sbi: 127.0.0.1:1\nnf: x\n", `:2:1: unknown field "nf"`},
		{"amf", "amf:\n  nf_id: x\n  plmn: 001-01\n", `:3:3: unknown field "plmn"`},
		{"ue", "ues:\n  - name: a\n    ue:\n      key: x\n", `:4:7: unknown field "key"`},
		{"ue", "ues:\n  - ue:\n      k: 465b5ce8\n", ":3:10: "},
		{"udm", "udm: {plmn: 1}\n", ":1:13: "},
		{"gnb", "gnb: {n3: here}\n", ":1:11: "},
		{"smf", "smf: [x]\n", ":1:6: "},
		{"upf", "n6: {dnn: x}\n", ":1:5: "},
		{"relay-inner", "relay: {dial_timeout: soon}\n", ":1:23: "},
		{"relay-outer", "relay: {ports: {first: 70000}}\n", ":1:24: "},
		{"manager", "api: {listen: \"open\n", ":1:15: "},
		// The YAML library would read an octal number, and 1, and the first of two files.
		{"manager", "manager:\n  subscribers:\n    - {imsi: 001010000000001}\n", ":3:14: imsi is not a text (put it in quotes)"},
		{"manager", "rpc: {secret: 4653}\n", ":1:15: secret is not a text (put it in quotes)"},
		{"manager", "manager: {default_duration: 30}\n", ":1:29: default_duration is not a duration (write a number with a unit, such as 100ms, 10s or 2m)"},
		{"upf", "upf: {n1: 1.5}\n", ":1:11: n1 is not a whole number (write decimal digits)"},
		{"upf", "upf: {n1: 010}\n", ":1:11: n1 is not a whole number (write decimal digits)"},
		{"upf", "upf: {network_instances: internet}\n", ":1:26: network_instances is not a list (put it in [ ])"},
		{"upf", "upf: {n1: &x 1}\n", ":1:11: anchors, aliases and merge keys are not supported"},
		{"upf", "upf: {n1: 1}\n---\nupf: {n1: 2}\n", ":3:1: more than one YAML document"},
	} {
		path := write(t, []byte(c.text))
		_, err := Load(c.role, path)
		if err == nil || !strings.HasPrefix(err.Error(), "configuration "+path+c.want) || strings.Contains(err.Error(), "465b") {
			t.Errorf("%s %q\nwant %s\ngot  %v", c.role, c.text, c.want, err)
		}
	}
	for _, text := range []string{"", "# nothing yet\n"} {
		if _, err := Load("amf", write(t, []byte(text))); err != nil {
			t.Errorf("%q: %v, want an empty configuration", text, err)
		}
	}
	if _, err := Load("pgw", "x"); err == nil {
		t.Error("an unknown role was loaded")
	}
	if _, err := Load("amf", filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("want os.ErrNotExist, got %v", err)
	}
}
