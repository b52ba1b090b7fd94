package audit

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/manager"
)

// A disk that the spool itself has filled while the manager was away has room again once the
// manager has the records, also while a connection lives on.
func TestRootFullDiskGetsRoom(t *testing.T) {
	if os.Geteuid() != 0 {
		testenv.Require(t, "netns", errors.New("root, to mount a small disk"))
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=6m"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	a := newArchive()
	var there atomic.Bool
	s, stop := start(t, Config{Dir: dir}, SinkFunc(func(ctx context.Context, rs []manager.AuditRecord) error {
		if !there.Load() {
			return errors.New("away")
		}
		return a.AddAudit(ctx, rs)
	}))
	defer stop()
	n := 1
	s.Record(record(manager.AuditAccess, connection()))
	testenv.Eventually(t, "the disk is full", func() bool {
		for range 100 {
			c := connection()
			for _, kind := range []manager.AuditType{manager.AuditAccess, manager.AuditConnected, manager.AuditClosed} {
				s.Record(record(kind, c))
				n++
			}
		}
		return !s.Accepting()
	})
	there.Store(true)
	testenv.Eventually(t, "the disk has room", func() bool { return s.Accepting() && s.Status().Waiting == 0 })
	if st := s.Status(); len(a.records()) != n || st.Lost != 0 || st.Live != 1 {
		t.Errorf("%d records, status %+v; want %d, none lost and a connection that lives on", len(a.records()), st, n)
	}
}
