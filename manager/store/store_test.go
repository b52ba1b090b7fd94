package store_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/manager/store/pgtest"
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

func TestSQLiteTogether(t *testing.T) {
	storetest.RunTogether(t, func(t *testing.T) []manager.Store {
		return []manager.Store{open(t, filepath.Join(t.TempDir(), "manager.db"))}
	})
}

func TestPostgres(t *testing.T) {
	server := pgtest.Start(t)
	storetest.RunTogether(t, func(t *testing.T) []manager.Store {
		url := server.Database(t)
		stores := make([]manager.Store, 3)
		for i := range stores {
			s, err := store.Open(t.Context(), store.Config{URL: url})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			stores[i] = s
		}
		return stores
	})
	storetest.Run(t, func(t *testing.T) manager.Store {
		s, err := store.Open(t.Context(), store.Config{URL: server.Database(t)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	})
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

// A port rests also when the manager was restarted meanwhile.
func TestQuarantineSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "manager.db")
	now := time.Now().UTC().Truncate(time.Millisecond)
	e := manager.Entry{
		ID: "e1", OperatorID: "OP0000000001", IMSI: "001010000000001", Strategy: manager.IMSIPrioritized, DevicePort: 22, RelayID: "r",
		Address: netip.MustParseAddrPort("192.0.2.1:40000"), Ranges: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, Created: now, Expires: now.Add(time.Hour),
	}
	first := open(t, path)
	if err := first.CreateEntry(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if err := first.DeleteEntry(t.Context(), e.ID, now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	first.Close()
	second := open(t, path)
	e.ID, e.Created = "e2", now.Add(59*time.Second)
	if err := second.CreateEntry(t.Context(), e); !errors.Is(err, manager.ErrAddressTaken) {
		t.Errorf("the port of an entry deleted before the restart: %v; want ErrAddressTaken", err)
	}
	e.Created = now.Add(time.Minute)
	if err := second.CreateEntry(t.Context(), e); err != nil {
		t.Errorf("after its quarantine: %v", err)
	}
}

// The signing key is in the files: nobody else may read them.
func TestFilesArePrivate(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "manager.db"))
	if _, err := s.AddSigningKey(t.Context(), manager.SigningKey{ID: "k", Seed: make([]byte, 32)}); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) == 0 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, f := range files {
		if i, err := f.Info(); err != nil || i.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v; want 0600", f.Name(), i.Mode(), err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]store.Config{
		"no path":             {},
		"a directory":         {Path: t.TempDir()},
		"an unknown driver":   {Driver: "oracle", Path: ":memory:"},
		"no URL":              {Driver: store.Postgres},
		"a path and a URL":    {Path: ":memory:", URL: "postgres:///x"},
		"no URL of theirs":    {URL: "postgres://%"},
		"nobody at that URL":  {URL: "postgres://127.0.0.1:1/x?connect_timeout=1"},
		"connections below 0": {URL: "postgres:///x", Connections: -1},
	} {
		if s, err := store.Open(t.Context(), c); err == nil {
			s.Close()
			t.Errorf("%s: opened", name)
		}
	}
}
