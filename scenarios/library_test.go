package scenarios_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/simreach/simreach/scenarios"
	"github.com/simreach/simreach/scenarios/spec"
)

func TestLibraryCompiles(t *testing.T) {
	files, err := filepath.Glob("library/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios found: %v", err)
	}
	for _, f := range files {
		s, err := spec.Load(f)
		if err != nil {
			t.Error(err)
			continue
		}
		if want := s.Name + ".yaml"; filepath.Base(f) != want {
			t.Errorf("%s: the scenario's name asks for the file name %s", f, want)
		}
		if len(s.Covers) == 0 {
			t.Errorf("%s covers no conformance row", f)
		}
		if _, err := scenarios.Compile(s); err != nil {
			t.Error(err)
		}
	}
}

var row = regexp.MustCompile(`^\| ([RNPA][0-9]+[ab]?) \| [^|]* \| ([^|]*) \|$`)

// TestConformanceTableTellsTheTruth: README names exactly the scenarios that say
// they cover a row.
func TestConformanceTableTellsTheTruth(t *testing.T) {
	covered := map[string][]string{}
	files, err := filepath.Glob("library/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		s, err := spec.Load(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range s.Covers {
			covered[r] = append(covered[r], s.Name)
		}
	}
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	claimed := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if m := row.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			claimed[m[1]] = m[2]
		}
	}
	for r, names := range covered {
		for _, n := range names {
			if !strings.Contains(claimed[r], "`"+n+"`") {
				t.Errorf("scenario %s covers %s, but README's row does not name it", n, r)
			}
		}
	}
	for r, by := range claimed {
		for _, m := range regexp.MustCompile("`([a-z0-9-]+)`").FindAllStringSubmatch(by, -1) {
			if _, err := os.Stat("library/" + m[1] + ".yaml"); err == nil && !slices.Contains(covered[r], m[1]) {
				t.Errorf("README says that %s shows %s, but the scenario does not say so", m[1], r)
			}
		}
		if len(covered[r]) == 0 {
			t.Errorf("README claims row %s, which no scenario covers", r)
		}
	}
}
