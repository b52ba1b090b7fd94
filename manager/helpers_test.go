package manager_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	op1, op2 = manager.OperatorID("OP0000000001"), manager.OperatorID("OP0000000002")
	imsi1    = "001010000000001"
	imsi2    = "001010000000002" // of op2
	imsi3    = "001010000000003" // no SIM ID
	sim1     = "8942310000000000001"
)

var client = netip.MustParseAddr("198.51.100.7")

// hashes are made once: each costs 20 ms, and ten times that under -race.
var (
	onceHash = sync.OnceValue(func() string { return manager.HashSecret("secret-1") })
)

func config() manager.Config {
	return manager.Config{
		Operators: []manager.OperatorConfig{
			{ID: op1, Email: "a@example.com", PasswordHash: onceHash(), AuthKeys: []manager.AuthKeyConfig{{ID: "keyId-1", Hash: onceHash()}}},
			{ID: op2},
		},
		Subscribers: []manager.SubscriberConfig{
			{IMSI: imsi1, SIMID: sim1, OperatorID: op1},
			{IMSI: imsi2, OperatorID: op2},
			{IMSI: imsi3, OperatorID: op1},
		},
		InnerRelays: []manager.InnerRelayConfig{{ID: "inner1", UPFs: []string{"upf1"}}, {ID: "inner2", UPFs: []string{"upf2"}}},
	}
}

// places is a directory that the test writes.
type places struct {
	mu sync.Mutex
	m  map[ident.IMSI]manager.Attachment
}

func (p *places) set(imsi, upf, addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m == nil {
		p.m = map[ident.IMSI]manager.Attachment{}
	}
	if upf == "" {
		delete(p.m, ident.IMSI(imsi))
		return
	}
	p.m[ident.IMSI(imsi)] = manager.Attachment{UPF: upf, Address: netip.MustParseAddr(addr)}
}

func (p *places) Lookup(_ context.Context, imsi ident.IMSI) (manager.Attachment, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a, ok := p.m[imsi]
	if !ok {
		return manager.Attachment{}, manager.ErrNotAttached
	}
	return a, nil
}

func (p *places) Size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.m)
}

// Changed never is: the tests that wait for a change use the real directory.
func (p *places) Changed() <-chan struct{} { return nil }

// rig is a running manager.
type rig struct {
	*manager.Service
	dir   *places
	store *store.Store
}

func start(t testing.TB, cfg manager.Config) *rig {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Path: ":memory:"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return startOn(t, cfg, st)
}

func startOn(t testing.TB, cfg manager.Config, st *store.Store) *rig {
	t.Helper()
	return startWith(t, cfg, st, manager.Deps{Store: st})
}

// startWith runs a manager on what the test has put in place of the store, or beside it.
func startWith(t testing.TB, cfg manager.Config, st *store.Store, d manager.Deps) *rig {
	t.Helper()
	r := &rig{dir: &places{}, store: st}
	if d.Directory == nil {
		d.Directory = r.dir
	}
	var err error
	if r.Service, err = manager.New(cfg, d); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	<-r.Ready()
	return r
}

func outerRelay(id string, ports manager.PortRange) manager.Relay {
	return manager.Relay{ID: manager.RelayID(id), Kind: manager.OuterRelay, Instance: "i", Address: netip.MustParseAddrPort("192.0.2.1:0"), Ports: ports}
}

func innerRelay(id, addr string) manager.Relay {
	return manager.Relay{ID: manager.RelayID(id), Kind: manager.InnerRelay, Instance: "instance-of-" + id, Address: netip.MustParseAddrPort(addr)}
}

// fakeRelay attaches and answers commands; it remembers what it was told.
type fakeRelay struct {
	*manager.RelaySession
	ended chan error

	mu     sync.Mutex
	news   chan struct{} // closed and replaced with every command that was answered
	log    []manager.Command
	open   map[manager.EntryID]manager.Opening
	refuse func(manager.Opening) error
	mute   bool
}

func attach(t *testing.T, s *manager.Service, r manager.Relay) *fakeRelay {
	t.Helper()
	session, err := s.AttachRelay(r)
	if err != nil {
		t.Fatalf("AttachRelay: %v", err)
	}
	return follow(t, session)
}

// follow has a session's commands answered by a fakeRelay that has entries open already.
func follow(t *testing.T, session *manager.RelaySession, open ...manager.EntryID) *fakeRelay {
	t.Helper()
	f := &fakeRelay{RelaySession: session, ended: make(chan error, 1), news: make(chan struct{}), open: map[manager.EntryID]manager.Opening{}}
	for _, id := range open {
		f.open[id] = manager.Opening{EntryID: id}
	}
	var wg sync.WaitGroup
	wg.Go(func() { f.ended <- f.run(t.Context()) })
	t.Cleanup(func() { session.End(); wg.Wait() })
	return f
}

func (f *fakeRelay) run(ctx context.Context) error {
	for {
		c, err := f.Next(ctx)
		if err != nil {
			return err
		}
		ack := manager.Acknowledgement{Session: c.Session, ID: c.ID}
		f.mu.Lock()
		f.log = append(f.log, c)
		if c.Kind == manager.CommandSnapshot {
			clear(f.open)
		}
		for _, o := range c.Openings {
			if f.refuse != nil {
				if err := f.refuse(o); err != nil {
					ack.Failures = append(ack.Failures, manager.OpenFailure{EntryID: o.EntryID, Err: err})
					continue
				}
			}
			f.open[o.EntryID] = o
		}
		if c.Kind == manager.CommandClose {
			delete(f.open, c.EntryID)
		}
		mute := f.mute
		f.mu.Unlock()
		if !mute {
			f.Acknowledge(ack)
		}
		f.with(func(f *fakeRelay) {
			close(f.news)
			f.news = make(chan struct{})
		})
	}
}

// told reports whether a command has come.
func (f *fakeRelay) told(kind manager.CommandKind) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.has(kind)
}

// await waits until it has come to something.
func (f *fakeRelay) await(t *testing.T, what string, cond func(*fakeRelay) bool) {
	t.Helper()
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	for {
		f.mu.Lock()
		yes, news := cond(f), f.news
		f.mu.Unlock()
		if yes {
			return
		}
		select {
		case <-news:
		case <-limit.C:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// has reports whether a command is in the log, which the caller has locked.
func (f *fakeRelay) has(kind manager.CommandKind) bool {
	return slices.ContainsFunc(f.log, func(c manager.Command) bool { return c.Kind == kind })
}

func (f *fakeRelay) with(change func(*fakeRelay)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeRelay) openPorts() (ports []uint16) {
	f.with(func(f *fakeRelay) {
		for _, o := range f.open {
			ports = append(ports, o.Address.Port())
		}
	})
	return ports
}

func request(change ...func(*manager.CreateRequest)) manager.CreateRequest {
	r := manager.CreateRequest{IMSI: imsi1, Port: 22, Caller: client}
	for _, c := range change {
		c(&r)
	}
	return r
}

func lasting(d time.Duration) func(*manager.CreateRequest) {
	return func(r *manager.CreateRequest) { r.Duration = &d }
}

func create(t *testing.T, s *manager.Service, change ...func(*manager.CreateRequest)) manager.Entry {
	t.Helper()
	e, err := s.CreateEntry(t.Context(), op1, request(change...))
	if err != nil {
		t.Fatalf("CreateEntry: %v", err)
	}
	return e
}

func wantCode(t *testing.T, err error, want manager.Code, why string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v; want %s", why, err, want)
	}
}
