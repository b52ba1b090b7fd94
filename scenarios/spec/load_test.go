package spec_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/scenarios/spec"
)

// base is a scenario without UEs; what tests add starts at line 5.
const base = `name: x
upfs:
  - {name: upf1, pools: [{cidr: 10.45.0.0/16}]}
gnbs: [{name: gnb1}]
`

const ue = `ues: [{name: a, imsi: "001010000000001"`

// TestWhatIsWrongIsToldWithItsPlace: every rule, as a person sees it.
func TestWhatIsWrongIsToldWithItsPlace(t *testing.T) {
	add := func(s string) string { return base + s }
	swap := func(old, with string) string {
		if !strings.Contains(base, old) {
			t.Fatalf("base has no %q", old)
		}
		return strings.Replace(base, old, with, 1)
	}
	for _, c := range []struct{ text, want string }{
		// The text and the YAML.
		{"", "1:1: no scenario in the file (start with 'name: my-scenario')"},
		{"# nothing\n", "1:1: no scenario in the file (start with 'name: my-scenario')"},
		{"[]\n", "1:1: the document is not a mapping (start with 'name: my-scenario')"},
		{"- a\n- b\n", "1:1: the document is not a mapping (start with 'name: my-scenario')"},
		{"null\n", "1:1: the document is not a mapping (start with 'name: my-scenario')"},
		{add("---\nname: y\n"), "5:1: more than one YAML document (keep one, without '---' between)"},
		{"%YAML 1.2\n---\n" + base, "1:1: directives are not supported (leave out the line that begins with '%')"},
		{"covers: [R1]]\n", "1:13: a bracket closes that none opened (mend the YAML syntax)"},
		{add("description: caf\xe9\n"), "5:17: the text is not UTF-8 (save the file as UTF-8)"},
		{add("description: é\x00\n"), `5:15: control character U+0000 (remove it, or write it as "\u0000" in double quotes)`},
		{add("\ttimeout: 1m\n"), "5:1: found character '\t' that cannot start any token (mend the YAML syntax)"},
		{"name: \"open\n", "1:7: could not find end character of double-quoted text (mend the YAML syntax)"},
		{add("name: y\n"), `5:1: mapping key "name" already defined at [1:1] (mend the YAML syntax)`},
		{add("steps: []\nsteps: []\n"), `6:1: mapping key "steps" already defined at [5:1] (mend the YAML syntax)`},
		{"name: &n x\n", "1:7: anchors, aliases and merge keys are not supported (write the value out, or use 'count' for many UEs)"},
		{"name: *n\n", "1:7: anchors, aliases and merge keys are not supported (write the value out, or use 'count' for many UEs)"},
		{"<<: {name: x}\n", "1:1: anchors, aliases and merge keys are not supported (write the value out, or use 'count' for many UEs)"},
		{"name: !!str x\n", "1:7: tags are not supported (leave the tag out)"},
		{"? name\n: x\n", "1:1: keys marked with '?' are not supported (write 'key: value')"},
		{"covers: [" + strings.Repeat("R1, ", 1<<14) + "]\n", "1:65540: the scenario is too long (use 'count' for many UEs, or make two scenarios of it)"},
		{"covers: " + strings.Repeat("[", 33), "1:41: lists and mappings nest too deep (at most 32 levels)"},
		{strings.Repeat("- ", 33), "1:65: lists and mappings nest too deep (at most 32 levels)"},
		{strings.ReplaceAll(add("wrong: 3\n"), "\n", "\r\n"), `5:1: unknown field "wrong" (there are name, description, covers, needs, timeout, plmn, slices, dnns, security, boundary, policy, upfs, inner_relays, outer_relays, gnbs, ues, clients, external, steps)`},

		// Types.
		{add("ues: [{name: a, imsi: 001010000000001}]\n"), `5:23: imsi is not a text (put it in quotes: "001010000000001")`},
		{add("slices: [1]\n"), `5:10: slices[0] is not a text (put it in quotes: "1")`},
		{add("description: {a: b}\n"), "5:14: description is not a text (write one text)"},
		{add(ue + ", count: 1.5}]\n"), "5:49: count is not a whole number (write decimal digits)"},
		{add(ue + ", count: \"3\"}]\n"), "5:49: count is not a whole number (write decimal digits)"},
		{add(ue + ", count: 010}]\n"), "5:49: count is not a whole number (write decimal digits)"},
		{add(ue + ", unknown: \"yes\"}]\n"), "5:51: unknown is not true or false (write true or false)"},
		{add(ue + ", services: [{kind: http, port: 70000}]}]\n"), "5:72: port is not in range (0 to 65535)"},
		{add(ue + ", services: [{kind: http, port: -1}]}]\n"), "5:72: port is not in range (0 to 65535)"},
		{add(ue + ", gnb: [x]}]\n"), `5:42: unknown field "gnb" (there are name, count, imsi, sim_id, key, opc, usim_key, suci, unknown, gnbs, group, sessions, services)`},
		{add(ue + ", gnbs: x}]\n"), "5:48: gnbs is not a list (put it in [ ])"},
		{add("needs: netns\n"), "5:8: needs is not a mapping (write {backend: ..., programs: ...} or some of it)"},
		{add("ues:\n  name: a\n"), "6:3: ues is not a list (put it in [ ])"},
		{add("timeout: soon\n"), "5:10: soon is not a duration (write a number with a unit, such as 100ms, 10s or 2m)"},
		{add("timeout: [10s]\n"), "5:10: [10s] is not a duration (write a number with a unit, such as 100ms, 10s or 2m)"},
		{swap("[{name: gnb1}]", "[{name: gnb1, air: {loss: much}}]"), "4:33: loss is not a number (write a number such as 0.01)"},

		// Steps.
		{add("steps: 3\n"), "5:8: steps is not a list (write '- verb: {...}' items)"},
		{add("steps:\n  - y\n"), "6:5: a step is not a mapping (write '- verb: {...}')"},
		{add("steps:\n  - name: y\n"), "6:5: a step without a verb (write '- verb: {...}')"},
		{add("steps:\n  - {}\n"), "6:5: a step without a verb (write '- verb: {...}')"},
		{add("steps:\n  - cut: {}\n    stop: {}\n"), `7:5: a step has two verbs, "cut" and "stop" (make two steps of it)`},
		{add("steps:\n  - cut: {}\n    name: [y]\n"), "7:11: this is not a text (write one text)"},
		{add("steps:\n  - cut: {}\n    timeout: 0s\n"), "7:14: timeout is not positive (write a duration such as 10s)"},
		{add("steps:\n  - cut: {}\n    timeout: 3\n"), "7:14: 3 is not a duration (write a number with a unit, such as 100ms, 10s or 2m)"},

		// The scenario.
		{"upfs: []\n", `1:1: name "" is not usable (lower-case letters, digits and hyphens, at most 31, starting with a letter)`},
		{swap("x", "Big_Name"), `1:7: name "Big_Name" is not usable (lower-case letters, digits and hyphens, at most 31, starting with a letter)`},
		{add("needs: {backend: docker}\n"), `5:18: unknown backend "docker" (netns, inproc, or leave it out)`},
		{add("timeout: -1s\n"), "5:10: timeout is negative (a duration such as 2m)"},
		{add("boundary: nowhere\n"), `5:11: unknown boundary "nowhere" (outer-to-ue, outer-to-inner, relays or relay-and-manager)`},
		{add("policy: best\n"), `5:9: unknown policy "best" (random, region, operator, least-clients, least-traffic)`},
		{add("plmn: \"1-1\"\n"), `5:7: invalid identity: PLMN "1-1": want a 3-digit MCC and a 2- or 3-digit MNC, such as "001-01" (write "001-01")`},
		{add("slices: [\"1\", \"x\"]\n"), `5:15: invalid identity: S-NSSAI "x": want "SST" or "SST-SD" with SST 0..255 and SD six hexadecimal digits (write "1" or "1-010203")`},
		{add("dnns: [{name: Internet}]\n"), `5:15: DNN name "Internet" is not usable (lower-case letters, digits and hyphens)`},
		{add("dnns: [{name: a}, {name: a}]\n"), "5:26: DNN a is there twice (list each DNN once)"},
		{add("dnns: [{name: a, mtu: 100}]\n"), "5:23: MTU 100 of DNN a (576 to 9000)"},
		{add("dnns: [{name: a, dns: [8.8.8.8, x]}]\n"), `5:33: "x" is not an address (an IP address)`},
		{add("security: {integrity: [2, 0]}\n"), "5:27: NIA0 cannot be chosen (1, 2 or 3; NIA0 is for emergency calls only)"},
		{add("security: {ciphering: [4]}\n"), "5:24: NEA4 does not exist (0 to 3)"},
		{swap("gnb1", "upf1"), `4:15: name "upf1" is already taken in upfs (choose another name)`},
		{swap("gnb1", "amf"), `4:15: name "amf" is already taken in every scenario (choose another name)`},
		{swap("gnb1", "1x"), `4:15: name "1x" is not usable (lower-case letters, digits and hyphens, starting with a letter)`},
		{swap("[{name: gnb1}]", "[null]"), `4:8: name "" is not usable (lower-case letters, digits and hyphens, starting with a letter)`},
		{add("clients: [" + strings.Repeat("{name: c}, ", 101) + "]\n"), "5:10: 101 entries in clients (at most 100)"},
		{"name: x\ngnbs: [{name: g}]\n", "1:1: no UPF (add 'upfs: [{name: upf1, pools: [{cidr: 10.45.0.0/16}]}]')"},
		{swap(", pools: [{cidr: 10.45.0.0/16}]", ""), "3:5: UPF upf1 has no pool (add 'pools: [{cidr: 10.45.0.0/16}]')"},
		{swap("pools:", "tacs: [16777216], pools:"), "3:25: TAC 16777216 has more than 24 bits (0 to 16777215)"},
		{swap("cidr:", "dnn: ims, cidr:"), `3:32: unknown DNN "ims" (name one of the dnns)`},
		{swap("10.45.0.0/16", "10.45.0.0"), `3:33: pool "10.45.0.0" is not usable (a prefix of at least four addresses, such as 10.45.0.0/16)`},
		{swap("10.45.0.0/16", "10.45.0.0/31"), `3:33: pool "10.45.0.0/31" is not usable (a prefix of at least four addresses, such as 10.45.0.0/16)`},
		{swap("10.45.0.0/16", "\"2001:db8::/64\""), `3:33: pool "2001:db8::/64": IPv6 pools are not offered yet (an IPv4 prefix)`},
		{swap("10.45.0.0/16", "0.0.0.0/7"), `3:33: pool 0.0.0.0/7 is too large (a prefix of 8 bits or more, such as 10.0.0.0/8)`},
		{swap("10.45.0.0/16", "198.19.0.0/24"), "3:33: pool 198.19.0.0/24 overlaps 198.18.0.0/15, which the testbed keeps for itself (another prefix)"},
		{swap("[{cidr: 10.45.0.0/16}]", "[{cidr: 10.45.0.0/16}, {cidr: 10.45.1.0/24}]"), "3:55: pool 10.45.1.0/24 overlaps 10.45.0.0/16 of the same UPF (disjoint pools within one UPF (different UPFs may overlap))"},
		{add("inner_relays: [{name: i}]\n"), "5:16: inner relay i has no UPF (add 'upfs: [upf1]')"},
		{add("inner_relays: [{name: i, upfs: [u]}]\n"), `5:33: unknown UPF "u" (name one of the upfs)`},
		{add("inner_relays: [{name: i, upfs: [upf1]}, {name: j, upfs: [upf1]}]\n"), "5:58: UPF upf1 already has inner relay i (one inner relay per UPF)"},
		{"name: x\nupfs: [{name: a, pools: [{cidr: 10.0.0.0/8}]}, {name: b, pools: [{cidr: 10.1.0.0/16}]}]\ngnbs: [{name: g}]\ninner_relays: [{name: i, upfs: [a, b]}]\n",
			"4:36: inner relay i would stand behind overlapping pools 10.0.0.0/8 and 10.1.0.0/16 (give the UPF an inner relay of its own)"},
		{add("outer_relays: [{name: o, ports: \"80\"}]\n"), `5:33: port range "80" is not usable (FIRST-LAST within 1024-65535)`},
		{add("outer_relays: [{name: o, ports: 2000-1999}]\n"), `5:33: port range "2000-1999" is not usable (FIRST-LAST within 1024-65535)`},
		{"name: x\nupfs: [{name: u, pools: [{cidr: 10.0.0.0/8}]}]\n", "1:1: no gNB (add 'gnbs: [{name: gnb1}]')"},
		{swap("[{name: gnb1}]", "[{name: gnb1, tac: 0x1000000}]"), "4:26: TAC 16777216 has more than 24 bits (0 to 16777215)"},
		{swap("[{name: gnb1}]", "[{name: gnb1, air: {loss: 2}}]"), "4:33: loss 2 of gNB gnb1 (0 to 1)"},
		{swap("[{name: gnb1}]", "[{name: gnb1, air: {loss: .nan}}]"), "4:33: loss is not a number (write a number such as 0.01)"},
		{swap("[{name: gnb1}]", "[{name: gnb1, air: {jitter: -1ms}}]"), "4:26: negative delay of gNB gnb1 (zero or a positive duration)"},

		// UEs.
		{add("ues: [{imsi: \"001010000000001\"}]\n"), `5:7: name "" is not usable (lower-case letters, digits and hyphens, starting with a letter)`},
		{add("ues:\n  - name: a\n    count: 2\n"), `6:5: UE a: invalid identity: IMSI "": want 6 to 15 digits (15 digits, with room to count up)`},
		{add("ues: [{name: a, imsi: \"00101x\"}]\n"), `5:23: UE a: invalid identity: IMSI "00101x": want 6 to 15 digits (15 digits, with room to count up)`},
		{"plmn: 999-99\n" + add("ues: [{name: a, imsi: \"999999999999999\", count: 2}]\n"), "6:23: UE a: IMSI 999999999999999 cannot count up to 2 (15 digits, with room to count up)"},
		{add("ues: [{name: a, imsi: \"310150123456789\"}]\n"), "5:23: IMSI 310150123456789 is of another network (an IMSI of the scenario's PLMN, beginning with 00101)"},
		{add(ue + "}, {name: b, imsi: \"001010000000001\"}]\n"), "5:59: IMSI 001010000000001 is already a's (give each UE an IMSI of its own)"},
		{add(ue + "}, {name: a, imsi: \"001010000000002\"}]\n"), `5:50: UE name "a" is taken (choose another name)`},
		{add("ues: [{name: upf1, imsi: \"001010000000001\"}]\n"), `5:14: UE name "upf1" is taken (choose another name)`},
		{add(ue + ", sim_id: s}, {name: b, imsi: \"001010000000002\", sim_id: s}]\n"), "5:97: SIM s is already a's (give each UE a SIM of its own)"},
		{add(ue + ", count: -1}]\n"), "5:49: count of UE a is negative (1 or more)"},
		{add(ue + ", count: 100001}]\n"), "5:7: too many UEs (at most 100000 UEs)"},
		{add(ue + ", key: \"00\"}]\n"), "5:47: key of UE a is not a 128-bit key (32 hexadecimal digits)"},
		{add(ue + ", opc: secret}]\n"), "5:47: opc of UE a is not a 128-bit key (32 hexadecimal digits)"},
		{add(ue + ", usim_key: secret}]\n"), "5:52: usim_key of UE a is not a 128-bit key (32 hexadecimal digits)"},
		{add(ue + ", gnbs: [gnb1, gnb2]}]\n"), `5:55: unknown gNB "gnb2" (name one of the gnbs)`},
		{add(ue + ", sessions: [" + strings.Repeat("{}, ", 16) + "]}]\n"), "5:52: 16 sessions (at most 15)"},
		{add(ue + ", sessions: [{}, {}]}]\n"), "5:57: two sessions of UE a on DNN internet, slice 1 (another DNN or slice for each)"},
		{add(ue + ", sessions: [{dnn: ims}]}]\n"), `5:59: unknown DNN "ims" (name one of the dnns)`},
		{add(ue + ", sessions: [{slice: \"2\"}]}]\n"), `5:61: unknown slice "2" (name one of the slices)`},
		{add(ue + ", sessions: [{address: \"2001:db8::1\"}]}]\n"), `5:63: "2001:db8::1" is not an IPv4 address (an address such as 10.45.0.7)`},
		{add(ue + ", count: 2, sessions: [{address: 10.45.0.9}]}]\n"), "5:73: one static address for 2 UEs (list the UEs one by one)"},
		{add(ue + ", services: [{kind: ftp, port: 21}]}]\n"), `5:60: unknown service "ftp" (http, echo or sink)`},
		{add(ue + ", services: [{kind: http}]}]\n"), "5:53: service http without a port (1 to 65535)"},
		{add(ue + ", services: [{kind: http, port: 80}, {kind: echo, port: 80}]}]\n"), "5:96: two services of UE a on port 80 (a port for each service)"},

		// The outside.
		{add("external: [{network: n9, interface: br0}]\n"), `5:22: unknown network "n9" (n2, n3, n4, n6 or public)`},
		{add("external: [{network: n2}]\n"), "5:12: no interface to join (add 'interface: br0')"},
		{add("external: [{network: n6, interface: br0}]\n"), `5:12: upf "" with network n6 (name the UPF for n6, and only there)`},
		{add("external: [{network: n2, interface: br0, upf: upf1}]\n"), `5:47: upf "upf1" with network n2 (name the UPF for n6, and only there)`},
	} {
		_, err := spec.Parse("f.yaml", []byte(c.text))
		if err == nil {
			t.Errorf("%q: accepted, want %s", c.text, c.want)
			continue
		}
		if got := err.Error(); got != "f.yaml:"+c.want {
			t.Errorf("%.200q\nwant f.yaml:%s\ngot  %s", c.text, c.want, got)
		}
	}
}

