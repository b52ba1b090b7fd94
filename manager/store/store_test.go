package store_test

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/manager/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestSQLiteFile(t *testing.T) {
	storetest.Run(t, func(t *testing.T) manager.Store {
		return open(t, filepath.Join(t.TempDir(), "odd name?#%.db"))
	})
}

func TestSQLiteMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) manager.Store { return open(t, ":memory:") })
}

// What was stored is there after the file is opened again.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "manager.db")
	first := open(t, path)
	want, err := first.AddSigningKey(t.Context(), manager.SigningKey{ID: "k", Seed: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	keys, err := open(t, path).SigningKeys(t.Context())
	if err != nil || len(keys) != 1 || keys[0].ID != want.ID {
		t.Fatalf("SigningKeys after reopening = %v, %v; want %s", keys, err, want.ID)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, path := range map[string]string{"no path": "", "a directory": t.TempDir()} {
		if s, err := store.Open(t.Context(), store.Config{Path: path}); err == nil {
			s.Close()
			t.Errorf("%s: opened", name)
		}
	}
}
