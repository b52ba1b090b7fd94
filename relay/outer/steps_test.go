package outer

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
)

// asker is a control that is asked without a goroutine that waits.
type asker struct {
	*control

	mu      sync.Mutex // guards the rest
	held    bool       // answers wait
	waiting []func()
}

func (a *asker) Ask(q manager.ResolveRequest, _ string, _ time.Time, answer func(manager.Route, error)) {
	route, err := a.Resolve(context.Background(), q)
	a.mu.Lock()
	if a.held {
		a.waiting = append(a.waiting, func() { answer(route, err) })
		a.mu.Unlock()
		return
	}
	a.mu.Unlock()
	answer(route, err)
}

// answerAll gives the answers that wait.
func (a *asker) answerAll() {
	a.mu.Lock()
	waiting := a.waiting
	a.waiting = nil
	a.mu.Unlock()
	for _, f := range waiting {
		f()
	}
}

// slow is a Resolver whose Credential does not answer.
type slow struct {
	*control
	called chan struct{}
}

func (s slow) Credential(ctx context.Context, _ manager.CredentialID) (manager.Credential, error) {
	close(s.called)
	<-ctx.Done()
	return manager.Credential{}, ctx.Err()
}

// slowAsker is the same of an asker.
type slowAsker struct {
	*asker
	slow slow
}

func (s slowAsker) Credential(ctx context.Context, id manager.CredentialID) (manager.Credential, error) {
	return s.slow.Credential(ctx, id)
}

// scene is a relay one of whose connections is at a certain step.
type scene struct {
	*secure
	asker *asker // nil: it has a plain Resolver
	entry netip.AddrPort
	tls   bool
}

// askers are the two ways to ask a manager.
var askers = []string{"with an Asker", "with a Resolver"}

func startScene(t *testing.T, way string, withTLS bool, change func(*scene, *Config, *Deps)) *scene {
	t.Helper()
	sc := &scene{tls: withTLS}
	sc.secure = startTLS(t, func(c *Config, d *Deps) {
		if ctl := d.Resolver.(*control); way == askers[0] {
			sc.asker = &asker{control: ctl}
			d.Resolver = sc.asker
		}
		c.ResolveTimeout, c.DeviceTimeout, c.HandshakeTimeout = patience, patience, patience
		if change != nil {
			change(sc, c, d)
		}
	})
	return sc
}

// listen opens the entry for a time, and returns when that is over.
func (sc *scene) listen(life time.Duration) (expires time.Time) {
	sc.entry = sc.open(func(o *manager.Opening) {
		expires = time.Now().Add(life)
		o.TLS, o.Expires = sc.tls, expires
	})
	return expires
}

// hold has the manager not answer until the test says so.
func (sc *scene) hold() (release func()) {
	if a := sc.asker; a != nil {
		a.mu.Lock()
		a.held = true
		a.mu.Unlock()
		return a.answerAll
	}
	hold := make(chan struct{})
	sc.ctl.change(func(c *control) { c.hold = hold })
	return sync.OnceFunc(func() { close(hold) })
}

// asked waits until the manager has been asked n times.
func (sc *scene) asked(n int) {
	sc.t.Helper()
	eventually(sc.t, fmt.Sprintf("the manager is asked %d times", n), func() bool {
		sc.ctl.mu.Lock()
		defer sc.ctl.mu.Unlock()
		return len(sc.ctl.asked) >= n
	})
}

// connect is a client. What it is told comes when it is.
func (sc *scene) connect() <-chan error {
	sc.t.Helper()
	told := make(chan error, 1)
	raw, err := net.Dial("tcp", sc.entry.String())
	if err != nil { // it may be over already
		told <- err
		return told
	}
	raw.SetDeadline(time.Now().Add(patience))
	go func() {
		defer raw.Close()
		var c net.Conn = raw
		if sc.tls {
			c = tls.Client(raw, sc.config())
		}
		_, err := c.Read(make([]byte, 1)) // with TLS, the handshake
		told <- err
	}()
	return told
}

