package steps

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/spec"
)

// TestWrongArgumentsShowBeforeAnythingRuns: every verb's, with what to write.
func TestWrongArgumentsShowBeforeAnythingRuns(t *testing.T) {
	const node = `no node is called "nobody" (name a node of the topology: amf, smf, udm, manager, ue, or one of the file's)`
	const processes = ` (name amf, smf, udm, manager, ue, which is that of all UEs, or one of the upfs, inner_relays, outer_relays and gnbs)`
	const values = ` (there are ${access.NAME.host|port|name}, ${node|client.NAME.address}, ${ue.NAME.address|imsi|sim_id}, ${api.NAME}, ${file.NAME}, ${operator}, ${ca}, ${simreach} and ${dir}; write $${ for a plain ${)`
	for text, want := range map[string]string{
		"regster: {}":                                              `5: unknown step "regster" (one of access, api, await, capture, certificate, connect, cut, deregister, exchange, exec, half_close, http, kill, refused, register, revoke, start, stop, streams)`,
		"register: {ue: nobody}":                                   `5: no UE is called "nobody" (name one of the ues, or a pattern such as ue-*)`,
		"register: {}":                                             `5: no UE is called "" (name one of the ues, or a pattern such as ue-*)`,
		"register: {ue: '[a'}":                                     `5: bad pattern "[a" (a name, or a pattern such as ue-*)`,
		"register: {ue: '*', gnb: g}":                              `5: no gNB is called "g" (name one of the gnbs)`,
		"register: {ue: '*', to: gnb1}":                            `25: unknown field "to" (there are ue, gnb, reject)`,
		"register: {ue: '*', reject: {cause: none}}":               "41: cause is not a whole number (write decimal digits)",
		"deregister: {ue: nobody}":                                 `5: no UE is called "nobody" (name one of the ues, or a pattern such as ue-*)`,
		"deregister: {ue: '*', switch_off: 1}":                     "39: switch_off is not true or false (write true or false)",
		"await: {ue: nobody}":                                      `5: no UE is called "nobody" (name one of the ues, or a pattern such as ue-*)`,
		"await: {ue: '*', gnb: g}":                                 `5: no gNB is called "g" (name one of the gnbs)`,
		"await: {ue: '*', upf: u}":                                 `5: no UPF is called "u" (name one of the upfs)`,
		"await: {ue: '*', address: here}":                          `5: "here" is not an address (an IP address)`,
		"access: {ue: '*', imsi: '1', port: 1}":                    "5: both ue and imsi (give one of them)",
		"access: {ue: '*'}":                                        "5: access without a port (1 to 65535)",
		"access: {imsi: '1', port: 1}":                             `5: invalid identity: IMSI "1": want 6 to 15 digits (15 digits, or 'refused' if that is the point)`,
		"access: {ue: '*', port: 1, client: nobody}":               `5: no client is called "nobody" (name one of the clients)`,
		"access: {ue: '*', port: 1, duration: -1s}":                "5: duration is negative (a duration such as 10m)",
		"access: {ue: '*', port: 1, ranges: ['${x}']}":             `5: unknown value ${x}` + values,
		"revoke: {name: x}":                                        `14: unknown field "name" (there are access)`,
		"http: {access: a, client: nobody}":                        `5: no client is called "nobody" (name one of the clients)`,
		"http: {access: a, path: index.html}":                      `5: path "index.html" is not usable (a path such as /index.html)`,
		"connect: {access: a, client: nobody}":                     `5: no client is called "nobody" (name one of the clients)`,
		"exchange: {connection: [a]}":                              "28: connection is not a text (write one text)",
		"half_close: {send: ab, repeat: 9223372036854775807}":      "5: 9223372036854775807 times 2 bytes are too many to send (at most 268435456 bytes)",
		"cut: {connection: a, within: -1s}":                        "5: within or not_before is negative (a duration such as 2s)",
		"cut: {connection: a, within: 1s, not_before: 2s}":         "5: the connection may not be cut before 2s, and must be within 1s (a not_before that is earlier)",
		"refused: {access: a, client: nobody}":                     `5: no client is called "nobody" (name one of the clients)`,
		"exec: {node: nobody, run: [x]}":                           "5: " + node,
		"exec: {node: client1}":                                    "5: nothing to run (add 'run: [curl, ...]')",
		"exec: {node: client1, run: [x, '${dir']}":                 `5: "${dir" opens ${ and does not close it` + values,
		"exec: {node: client1, run: [x], env: {A: '${access.a}'}}": `5: unknown value ${access.a}` + values,
		"exec: {node: client1, run: [x], stdin: '${dirs}'}":        `5: unknown value ${dirs}` + values,
		"exec: {node: client1, run: [x], stdout: '['}":             "5: stdout: error parsing regexp: missing closing ]: `[` (a regular expression)",
		"exec: {node: client1, run: [x], ready: now}":              "5: ready without as (add 'as: NAME' or leave ready out)",
		"exec: {node: client1, run: [x], as: a, exit: 1}":          "5: exit or stdout of a program in the background (leave exit and stdout out, or as)",
		"stop: {name: x}":                                          `12: unknown field "name" (there are program)`,
		"kill: {node: nobody}":                                     "5: " + node,
		"kill: {node: host}":                                       strings.Replace("5: "+node, "nobody", "host", 1),
		"kill: {node: client1}":                                    "5: client1 has no process of its own to kill" + processes,
		"kill: {node: dev-2}":                                      "5: dev-2 has no process of its own to kill" + processes,
		"start: {node: nobody}":                                    "5: " + node,
		"start: {node: client2}":                                   "5: client2 has no process of its own to start" + processes,
	} {
		_, _, err := compile(t, "  - "+text+"\n")
		if err == nil || err.Error() != "f.yaml:9:"+want {
			t.Errorf("%s\nwant f.yaml:9:%s\ngot  %v", text, want, err)
		}
	}
	clientless, err := spec.Parse("f.yaml", []byte(strings.NewReplacer("clients:", "# clients:", "name: ue,", "name: dev,").Replace(topology)+"  - http: {access: a}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Compile(clientless, clientless.Steps[0]); err == nil || err.Error() != `f.yaml:9:5: no client is called "" (name one of the clients)` {
		t.Errorf("without clients: got %v", err)
	}
}

// TestStepsSucceed: what each verb does when all is well, and what it asked for.
func TestStepsSucceed(t *testing.T) {
	for name, c := range map[string]struct{ steps, did string }{
		"register by pattern":  {"  - register: {ue: 'dev-*', gnb: gnb2}\n", "register dev-3 gnb2"},
		"register, directory":  {"  - register: {ue: dev-2}\n", "directory 001010000000002 true"},
		"deregister":           {"  - deregister: {ue: dev-2, switch_off: true}\n", "deregister dev-2 true"},
		"deregister directory": {"  - deregister: {ue: dev-2}\n", "directory 001010000000002 false"},
		"await nothing":        {"  - await: {ue: '*'}\n", ""},
		"await all":            {"  - await: {ue: other, registered: false, connected: false, upf: upf1}\n", "directory 001010000000009 true"},
		"access by name":       {"  - access: {ue: dev-1, port: 7}\n  - connect: {access: dev-1, send: hi, expect: hi}\n", "create 001010000000001 port 7 for client1, 0s []"},
		"access by IMSI":       {"  - access: {imsi: '001010000000009', port: 7}\n  - connect: {access: '001010000000009', send: hi, expect: hi}\n", "create 001010000000009 port 7 for client1, 0s []"},
		"access with all":      {"  - access: {ue: other, port: 7, client: client2, duration: 90s, ranges: ['${client.client1.address}/32', 10.0.0.0/8]}\n", "create 001010000000009 port 7 for client2, 1m30s [198.18.0.10/32 10.0.0.0/8]"},
		"http, all of a name":  {"  - access: {ue: 'dev-*', port: 80, as: web}\n  - http: {access: web, body: 'IMSI ${ue.imsi}'}\n", "create 001010000000003 port 80 for client1, 0s []"},
		"http from another":    {"  - access: {ue: other, port: 80}\n  - http: {access: other, client: client2, path: /missing, status: 404}\n", "dial from client2"},
		"http with retries":    {"  - access: {ue: 'dev-*', port: 80, as: web}\n  - http: {access: web, body: '${ue.imsi}', retries: true}\n", "dial from client1"},
		"connect from another": {"  - access: {ue: other, port: 9}\n  - connect: {access: other, client: client2, as: c}\n", "dial from client2"},
		"connect twice":        {"  - access: {ue: other, port: 7}\n  - connect: {access: other, as: c}\n  - connect: {access: other, as: c}\n  - exchange: {connection: c, send: hi, expect: hi}\n", ""},
		"half-close":           {"  - access: {ue: other, port: 7}\n  - connect: {access: other}\n  - half_close: {connection: other, send: '0123456789', repeat: 100000}\n", ""},
		"half-close, expect":   {"  - access: {ue: other, port: 3}\n  - connect: {access: other}\n  - half_close: {connection: other, send: ab, expect: abab}\n", ""},
		"revoke cuts":          {"  - access: {ue: other, port: 9}\n  - connect: {access: other}\n  - revoke: {access: other}\n  - cut: {connection: other, within: 2s}\n  - refused: {access: other}\n", "delete 001010000000009"},
		"reset is refused":     {"  - access: {ue: other, port: 1}\n  - refused: {access: other, client: client2}\n", "dial from client2"},
		"exec":                 {"  - access: {ue: other, port: 7, as: a}\n  - exec: {node: client1, run: [cat, '${node.client1.address}', '$HOME', '$${dir}'], env: {B: '2', A: '${client.client2.address}'}, stdin: 'x $1 y', stdout: '^x \\$1 y$'}\n", "exec on client1: cat 198.18.0.10 $HOME ${dir} A=198.18.0.10 B=2"},
		"exec, exit code":      {"  - exec: {node: client1, run: ['false'], exit: 1}\n", "exec on client1: false "},
		"exec, background":     {"  - exec: {node: dev-1, run: [daemon], as: d, ready: starting}\n  - stop: {program: d}\n  - exec: {node: dev-1, run: [daemon], as: d}\n", "exec on dev-1: daemon "},
		"kill and start":       {"  - kill: {node: upf1}\n  - start: {node: upf1}\n", "start upf1"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newFakeLab(t)
			if _, err := play(t, l, c.steps); err != nil {
				t.Fatal(err)
			}
			if c.did != "" && l.did(c.did) == 0 {
				t.Errorf("want %q, did %q", c.did, l.log)
			}
		})
	}
}

