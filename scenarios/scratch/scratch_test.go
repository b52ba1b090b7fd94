package scratch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestCleanTouchesOnlyTheDead: directories whose process lives, and those that are not
// ours, stay.
func TestCleanTouchesOnlyTheDead(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	make := func() *Dir {
		d, err := New("run")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d.Path, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return d
	}
	live, dead, done := make(), make(), make()
	if err := dead.lock.Close(); err != nil { // as when its holder dies
		t.Fatal(err)
	}
	if err := done.Remove(); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(tmp, prefix+"run-1")
	if err := os.Mkdir(foreign, 0o755); err != nil {
		t.Fatal(err)
	}
	removed, err := Clean()
	if err != nil || !slices.Equal(removed, []string{dead.Path}) {
		t.Errorf("removed %v, %v; want %s alone", removed, err, dead.Path)
	}
	for path, want := range map[string]bool{live.Path: true, dead.Path: false, done.Path: false, foreign: true} {
		if _, err := os.Stat(path); (err == nil) != want || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: want it there: %v, got %v", path, want, err)
		}
	}
	if err := live.Remove(); err != nil {
		t.Error(err)
	}
	if removed, err := Clean(); err != nil || removed != nil {
		t.Errorf("a second Clean has nothing to do: %v, %v", removed, err)
	}
}