// signalInner is an inner relay that signals each request and then does as it is told.
func signalInner(t *testing.T, answer func(c net.Conn, n int)) (netip.AddrPort, <-chan int) {
	requests := make(chan int, 1000)
	var n atomic.Int32
	return fakeListener(t, func(c net.Conn) {
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := relay.ReadRequest(ctx, c); err == nil {
			n := int(n.Add(1))
			if answer != nil {
				answer(c, n)
			}
			requests <- n
		}
		c.SetDeadline(time.Now().Add(patience))
		io.Copy(io.Discard, c) // until it is told that nobody wants the device
	}), requests
}

func refuseTicket(c net.Conn, _ int) {
	_ = relay.Refuse(context.Background(), c, relay.TicketInvalid)
}

// A connection may be cut at every step of setting it up, for any reason. Its client is told
// at once, it is in the audit log once, and nothing of it stays.
func TestCutAtEveryStep(t *testing.T) { cutAtEveryStep(t, maxLate()) }

// The same, and the client is told as soon as is promised.
func TestOnTimeCutAtEveryStep(t *testing.T) { cutAtEveryStep(t, promised) }

// promised is how soon a client is told that its connection is cut (R16).
const promised = 100 * time.Millisecond

// cutAtEveryStep cuts connections, whose clients must be told within a time.
func cutAtEveryStep(t *testing.T, within time.Duration) {
	var slowest time.Duration
	defer func() { t.Logf("the slowest was told after %s", slowest) }()
	type step struct {
		name string
		// change prepares the scene; at waits until its client is at the step.
		change func(*scene, *Config, *Deps)
		at     func(*scene) (after func())
		told   map[bool]string // with TLS or without; nothing: it does not happen
	}
	var release func()
	var requests <-chan int
	reset := "reset"
	// alerted is of TLS clients, as a function of the cause.
	const alerted = "alert"
	steps := []step{
		{"asking", nil, func(sc *scene) func() {
			sc.asked(1)
			return release // the answer comes late
		}, map[bool]string{false: reset, true: alerted}},
		{"asking in vain", nil, func(sc *scene) func() { sc.asked(1); return nil }, map[bool]string{false: reset, true: alerted}},
		{"connecting", func(sc *scene, _ *Config, _ *Deps) {}, func(sc *scene) func() { sc.asked(1); return nil }, map[bool]string{false: reset}},
		{"waiting for the inner relay", nil, func(sc *scene) func() { <-requests; return nil }, map[bool]string{false: reset, true: alerted}},
		{"in the pause", nil, func(sc *scene) func() {
			for range 3 { // the third is followed by the longest pause
				<-requests
			}
			return nil
		}, map[bool]string{false: reset, true: alerted}},
	}
	ends := []struct {
		name  string
		cause manager.Cause
		alert string
		life  time.Duration
		end   func(*scene)
	}{
		{"revoked", manager.CauseRevoked, "access_denied", patience, func(sc *scene) {
			sc.command(manager.Command{Kind: manager.CommandClose, EntryID: "e1", Reason: manager.ReasonRevoked})
		}},
		{"expired by command", manager.CauseExpired, "access_denied", patience, func(sc *scene) {
			sc.command(manager.Command{Kind: manager.CommandClose, EntryID: "e1", Reason: manager.ReasonExpired})
		}},
		{"not in a snapshot", manager.CauseRevoked, "access_denied", patience, func(sc *scene) { sc.snapshot() }},
		{"expired", manager.CauseExpired, "access_denied", 500 * time.Millisecond, nil},
		{"stopped", manager.CauseStopped, "internal_error", patience, func(sc *scene) { sc.stop() }},
	}
	for _, way := range askers {
		for _, st := range steps {
			for withTLS, told := range st.told {
				for _, e := range ends {
					if e.end == nil && st.name == "in the pause" {
						continue // that would be luck
					}
					t.Run(fmt.Sprintf("%s %s %s, TLS %t", way, st.name, e.name, withTLS), func(t *testing.T) {
						want := told
						if want == alerted {
							want = e.alert
						}
						sc := startScene(t, way, withTLS, st.change)
						var late func()
						switch st.name {
						case "asking", "asking in vain":
							release = sc.hold()
							defer release()
						case "connecting":
							sc.ctl.route.Inner = testenv.SilentAddress(t)
						case "waiting for the inner relay":
							sc.ctl.route.Inner, requests = signalInner(t, nil)
						case "in the pause":
							sc.ctl.route.Inner, requests = signalInner(t, refuseTicket)
						}
						expires := sc.listen(e.life)
						told := sc.connect()
						late = st.at(sc)
						begin := time.Now()
						var ending sync.WaitGroup
						if e.end != nil {
							ending.Go(func() { e.end(sc) })
						} else {
							begin = expires
						}
						err := <-told
						took := time.Since(begin)
						if slowest = max(slowest, took); took < 0 || took > within {
							t.Errorf("the client was told %s later; want %s at most", took, within)
						}
						if got := seen(err); got != want {
							t.Errorf("the client saw %s; want %s", got, want)
						}
						ending.Wait()
						if took := time.Since(begin); took > 2*time.Second+maxLate() {
							t.Errorf("it was over %s later", took)
						}
						if late != nil {
							late()
						}
						sc.expectAudit(e.cause, manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)
						begin = time.Now()
						sc.stop()
						if took := time.Since(begin); took > 2*time.Second+maxLate() {
							t.Errorf("Run went on for %s", took)
						}
						sc.nothingLeft()
						asked := len(sc.ctl.asked)
						if st.name != "in the pause" && asked != 1 || asked > 3 {
							t.Errorf("the manager was asked %d times", asked)
						}
					})
				}
			}
		}
	}
}

