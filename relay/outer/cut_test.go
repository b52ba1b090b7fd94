package outer

import (
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
)

// A device that leaves its address loses the connections that lead there, and no others;
// the entries stay.
func TestDeviceLeaves(t *testing.T) {
	const one, two = ident.IMSI("001010000000001"), ident.IMSI("001010000000002")
	s := startTLS(t, nil)
	s.ctl.change(func(c *control) { c.route.IMSI = one })
	c := s.dialMany(s.open(forMany))
	gone, err := c.Connect(t.Context(), "sim:1")
	if err != nil {
		t.Fatal(err)
	}
	s.ctl.change(func(c *control) { c.route.Device = netip.MustParseAddrPort("10.0.0.2:22") })
	moved, err := c.Connect(t.Context(), "sim:1")
	if err != nil {
		t.Fatal(err)
	}
	s.ctl.change(func(c *control) { c.route.IMSI, c.route.Device = two, netip.MustParseAddrPort("10.0.0.1:22") })
	other, err := c.Connect(t.Context(), "sim:2")
	if err != nil {
		t.Fatal(err)
	}
	s.audited(6)
	s.command(manager.Command{Kind: manager.CommandCut, IMSI: one, Device: netip.MustParseAddr("10.0.0.1")})
	if _, err := gone.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("its device has left: %v; want an error", err)
	}
	s.expectAudit("device-left", manager.AuditClosed)
	for what, st := range map[string]io.ReadWriter{"where it is now": moved, "another device": other} {
		io.WriteString(st, "ping")
		if _, err := io.ReadFull(st, make([]byte, 4)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	again, err := c.Connect(t.Context(), "sim:1")
	if err != nil {
		t.Fatalf("the entry has gone with the device: %v", err)
	}
	again.Close()
}

const gone = ident.IMSI("001010000000001")

// goes says that the device of the scene has left its address.
func (sc *scene) goes() {
	sc.t.Helper()
	sc.command(manager.Command{Kind: manager.CommandCut, IMSI: gone, Device: netip.MustParseAddr("10.0.0.1")})
}

// led waits until a connection that is being set up has been told its way.
func (sc *scene) led() {
	sc.t.Helper()
	eventually(sc.t, "a connection knows its way", func() bool {
		sc.mu.Lock()
		p := sc.entries["e1"]
		sc.mu.Unlock()
		cs, _ := p.list()
		return len(cs) == 1 && func() bool {
			c := cs[0]
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.device.IsValid()
		}()
	})
}

// A connection that is on its way to a device is turned away when the device leaves.
func TestDeviceLeavesDuringSetUp(t *testing.T) {
	for _, way := range askers {
		for _, step := range []string{"connecting", "waiting for the inner relay", "waiting for the inner relay, TLS", "waiting for the credential"} {
			t.Run(way+" "+step, func(t *testing.T) {
				withTLS := strings.HasSuffix(step, "TLS") || step == "waiting for the credential"
				there := make(chan struct{})
				sc := startScene(t, way, withTLS, func(_ *scene, _ *Config, d *Deps) {
					if step != "waiting for the credential" {
						return
					}
					if ctl, ok := d.Resolver.(*control); ok {
						d.Resolver = slow{ctl, there}
					} else if a, ok := d.Resolver.(*asker); ok {
						d.Resolver = slowAsker{a, slow{a.control, there}}
					}
				})
				sc.ctl.route.IMSI = gone
				want := "reset"
				var at func()
				switch step {
				case "connecting":
					sc.ctl.route.Inner = testenv.SilentAddress(t)
					at = func() {}
				case "waiting for the credential":
					at = func() { <-there }
				default:
					var requests <-chan int
					sc.ctl.route.Inner, requests = signalInner(t, nil)
					at = func() { <-requests }
					if withTLS {
						want = "internal_error"
					}
				}
				sc.entry = sc.open(func(o *manager.Opening) {
					o.TLS = withTLS
					if step == "waiting for the credential" {
						o.CredentialID = "cr1"
					}
				})
				told := sc.connect()
				at()
				sc.led()
				begin := time.Now()
				sc.goes()
				if got, took := seen(<-told), time.Since(begin); got != want || took > maxLate() {
					t.Errorf("the client saw %s after %s; want %s", got, took, want)
				}
				sc.expectAudit(manager.CauseDeviceLeft, manager.AuditAccess, manager.AuditDenied, manager.AuditClosed)
				if took := time.Since(begin); took > 2*time.Second+maxLate() {
					t.Errorf("it was over %s later", took)
				}
				sc.stop()
				sc.nothingLeft()
			})
		}
	}
}

// An answer of the manager that was under way when a device left is no way to it: the manager
// is asked again, of an entry for several devices too.
func TestDeviceLeavesWhileAsking(t *testing.T) {
	for _, way := range askers {
		for _, command := range []manager.CommandKind{manager.CommandCut, manager.CommandReview} {
			t.Run(way+" "+command.String(), func(t *testing.T) {
				targets := make(chan netip.AddrPort, 10)
				asked := make(chan []manager.Place, 10)
				sc := startScene(t, way, false, func(sc *scene, _ *Config, d *Deps) {
					if sc.asker != nil {
						d.Resolver = knowingAsker{sc.asker, knowing{asked: asked}}
					} else {
						d.Resolver = knowingControl{d.Resolver.(*control), knowing{asked: asked}}
					}
				})
				sc.ctl.route.IMSI = gone
				sc.ctl.route.Inner = fakeListener(t, func(c net.Conn) {
					defer c.Close()
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					defer cancel()
					if r, err := relay.ReadRequest(ctx, c); err == nil {
						targets <- r.Target
						relay.Accept(ctx, c)
						io.Copy(c, c)
					}
				})
				sc.listen(patience)
				release := sc.hold()
				defer release()
				c := dial(t, sc.entry)
				sc.asked(1)
				if command == manager.CommandCut {
					sc.goes()
				} else {
					other := dial(t, sc.entry) // which the review finds asking, too
					sc.asked(2)
					sc.command(manager.Command{Kind: manager.CommandReview})
					eventually(t, "both are to ask again", func() bool {
						sc.mu.Lock()
						p := sc.entries["e1"]
						sc.mu.Unlock()
						cs, _ := p.list()
						n := 0
						for _, c := range cs {
							c.mu.Lock()
							if c.stale {
								n++
							}
							c.mu.Unlock()
						}
						return n == 2
					})
					other.Close()
				}
				moved := netip.MustParseAddrPort("10.0.0.2:22")
				sc.ctl.change(func(c *control) { c.route.Device = moved })
				if a := sc.asker; a != nil {
					a.mu.Lock()
					a.held = false
					a.mu.Unlock()
				}
				release()
				ping(t, c)
				if to := <-targets; to != moved {
					t.Errorf("the client was led to %s, which its device has left; want %s", to, moved)
				}
			})
		}
	}
}

// knowing is what a manager knows of departures; it fails as often as it is told.
type knowing struct {
	left  func([]manager.Place) []manager.Place // nil: nobody
	fails *atomic.Int32                         // nil: never
	asked chan []manager.Place
}

func (k knowing) Departed(_ context.Context, places []manager.Place) ([]manager.Place, error) {
	if k.fails != nil && k.fails.Add(-1) >= 0 {
		return nil, manager.NewError(manager.CodeNotReady)
	}
	k.asked <- places
	if k.left == nil {
		return nil, nil
	}
	return k.left(places), nil
}

type knowingControl struct {
	*control
	knowing
}

type knowingAsker struct {
	*asker
	knowing
}

// Of devices that left while the relay could not be told it learns by asking: after a
// snapshot and when told to, until it is answered.
func TestReview(t *testing.T) {
	const one, two = ident.IMSI("001010000000001"), ident.IMSI("001010000000002")
	for _, command := range []manager.CommandKind{manager.CommandSnapshot, manager.CommandReview} {
		t.Run(command.String(), func(t *testing.T) {
			var fails atomic.Int32
			k := knowing{fails: &fails, asked: make(chan []manager.Place, 10), left: func(places []manager.Place) []manager.Place {
				return slices.DeleteFunc(slices.Clone(places), func(p manager.Place) bool { return p.IMSI != one })
			}}
			s := startTLS(t, func(_ *Config, d *Deps) { d.Resolver = knowingControl{d.Resolver.(*control), k} })
			s.ctl.change(func(c *control) { c.route.IMSI, c.route.InnerID = one, "inner1" })
			a := s.open(forMany)
			c := s.dialMany(a)
			left, err := c.Connect(t.Context(), "sim:1")
			if err != nil {
				t.Fatal(err)
			}
			defer left.CloseAfter(patience)()
			s.ctl.change(func(c *control) { c.route.IMSI = two })
			stays, err := c.Connect(t.Context(), "sim:2")
			if err != nil {
				t.Fatal(err)
			}
			s.audited(4)
			fails.Store(2)
			o := opening("e1", a, time.Minute)
			o.TLS, o.Many = true, true
			s.command(manager.Command{Kind: command, Openings: []manager.Opening{o}})
			if _, err := left.Read(make([]byte, 1)); err == nil || err == io.EOF {
				t.Errorf("its device has left: %v; want an error", err)
			}
			s.expectAudit(manager.CauseDeviceLeft, manager.AuditClosed)
			at := netip.MustParseAddr("10.0.0.1")
			want := []manager.Place{{IMSI: one, Inner: "inner1", Address: at}, {IMSI: two, Inner: "inner1", Address: at}}
			got := <-k.asked
			slices.SortFunc(got, func(a, b manager.Place) int { return strings.Compare(string(a.IMSI), string(b.IMSI)) })
			if !slices.Equal(got, want) {
				t.Errorf("asked about %+v; want %+v", got, want)
			}
			io.WriteString(stays, "ping")
			if _, err := io.ReadFull(stays, make([]byte, 4)); err != nil {
				t.Errorf("another device: %v", err)
			}
		})
	}
}
