package store

import (
	"fmt"
	"path/filepath"
	"testing"
)

// What makes a commit durable is set on every connection.
func TestPragmas(t *testing.T) {
	s, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "manager.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	check := func(t *tx) error {
		for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "busy_timeout": "5000", "foreign_keys": "1"} {
			var got string
			if err := t.row("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
				return fmt.Errorf("%s = %q, %v; want %q", pragma, got, err, want)
			}
		}
		return nil
	}
	if err := s.write(t.Context(), check); err != nil {
		t.Errorf("who writes: %v", err)
	}
	if err := s.view(t.Context(), check); err != nil {
		t.Errorf("who reads: %v", err)
	}
}
