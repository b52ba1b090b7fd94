package spec

import "testing"

// Only a capture step makes the backends capture when nobody asked for files.
func TestCaptures(t *testing.T) {
	for verb, want := range map[string]bool{"capture": true, "connect": false} {
		if s := (&Spec{Steps: []Step{{Verb: "register"}, {Verb: verb}}}); s.Captures() != want {
			t.Errorf("with a step %s: %v; want %v", verb, s.Captures(), want)
		}
	}
}