// nothingLeft checks what a relay that has ended has left.
func (sc *scene) nothingLeft() {
	sc.t.Helper()
	if all, live, slots := sc.all.Load(), sc.live.Load(), len(sc.slots); all != 0 || live != 0 || slots != 0 {
		sc.t.Errorf("%d connections, %d of them live, %d handshakes", all, live, slots)
	}
	sc.ctl.mu.Lock()
	defer sc.ctl.mu.Unlock()
	for _, r := range sc.ctl.records {
		sc.t.Errorf("one record too many: %+v", r)
	}
}

// halting is a client's connection that goes no further than its ClientHello.
type halting struct {
	*net.TCPConn
	writes int
	there  chan struct{} // closed when the server's part has come
}

func (h *halting) Write(b []byte) (int, error) {
	if h.writes++; h.writes == 1 {
		return h.TCPConn.Write(b)
	}
	close(h.there)
	_, err := io.Copy(io.Discard, h.TCPConn)
	return 0, err
}

// The same while the client is to speak TLS: it is reset, for want of keys.
func TestCutInHandshake(t *testing.T) { cutInHandshake(t, maxLate()) }

func TestOnTimeCutInHandshake(t *testing.T) { cutInHandshake(t, promised) }

func cutInHandshake(t *testing.T, within time.Duration) {
	ends := map[manager.Cause]func(*scene){
		manager.CauseRevoked: func(sc *scene) {
			sc.command(manager.Command{Kind: manager.CommandClose, EntryID: "e1", Reason: manager.ReasonRevoked})
		},
		manager.CauseStopped: func(sc *scene) { sc.stop() },
	}
	for _, way := range askers {
		for cause, e := range ends {
			for _, hello := range []string{"without a ClientHello", "with half of one", "with one", "waiting for the credential"} {
				t.Run(fmt.Sprintf("%s, %s %s", way, cause, hello), func(t *testing.T) {
					credential := hello == "waiting for the credential"
					there := make(chan struct{})
					sc := startScene(t, way, true, func(_ *scene, _ *Config, d *Deps) {
						if ctl, ok := d.Resolver.(*control); ok && credential {
							d.Resolver = slow{ctl, there}
						} else if a, ok := d.Resolver.(*asker); ok && credential {
							d.Resolver = slowAsker{a, slow{a.control, there}}
						}
					})
					sc.entry = sc.open(func(o *manager.Opening) {
						if credential {
							o.CredentialID = "cr1"
						}
					})
					c := dial(t, sc.entry)
					if hello == "with half of one" { // not later: the kernel tells of a reset once, maybe the writer
						io.WriteString(c, "\x16\x03\x01\x02\x00\x01")
					}
					told := make(chan error, 1)
					go func() {
						var err error
						if hello == "with one" {
							err = tls.Client(&halting{TCPConn: c, there: there}, sc.config()).Handshake()
						} else {
							_, err = c.Read(make([]byte, 1))
						}
						c.Close()
						told <- err
					}()
					sc.asked(1)
					if credential || hello == "with one" {
						<-there
					}
					begin := time.Now()
					var ending sync.WaitGroup
					ending.Go(func() { e(sc) })
					err := <-told
					// An alert, if the relay was not yet ready for a handshake.
					if got, took := seen(err), time.Since(begin); got != "reset" && (hello == "with one" || credential || got != "let in") || took > within {
						t.Errorf("the client saw %s after %s; want a reset within %s", got, took, within)
					}
					ending.Wait()
					if took := time.Since(begin); took > 2*time.Second+maxLate() {
						t.Errorf("it was over %s later", took)
					}
					sc.expectAudit(cause, manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)
					sc.stop()
					sc.nothingLeft()
				})
			}
		}
	}
}

