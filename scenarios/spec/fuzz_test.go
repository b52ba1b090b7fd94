package spec_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/simreach/simreach/scenarios/spec"
)

// FuzzParse: no text ends the process, whatever is wrong has a place, and the same
// text means the same twice.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("../library/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no scenarios: %v", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(base + ue + ", count: 3}]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<14 {
			return // size is TestHostileFilesEndSoon's subject
		}
		s, err := spec.Parse("f.yaml", b)
		if err != nil {
			e, ok := errors.AsType[*spec.Error](err)
			if !ok || e.Line < 1 || e.Column < 1 || e.Message == "" || e.Fix == "" {
				t.Fatalf("want an error with a place and a fix, got %#v", err)
			}
			return
		}
		again, err := spec.Parse("f.yaml", b)
		if err != nil {
			t.Fatalf("accepted once only: %v", err)
		}
		if diff := cmp.Diff(s, again, cmpopts.IgnoreUnexported(spec.Spec{}, spec.Step{})); diff != "" {
			t.Fatalf("the same text meant different things: %s", diff)
		}
	})
}