// TestStepsFail: what is told when a step did not find what it wants.
func TestStepsFail(t *testing.T) {
	broken := errors.New("broken")
	rejected := &lab.Rejected{Procedure: "registration", Cause: 11, Text: "PLMN not allowed"}
	denied := &lab.APIError{Status: 404, Code: "NoSuchSIM", Message: "unknown"}
	const (
		echo   = "  - access: {ue: other, port: 7, as: a}\n  - connect: {access: a}\n"
		silent = "  - access: {ue: other, port: 9, as: a}\n  - connect: {access: a}\n"
		many   = "  - access: {ue: 'dev-*', port: 7, as: many}\n"
	)
	for name, c := range map[string]struct {
		steps, want string // want may end in "..."
		fail        map[string]error
	}{
		"register":            {steps: "  - register: {ue: 'dev-*'}\n", fail: map[string]error{"register dev-2 ": broken}, want: "register dev-2: broken"},
		"register, directory": {steps: "  - register: {ue: other}\n", fail: map[string]error{"directory 001010000000009 true": broken}, want: "register other: directory: broken"},
		"reject, accepted":    {steps: "  - register: {ue: other, reject: {}}\n", want: "register other: the network accepted what it had to refuse"},
		"reject, broken":      {steps: "  - register: {ue: other, reject: {}}\n", fail: map[string]error{"register other ": broken}, want: "register other: want a refusal by the network: broken"},
		"reject, cause":       {steps: "  - register: {ue: other, reject: {cause: 3}}\n", fail: map[string]error{"register other ": rejected}, want: "register other: want a refusal of  with cause #3: registration rejected with cause #11 (PLMN not allowed)"},
		"reject, procedure":   {steps: "  - register: {ue: other, reject: {procedure: session, cause: 11}}\n", fail: map[string]error{"register other ": rejected}, want: "register other: want a refusal of session with cause #11: registration rejected with cause #11 (PLMN not allowed)"},
		"deregister":          {steps: "  - deregister: {ue: other}\n", fail: map[string]error{"deregister other false": broken}, want: "deregister other: broken"},
		"await state":         {steps: "  - await: {ue: other, registered: true}\n    timeout: 20ms\n", want: "await other: last seen {...", fail: nil},
		"await gNB":           {steps: "  - await: {ue: other, gnb: gnb1}\n    timeout: 20ms\n", want: "await other: last seen {..."},
		"await address":       {steps: "  - await: {ue: other, address: 10.45.0.1}\n    timeout: 20ms\n", want: "await other: last seen {..."},
		"access":              {steps: "  - access: {ue: other, port: 7}\n", fail: map[string]error{"create": denied}, want: "access to other: manager answered 404 NoSuchSIM: unknown"},
		"access, range":       {steps: "  - access: {ue: other, port: 7, ranges: [here]}\n", want: `range "here": netip.ParsePrefix("here"): no '/'`},
		"refused, granted":    {steps: "  - access: {ue: other, port: 7, refused: {}}\n", want: "access to other: the manager granted what it had to refuse"},
		"refused, broken":     {steps: "  - access: {ue: other, port: 7, refused: {}}\n", fail: map[string]error{"create": broken}, want: "access to other: want an error answer: broken"},
		"refused, status":     {steps: "  - access: {ue: other, port: 7, refused: {status: 400}}\n", fail: map[string]error{"create": denied}, want: "access to other: want status 400 code : manager answered 404 NoSuchSIM: unknown"},
		"refused, code":       {steps: "  - access: {ue: other, port: 7, refused: {status: 404, code: X}}\n", fail: map[string]error{"create": denied}, want: "access to other: want status 404 code X: manager answered 404 NoSuchSIM: unknown"},
		"revoke, unknown":     {steps: "  - revoke: {access: a}\n", want: `no access is called "a"`},
		"revoke":              {steps: echo + "  - revoke: {access: a}\n", fail: map[string]error{"delete 001010000000009": broken}, want: "revoke a: broken"},
		"http, status":        {steps: "  - access: {ue: other, port: 80}\n  - http: {access: other, path: /missing}\n", want: "http to other: want status 200, got 404"},
		"http, body":          {steps: "  - access: {ue: other, port: 80}\n  - http: {access: other, body: x}\n", want: `http to other: want a body with "x", got "IMSI 001010000000009\n"`},
		"http, retries":       {steps: "  - access: {ue: other, port: 80}\n  - http: {access: other, body: x, retries: true}\n    timeout: 100ms\n", want: "http to other: ..."},
		"http, reset":         {steps: "  - access: {ue: other, port: 1}\n  - http: {access: other}\n", want: "http to other: ..."},
		"http, unknown":       {steps: "  - http: {access: a}\n", want: `no access is called "a"`},
		"connect, many":       {steps: many + "  - connect: {access: many}\n", want: `connect many: access "many" stands for 3 UEs; this step takes one`},
		"connect, hangs":      {steps: "  - access: {ue: other, port: 7, as: a}\n  - connect: {access: a}\n    timeout: 20ms\n", fail: map[string]error{"dial": errHangs}, want: "connect a: context deadline exceeded"},
		"exchange, unknown":   {steps: "  - exchange: {connection: a}\n", want: `no connection is called "a"`},
		"exchange, differs":   {steps: echo + "  - exchange: {connection: a, send: abc, expect: abd}\n", want: `want "abd", got "abc"`},
		"exchange, silence":   {steps: silent + "  - exchange: {connection: a, send: abc, expect: abc}\n    timeout: 20ms\n", want: `want "abc", got "": read tcp ...`},
		"half-close, less":    {steps: echo + "  - half_close: {connection: a, send: abc, expect: abcd}\n", want: "half-close: want 4 bytes, got 3 that differ"},
		"half-close, more":    {steps: echo + "  - half_close: {connection: a, send: abc, expect: ab}\n", want: "half-close: want 2 bytes, got more"},
		"half-close, differs": {steps: echo + "  - half_close: {connection: a, send: abc, expect: abd}\n", want: "half-close: want 3 bytes, got 3 that differ"},
		"half-close, no FIN":  {steps: silent + "  - half_close: {connection: a, send: abc}\n    timeout: 20ms\n", want: "half-close: got 0 of 3 bytes: ..."},
		"half-close, unknown": {steps: "  - half_close: {connection: a}\n", want: `no connection is called "a"`},
		"cut, stands":         {steps: silent + "  - cut: {connection: a, within: 20ms}\n", want: `connection "a" still stands after ...`},
		"cut, too early":      {steps: silent + "  - revoke: {access: a}\n  - cut: {connection: a, not_before: 9s}\n", want: `connection "a" was cut after ...`},
		"cut, bytes":          {steps: "  - access: {ue: other, port: 4, as: a}\n  - connect: {access: a}\n  - cut: {connection: a}\n", want: `connection "a" delivered 1 bytes before it was cut`},
		"refused, answers":    {steps: "  - access: {ue: other, port: 2, as: a}\n  - refused: {access: a}\n", want: `the device behind "a" answers`},
		"refused, stands":     {steps: silent + "  - refused: {access: a}\n    timeout: 20ms\n", want: `a connection to "a" is neither refused nor cut`},
		"refused, hangs":      {steps: "  - access: {ue: other, port: 7, as: a}\n  - refused: {access: a}\n    timeout: 20ms\n", fail: map[string]error{"dial": errHangs}, want: "connecting hangs: context deadline exceeded"},
		"exec, missing":       {steps: "  - exec: {node: client1, run: [missing]}\n", want: "exec missing: not installed"},
		"exec, exit":          {steps: "  - exec: {node: client1, run: ['false']}\n", want: "exec false: want exit code 0, got 1 (stderr: it went wrong\n)"},
		"exec, stdout":        {steps: "  - exec: {node: client1, run: [cat], stdin: abc, stdout: '^b'}\n", want: `exec cat: output "abc" does not match "^b"`},
		"exec, no node":       {steps: "  - exec: {node: amf, run: [cat]}\n", want: "node amf is not in the topology"},
		"exec, no access":     {steps: "  - exec: {node: client1, run: [cat, '${access.a.port}']}\n", want: `no access is called "a"`},
		"exec, no address":    {steps: "  - exec: {node: client1, run: [cat, '${ue.other.address}']}\n", want: "other has no address now"},
		"exec, name twice":    {steps: "  - exec: {node: client1, run: [daemon], as: d}\n  - exec: {node: client1, run: [daemon], as: d}\n", want: `a program called "d" already runs`},
		"exec, never ready":   {steps: "  - exec: {node: client1, run: [daemon], as: d, ready: tomorrow}\n    timeout: 20ms\n", want: `exec daemon: "tomorrow" did not appear in its output: "starting\nServer listening\n": context deadline exceeded`},
		"exec, ends first":    {steps: "  - exec: {node: client1, run: ['false'], as: d, ready: Server}\n", want: `exec false: it ended with exit code 1 before "Server" appeared in its output: "it went wrong\n"`},
		"stop, unknown":       {steps: "  - stop: {program: d}\n", want: `no program is called "d"`},
		"kill":                {steps: "  - kill: {node: upf1}\n", fail: map[string]error{"kill upf1": lab.ErrNoProcess}, want: "kill upf1: this node has no process of its own on this backend"},
		"start":               {steps: "  - start: {node: upf1}\n", fail: map[string]error{"start upf1": broken}, want: "start upf1: broken"},
		"reject, as wanted":   {steps: "  - register: {ue: other, reject: {procedure: registration, cause: 11}}\n", fail: map[string]error{"register other ": rejected}},
		"refused, as wanted":  {steps: "  - access: {ue: other, port: 7, refused: {status: 404, code: NoSuchSIM}}\n", fail: map[string]error{"create": denied}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newFakeLab(t)
			if c.fail != nil {
				l.fail = c.fail
			}
			_, err := play(t, l, c.steps)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if start, open := strings.CutSuffix(c.want, "..."); got != c.want && !(open && strings.HasPrefix(got, start)) {
				t.Errorf("want %q\ngot  %q", c.want, got)
			}
		})
	}
}

