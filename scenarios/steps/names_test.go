package steps

import (
	"strings"
	"testing"

	"github.com/simreach/simreach/scenarios/spec"
)

// TestNamesThatNoStepMade show before anything runs, with what there is instead.
func TestNamesThatNoStepMade(t *testing.T) {
	const (
		one    = "access: {ue: dev-1, port: 80, as: web}"
		opened = "connect: {access: web, as: line}"
		saves  = "api: {call: GET /v1/subscribers, save: {first: '0.imsi'}}"
		sleeps = "exec: {node: client1, run: [sleep, '1'], as: s}"
		none   = " (no earlier step makes one)"
	)
	for text, want := range map[string]string{
		"http: {access: web}":                                                          `no access is called "web" here` + none,
		"revoke: {access: web}":                                                        `no access is called "web" here` + none,
		"refused: {access: web}":                                                       `no access is called "web" here` + none,
		"streams: {access: web, open: [{ue: dev-1, port: 7}]}":                         `no access is called "web" here` + none,
		one + "\nconnect: {access: wbe}":                                               `no access is called "wbe" here (earlier steps make web)`,
		one + "\nexchange: {connection: web}":                                          `no connection is called "web" here` + none,
		one + "\n" + opened + "\ncut: {connection: lien}":                              `no connection is called "lien" here (earlier steps make line)`,
		"half_close: {connection: web}":                                                `no connection is called "web" here` + none,
		"stop: {program: s}":                                                           `no program is called "s" here` + none,
		sleeps + "\nstop: {program: s}\nstop: {program: s}":                            `no program is called "s" here` + none,
		"api: {call: 'GET /v1/x/${api.first}'}":                                        `no saved value is called "first" here` + none,
		saves + "\napi: {call: GET /v1/x, body: '${api.frst}'}":                        `no saved value is called "frst" here (earlier steps make first)`,
		"exec: {node: client1, run: [x, '${access.web.host}']}":                        `no access is called "web" here` + none,
		"exec: {node: client1, run: [x, '${ue.nobody.imsi}']}":                         `no UE is called "nobody" (name one of the ues, or a pattern such as ue-*)`,
		"access: {ue: dev-1, port: 80, refused: {status: 404}}\nhttp: {access: dev-1}": `no access is called "dev-1" here` + none,

		one + "\n" + opened + "\nexchange: {connection: line}\nhttp: {access: web}\nrevoke: {access: web}": "",
		"access: {ue: dev-1, port: 80}\nconnect: {access: dev-1}\ncut: {connection: dev-1}":                "",
		saves + "\napi: {call: 'GET /v1/x/${api.first}'}":                                                  "",
		sleeps + "\nstop: {program: s}\n" + sleeps + "\nstop: {program: s}":                                "",
		"exec: {node: client1, run: [x, '${node.upf1.address}', '${ue.dev-1.address}', '${dir}']}":         "",
	} {
		lines := strings.Split(text, "\n")
		s, err := spec.Parse("f.yaml", []byte(strings.Replace(topology, "name: ue,", "name: dev,", 1)+"  - "+strings.Join(lines, "\n  - ")+"\n"))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		var n Names
		var got error
		for i, st := range s.Steps { // only the last may be wrong
			if _, err := Compile(s, st); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if got != nil {
				t.Errorf("%s: step %d of %d: %v", text, i, len(lines), got)
			}
			got = n.Check(s, st)
		}
		said := ""
		if got != nil {
			_, said, _ = strings.Cut(got.Error(), ":5: ")
		}
		if said != want {
			t.Errorf("%q\nwant %s\ngot  %v", lines, want, got)
		}
	}
}
