package scenarios_test

import (
	"errors"
	"io/fs"
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
			if !slices.Contains(covered[r], m[1]) {
				t.Errorf("README says that %s shows %s, but no scenario of that name says so", m[1], r)
			}
		}
		tests := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(by, -1)
		for _, m := range tests {
			if !testExists(t, m[1]) {
				t.Errorf("README says that %s shows %s, but there is no such test", m[1], r)
			}
		}
		if len(covered[r]) == 0 && len(tests) == 0 {
			t.Errorf("README claims row %s, which neither a scenario nor a test covers", r)
		}
	}
}

// testExists looks for a test function anywhere in the tree.
func testExists(t *testing.T, name string) bool {
	t.Helper()
	found := errors.New("found")
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, "_test.go") {
			return err
		}
		b, err := os.ReadFile(p)
		if err == nil && strings.Contains(string(b), "func "+name+"(t *testing.T)") {
			return found
		}
		return err
	})
	if err != nil && !errors.Is(err, found) {
		t.Fatal(err)
	}
	return errors.Is(err, found)
}