func TestAwaitComparesTheDirectory(t *testing.T) {
	l := newFakeLab(t)
	l.ues["other"] = lab.UEStatus{Registered: true, GNB: "gnb1", Sessions: []lab.SessionStatus{{Address: netip.MustParseAddr("10.45.0.1")}}}
	if _, err := play(t, l, "  - await: {ue: other, registered: true, gnb: gnb1, address: 10.45.0.1, upf: upf1}\n"); err != nil {
		t.Fatal(err)
	}
	l.at.Address = netip.MustParseAddr("10.45.0.2")
	_, err := play(t, l, "  - await: {ue: other, address: 10.45.0.1, upf: upf1}\n    timeout: 50ms\n")
	if err == nil || err.Error() != "the directory has other at 10.45.0.2 behind upf1" {
		t.Errorf("got %v", err)
	}
}

// TestACancelledRunDoesNotWaitForDeadlines: Ctrl-C ends a step that reads.
func TestACancelledRunDoesNotWaitForDeadlines(t *testing.T) {
	for _, step := range []string{
		"exchange: {connection: a, send: x, expect: x}", "half_close: {connection: a, send: x}", "cut: {connection: a}", "refused: {access: a}",
	} {
		l := newFakeLab(t)
		e, err := play(t, l, "  - access: {ue: other, port: 9, as: a}\n  - connect: {access: a}\n")
		if err != nil {
			t.Fatal(err)
		}
		acts, _, err := compile(t, "  - "+step+"\n")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		done := make(chan error, 1)
		go func() { done <- acts[0](ctx, e) }()
		cancel()
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("%s: succeeded", step)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: goes on after its context ended", step)
		}
	}
}