// An end meets every moment of setting up, again and again: each connection is in the audit
// log once, whichever of the two was first.
func TestCutsMeetEverything(t *testing.T) {
	for _, way := range askers {
		for _, withTLS := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %t", way, withTLS), func(t *testing.T) {
				sc := startScene(t, way, withTLS, nil)
				rounds := 150
				if withTLS {
					rounds = 100
				}
				a := freePort(t)
				sc.snapshot()
				var longest time.Duration
				for i := range rounds {
					id := manager.EntryID(fmt.Sprintf("e%d", i))
					sc.ctl.change(func(c *control) { c.route.EntryID = id })
					o := opening(id, a, time.Minute)
					o.TLS = withTLS
					if ack := sc.command(manager.Command{Kind: manager.CommandOpen, Openings: []manager.Opening{o}}); len(ack.Failures) != 0 {
						t.Fatalf("%+v", ack)
					}
					sc.entry = a
					begin := time.Now()
					told := sc.connect()
					if i%10 == 9 && i < rounds/2 { // how long one takes that is let be
						eventually(t, "it is relayed", func() bool { return sc.Status().Live == 1 })
						longest = max(longest, time.Since(begin))
					} else if longest > 0 {
						moment := time.NewTimer(longest * time.Duration(i%20) / 16)
						<-moment.C
					}
					sc.command(manager.Command{Kind: manager.CommandClose, EntryID: id, Reason: manager.ReasonRevoked})
					if err := <-told; err == nil {
						t.Fatal("the client is let be")
					}
				}
				sc.stop()
				all := map[string][]manager.AuditType{}
				for _, r := range sc.ctl.records {
					all[r.ConnectionID] = append(all[r.ConnectionID], r.Type)
					if r.Type == manager.AuditClosed && r.Cause != manager.CauseRevoked {
						t.Errorf("%s of %s: %s; want it revoked", r.Type, r.EntryID, r.Cause)
					}
				}
				outcomes := map[manager.AuditType]int{}
				for id, types := range all {
					if len(types) != 3 || types[0] != manager.AuditAccess || types[2] != manager.AuditClosed {
						t.Errorf("connection %s: %v", id, types)
						continue
					}
					outcomes[types[1]]++
				}
				t.Logf("%d connections of %d were accepted: %v, one takes %s", len(all), rounds, outcomes, longest)
				sc.ctl.records = nil
				sc.nothingLeft()
			})
		}
	}
}

