package manager

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// entryTable keeps entries in memory, by address, so that a relay's question costs no
// query. It follows the store's changes: what it holds is in the store, but for the
// moment that a change takes to get here. What it does not hold is looked up.
type entryTable struct {
	store EntryStore

	mu       sync.RWMutex // guards the rest
	live     bool         // changes arrive; without them nothing here may be believed
	removals uint64       // counts what was removed, so that a slow reader puts nothing back
	entries  map[netip.AddrPort]*Entry
	used     map[netip.Addr]*portSet // ports of entries, those that are not in entries too
}

// find returns the entry at an address, expired or not; it must not be changed.
// ErrNotFound, or an error of the store.
func (t *entryTable) find(ctx context.Context, a netip.AddrPort) (*Entry, error) {
	t.mu.RLock()
	e := t.entries[a]
	live, removals := t.live, t.removals
	t.mu.RUnlock()
	if e != nil {
		return e, nil
	}
	read, err := t.store.EntryByAddress(ctx, a)
	if err != nil {
		return nil, err
	}
	if live {
		t.addIf(removals, &read)
	}
	return &read, nil
}

func (t *entryTable) addIf(removals uint64, es ...*Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.live || t.removals != removals {
		return
	}
	for _, e := range es {
		t.entries[e.Address] = e
		t.useLocked(e.Address)
	}
}

// version is what addIf wants: taken before an entry is read or written.
func (t *entryTable) version() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.removals
}

// use notes that an address has an entry.
func (t *entryTable) use(a netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.live {
		t.useLocked(a)
	}
}

func (t *entryTable) useLocked(a netip.AddrPort) {
	s := t.used[a.Addr()]
	if s == nil {
		s = &portSet{}
		t.used[a.Addr()] = s
	}
	s.add(a.Port())
}

// drawPort returns a port of a relay's address that has no entry as far as is known
// here; false if all have. It may be in quarantine, or another manager may just have
// taken it.
func (t *entryTable) drawPort(a netip.Addr, r PortRange) (uint16, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := t.used[a]
	if s == nil {
		s = &portSet{}
	}
	return s.drawFree(r)
}

// remove forgets an entry.
func (t *entryTable) remove(a netip.AddrPort, id EntryID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removals++
	if e := t.entries[a]; e != nil && e.ID == id {
		delete(t.entries, a)
	}
	if s := t.used[a.Addr()]; s != nil {
		s.remove(a.Port())
	}
}

// lost forgets everything: changes do not arrive.
func (t *entryTable) lost() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.live, t.entries, t.used = false, nil, nil
	t.removals++
}

// load begins anew: changes arrive from now on. If entries are removed meanwhile, what
// was read is not used and entries come in as they are asked for.
func (t *entryTable) load(ctx context.Context, now time.Time) error {
	t.lost()
	t.mu.Lock()
	t.live, t.entries, t.used = true, map[netip.AddrPort]*Entry{}, map[netip.Addr]*portSet{}
	removals := t.removals
	t.mu.Unlock()
	es, err := t.store.AllEntries(ctx, now)
	if err != nil {
		return err
	}
	all := make([]*Entry, len(es))
	for i := range es {
		all[i] = &es[i]
	}
	t.addIf(removals, all...)
	return nil
}