// TestWhatIsReadAlthoughUnusual: forms of YAML that mean the same.
func TestWhatIsReadAlthoughUnusual(t *testing.T) {
	for what, text := range map[string]string{
		"CRLF":              strings.ReplaceAll(base, "\n", "\r\n"),
		"a byte order mark": "\ufeff" + base,
		"a document start":  "---\n" + base + "...\n",
		"quoted keys":       strings.Replace(base, "name: x", "\"name\": 'x'\n\"steps\": []", 1),
		"comments":          "# first\n" + strings.Replace(base, "name: x", "name: x # why", 1) + "timeout: 10s # long\n",
		"flow style":        "{name: x, upfs: [{name: upf1, pools: [{cidr: 10.45.0.0/16}]}], gnbs: [{name: gnb1}]}",
		"nulls":             base + "ues:\nclients: ~\ndescription:\n",
	} {
		if s, err := spec.Parse("f.yaml", []byte(text)); err != nil {
			t.Errorf("%s: %v", what, err)
		} else if s.Name != "x" || len(s.UPFs) != 1 {
			t.Errorf("%s: got %q with %d UPFs", what, s.Name, len(s.UPFs))
		}
	}
}

// TestHostileFilesEndSoon: a megabyte of anything is refused at once, and so is
// what fits but would exhaust the YAML library's stack.
func TestHostileFilesEndSoon(t *testing.T) {
	for _, unit := range []string{"[", "{", "{a: ", "- ", "? ", "!a ", "&a ", "a: ", "-\n", "'", "\"\\\"", "%", "]", "|\n", "---\n", " ", "\r"} {
		for _, size := range []int{1 << 20, spec.MaxFileSize} {
			start := time.Now()
			_, err := spec.Parse("f.yaml", []byte(strings.Repeat(unit, size/len(unit))))
			e, ok := errors.AsType[*spec.Error](err)
			if !ok || e.Line < 1 || e.Column < 1 {
				t.Errorf("%d bytes of %q: want an error with a place, got %v", size, unit, err)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("%d bytes of %q took %v", size, unit, took)
			}
		}
	}
}