// A credential that is revoked while its client is on its way to the device does not let it
// in.
func TestCredentialRevokedWhileReaching(t *testing.T) {
	for _, way := range askers {
		sc := startScene(t, way, true, nil)
		answer := make(chan struct{})
		var requests <-chan int
		sc.ctl.route.Inner, requests = signalInner(t, func(c net.Conn, _ int) {
			go func() { <-answer; io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n") }()
		})
		sc.entry = sc.open(withCredential)
		raw := dial(t, sc.entry)
		c := tls.Client(raw, sc.config(sc.clients.issue("ecdsa", 9, nil)))
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		<-requests
		sc.ctl.change(func(ctl *control) {
			cred := ctl.credentials["cr1"]
			cred.RevokedSerials = []string{"9"}
			ctl.credentials["cr1"] = cred
		})
		sc.command(manager.Command{Kind: manager.CommandCredential, CredentialID: "cr1"})
		begin := time.Now()
		close(answer)
		_, err := c.Read(make([]byte, 1))
		if got, took := seen(err), time.Since(begin); got != "certificate_revoked" || took > maxLate() {
			t.Errorf("%s: the client saw %s after %s; want certificate_revoked", way, got, took)
		}
		raw.Close()
		sc.expectAudit("certificate-revoked", manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)
		sc.stop()
		sc.nothingLeft()
	}
}

// An inner relay whose tickets are never good is asked as often as it is worth, and the
// client told then.
func TestAskingAgain(t *testing.T) {
	for _, way := range askers {
		sc := startScene(t, way, false, nil)
		var requests <-chan int
		sc.ctl.route.Inner, requests = signalInner(t, refuseTicket)
		sc.listen(patience)
		if got := seen(<-sc.connect()); got != "reset" {
			t.Errorf("%s: the client saw %s; want a reset", way, got)
		}
		sc.expectAudit("ticket-invalid", manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)
		sc.stop()
		want := len(askAgain) + 1
		eventually(t, "all requests are counted", func() bool { return len(requests) >= want })
		if n := len(requests); n != want || len(sc.ctl.asked) != want {
			t.Errorf("%s: %d requests, the manager was asked %d times; want %d", way, n, len(sc.ctl.asked), want)
		}
		sc.nothingLeft()
	}
}

// first is a Resolver that answers nobody about a credential until the first who asked has
// gone.
type first struct {
	*control
	calls chan context.Context
}

func (f first) Credential(ctx context.Context, id manager.CredentialID) (manager.Credential, error) {
	f.calls <- ctx
	if len(f.calls) == 1 {
		<-ctx.Done()
		return manager.Credential{}, ctx.Err()
	}
	return f.control.Credential(ctx, id)
}

// Connections that wait for the same credential do not suffer from the end of each other's
// entry.
func TestCredentialOfTwoEntries(t *testing.T) {
	calls := make(chan context.Context, 10)
	sc := startScene(t, askers[1], true, func(_ *scene, _ *Config, d *Deps) {
		d.Resolver = first{d.Resolver.(*control), calls}
	})
	a, b := opening("e1", freePort(t), time.Minute), opening("e2", freePort(t), time.Minute)
	for _, o := range []*manager.Opening{&a, &b} {
		o.TLS, o.CredentialID = true, "cr1"
	}
	sc.snapshot(a, b)
	gone := dial(t, a.Address)
	eventually(t, "the first is asking", func() bool { return len(calls) == 1 })
	sc.ctl.change(func(c *control) { c.route.EntryID = "e2" })
	told := make(chan error, 1)
	go func() {
		_, err := dialTLS(t, b.Address, sc.config(sc.clients.issue("ecdsa", 9, nil)))
		told <- err
	}()
	sc.asked(2)
	sc.command(manager.Command{Kind: manager.CommandClose, EntryID: "e1", Reason: manager.ReasonRevoked})
	gone.Close()
	if err := <-told; err != nil {
		t.Errorf("the client of another entry: %v; want it let in", err)
	}
}

// One that waits for the answer which another is asking for does not wait longer than its own
// entry lives.
func TestEndOfEntryThatWaitsForAnothersQuestion(t *testing.T) {
	there := make(chan struct{})
	sc := startScene(t, askers[1], true, func(_ *scene, _ *Config, d *Deps) {
		d.Resolver = slow{d.Resolver.(*control), there}
	})
	a, b := opening("e2", freePort(t), time.Minute), opening("e1", freePort(t), time.Minute)
	for _, o := range []*manager.Opening{&a, &b} {
		o.TLS, o.CredentialID = true, "cr1"
	}
	sc.snapshot(a, b)
	sc.ctl.change(func(c *control) { c.route.EntryID = "e2" })
	dial(t, a.Address)
	<-there
	sc.ctl.change(func(c *control) { c.route.EntryID = "e1" })
	waits := dial(t, b.Address)
	stacks := make([]byte, 1<<20)
	eventually(t, "both want the credential", func() bool { // what they wait for is seen nowhere else
		return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte("outer.(*credentials).get(")) == 2
	})
	sc.audited(1) // the access of the one that asks
	begin := time.Now()
	sc.command(manager.Command{Kind: manager.CommandClose, EntryID: "e1", Reason: manager.ReasonRevoked})
	if took := time.Since(begin); took > maxLate() {
		t.Errorf("the entry was over %s later", took)
	}
	if _, err := waits.Read(make([]byte, 1)); seen(err) != "reset" {
		t.Errorf("the client saw %s; want a reset", seen(err))
	}
	sc.expectAudit(manager.CauseRevoked, manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)
}
