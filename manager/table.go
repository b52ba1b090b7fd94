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

	mu       sync.RWMutex // guards the rest, and what is in hosts
	live     bool         // changes arrive; without them nothing here may be believed
	removals uint64       // counts what was removed, so that a slow reader puts nothing back
	hosts    map[netip.Addr]*hostEntries
}

// hostEntries are those at one address of an outer relay.
type hostEntries struct {
	entries map[uint16]*keptEntry // by port
	used    portSet               // ports of entries, those that are not in entries too
}

// known returns the entry at an address, expired or not, if it is in memory. Its lists
// must not be changed.
func (t *entryTable) known(a netip.AddrPort) (Entry, bool) {
	t.mu.RLock()
	var k *keptEntry
	if h := t.hosts[a.Addr()]; h != nil {
		k = h.entries[a.Port()]
	}
	t.mu.RUnlock()
	if k == nil {
		return Entry{}, false
	}
	return k.entry(a), true
}

// find is known, but asks the store for what is not in memory. ErrNotFound, or an error
// of the store.
func (t *entryTable) find(ctx context.Context, a netip.AddrPort) (Entry, error) {
	if e, ok := t.known(a); ok {
		return e, nil
	}
	t.mu.RLock()
	live, removals := t.live, t.removals
	t.mu.RUnlock()
	e, err := t.store.EntryByAddress(ctx, a)
	if err == nil && live {
		t.addIf(removals, e)
	}
	return e, err
}

// addIf takes entries in that were read or written after removals was taken of version,
// unless one has been removed since.
func (t *entryTable) addIf(removals uint64, es ...Entry) {
	kept := make([]*keptEntry, len(es))
	for i := range es {
		kept[i] = keep(&es[i])
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.live || t.removals != removals {
		return
	}
	for i, k := range kept {
		a := es[i].Address
		h := t.hostLocked(a.Addr())
		h.entries[a.Port()] = k
		h.used.add(a.Port())
	}
}

func (t *entryTable) hostLocked(a netip.Addr) *hostEntries {
	h := t.hosts[a]
	if h == nil {
		h = &hostEntries{entries: map[uint16]*keptEntry{}}
		t.hosts[a] = h
	}
	return h
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
		t.hostLocked(a.Addr()).used.add(a.Port())
	}
}

// drawPort returns a port of a relay's address that has no entry as far as is known
// here; false if all have. It may be in quarantine, or another manager may just have
// taken it.
func (t *entryTable) drawPort(a netip.Addr, r PortRange) (uint16, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if h := t.hosts[a]; h != nil {
		return h.used.drawFree(r)
	}
	return new(portSet).drawFree(r)
}

// remove forgets an entry.
func (t *entryTable) remove(a netip.AddrPort, id EntryID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removals++
	h := t.hosts[a.Addr()]
	if h == nil {
		return
	}
	if k := h.entries[a.Port()]; k != nil && k.id() == id {
		delete(h.entries, a.Port())
	}
	h.used.remove(a.Port())
}

// lost forgets everything: changes do not arrive.
func (t *entryTable) lost() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.live, t.hosts = false, nil
	t.removals++
}

// load begins anew: changes arrive from now on. If entries are removed meanwhile, what
// was read is not used and entries come in as they are asked for.
func (t *entryTable) load(ctx context.Context, now time.Time) error {
	t.lost()
	t.mu.Lock()
	t.live, t.hosts = true, map[netip.Addr]*hostEntries{}
	removals := t.removals
	t.mu.Unlock()
	es, err := t.store.AllEntries(ctx, now)
	if err != nil {
		return err
	}
	t.addIf(removals, es...)
	return nil
}