// TestCloseEndsWhatStepsLeftOpen: connections and background programs.
func TestCloseEndsWhatStepsLeftOpen(t *testing.T) {
	l := newFakeLab(t)
	e, err := play(t, l, "  - access: {ue: other, port: 9, as: a}\n  - connect: {access: a}\n  - exec: {node: dev-1, run: [daemon], as: d}\n")
	if err != nil {
		t.Fatal(err)
	}
	c, err := e.conn("a")
	if err != nil {
		t.Fatal(err)
	}
	p := l.procs[0]
	if !p.running() {
		t.Fatal("the program ended with its step")
	}
	p.stopErr = errors.New("would not")
	if err := e.Close(); err == nil || err.Error() != "stop d: would not" {
		t.Errorf("want the program's refusal told, got %v", err)
	}
	p.stopErr = nil
	if p.running() {
		t.Error("the program still runs")
	}
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("the connection is still open")
	}
}

func TestWatcherSeesTextAcrossWritesAndKeepsLittle(t *testing.T) {
	w := &watcher{text: "ready", seen: make(chan struct{})}
	for _, s := range []string{"rea", "dy", strings.Repeat("x", 1<<20), "ready"} {
		if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	select {
	case <-w.seen:
	default:
		t.Error("not seen")
	}
	if len(w.buf) != 64<<10 || len(w.tail()) > 403 {
		t.Errorf("kept %d bytes, tail of %d", len(w.buf), len(w.tail()))
	}
}