func TestDefaultsAreFilledIn(t *testing.T) {
	s, err := spec.Parse("f.yaml", []byte(base+"outer_relays: [{name: o}]\n"+ue+"}]\nsteps:\n  - stop: {program: p}\n  - cut:\n    name: later\n    timeout: 3s\n"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Timeout.Std() != 2*time.Minute || s.PLMN != "001-01" || s.GNBs[0].TAC != 1 || s.UPFs[0].Pools[0].DNN != "internet" || s.OuterRelays[0].Ports != "40000-65000" {
		t.Errorf("defaults: timeout %v, PLMN %s, TAC %d, DNN %s, ports %s", s.Timeout.Std(), s.PLMN, s.GNBs[0].TAC, s.UPFs[0].Pools[0].DNN, s.OuterRelays[0].Ports)
	}
	if s.Network() != (ident.PLMN{MCC: "001", MNC: "01"}) || len(s.SNSSAIs()) != 1 || s.SNSSAIs()[0].SST != 1 {
		t.Errorf("PLMN %v, slices %v", s.Network(), s.SNSSAIs())
	}
	if diff := cmp.Diff([]spec.DNN{{Name: "internet", MTU: 1400}}, s.DNNs); diff != "" {
		t.Errorf("DNNs: %s", diff)
	}
	if diff := cmp.Diff(spec.Security{Integrity: []uint8{2, 1, 3}, Ciphering: []uint8{2, 1, 3, 0}}, s.Security); diff != "" {
		t.Errorf("security: %s", diff)
	}
	want := []spec.Device{{IMSI: "001010000000001", UE: spec.UE{
		Name: "a", IMSI: "001010000000001", SIMID: "8988001010000000001", Key: spec.DefaultKey, OPc: spec.DefaultOPc, USIMKey: spec.DefaultKey, SUCI: "null",
		GNBs: []string{"gnb1"}, Sessions: []spec.Session{{DNN: "internet", Slice: "1", AMBR: 1_000_000_000}},
	}}}
	if diff := cmp.Diff(want, s.Devices); diff != "" {
		t.Errorf("devices: %s", diff)
	}
	type step struct {
		verb, name   string
		timeout      time.Duration
		line, column int
	}
	var got []step
	for _, x := range s.Steps {
		got = append(got, step{x.Verb, x.Name, x.Timeout, x.Line, x.Column})
	}
	if diff := cmp.Diff([]step{{"stop", "stop", 30 * time.Second, 8, 5}, {"cut", "later", 3 * time.Second, 9, 5}}, got, cmp.AllowUnexported(step{})); diff != "" {
		t.Errorf("steps: %s", diff)
	}
}

func TestCountExpands(t *testing.T) {
	s, err := spec.Parse("f.yaml", []byte(base+"ues:\n  - {name: a, count: 3, imsi: \"001010000000009\"}\n  - {name: b, imsi: \"001010000000020\"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range s.Devices {
		got = append(got, fmt.Sprintf("%d %s %s %s", d.Index, d.Name, d.IMSI, d.SIMID))
	}
	want := []string{
		"0 a-1 001010000000009 8988001010000000009",
		"1 a-2 001010000000010 8988001010000000010",
		"2 a-3 001010000000011 8988001010000000011",
		"3 b 001010000000020 8988001010000000020",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestManyUEsExpandSoon(t *testing.T) {
	start := time.Now()
	s, err := spec.Parse("f.yaml", []byte(base+ue+", count: 100000}]\n"))
	if err != nil || len(s.Devices) != spec.MaxDevices {
		t.Fatalf("want %d UEs: %v", spec.MaxDevices, err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestStepArguments(t *testing.T) {
	type args struct {
		A string            `yaml:"a"`
		B *bool             `yaml:"b"`
		M map[string]string `yaml:"m"`
	}
	for text, want := range map[string]string{
		"  - v: {a: x, b: false, m: {K: v}}\n": "",
		"  - v:\n":                             "", // no arguments
		"  - v: x\n":                           "f.yaml:6:8: this is not a mapping (write {a: ..., b: ..., m: ...} or some of it)",
		"  - v: {c: x}\n":                      `f.yaml:6:9: unknown field "c" (there are a, b, m)`,
		"  - v: {m: {K: 1}}\n":                 `f.yaml:6:16: K is not a text (put it in quotes: "1")`,
		"  - v: {m: [K]}\n":                    "f.yaml:6:12: m is not a mapping (write {KEY: value})",
		"  - v: {b: maybe}\n":                  "f.yaml:6:12: b is not true or false (write true or false)",
	} {
		s, err := spec.Parse("f.yaml", []byte(base+"steps:\n"+text))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := s.Steps[0].Decode(new(args)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q\nwant %s\ngot  %s", text, want, got)
		}
	}
	var e *spec.Error
	if err := (spec.Step{Verb: "v"}).Decode(new(args)); !errors.As(err, &e) {
		t.Errorf("a step that no file has: want *Error, got %v", err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := spec.Load(filepath.Join(dir, "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("want os.ErrNotExist, got %v", err)
	}
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(big, make([]byte, spec.MaxFileSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := spec.Load(big); err == nil || !strings.Contains(err.Error(), "file has 262145 bytes") {
		t.Errorf("want the size refused, got %v", err)
	}
}
