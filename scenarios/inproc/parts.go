package inproc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/node"
	"github.com/simreach/simreach/internal/sctp"
	"github.com/simreach/simreach/internal/tun"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/nf/amf"
	"github.com/simreach/simreach/nf/sbi"
	"github.com/simreach/simreach/nf/smf"
	"github.com/simreach/simreach/nf/udm"
	"github.com/simreach/simreach/nf/upf"
	"github.com/simreach/simreach/relay/inner"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/scenarios/plan/relaying"
	"github.com/simreach/simreach/scenarios/spec"
	"github.com/simreach/simreach/ue"
	"github.com/simreach/simreach/ue/gnb"
)

// parts is what the components find each other by.
type parts struct {
	udm *udm.UDM // it and the SMF are handed to those who call them, and stay
	smf *smf.SMF
	ues map[string]plan.Device // steps run one after another, so a restart needs no lock

	// mu guards what follows. Restarting a unit replaces its entry; the others look
	// it up at every use.
	mu   sync.Mutex
	amf  *amf.AMF
	gnbs map[string]*gnb.GNB
	upfs map[string]*upf.UPF
	n6s  map[string]*n6 // by UPF
	// recoveries are the UPFs' recovery time stamps. They count whole seconds, and a
	// UPF of this process may be killed and started again within one.
	recoveries map[string]time.Time
}

const (
	portPFCP = 8805
	portGTPU = 2152
)

// assemble makes a unit for every node that has a process on the other backend.
func (t *topology) assemble() {
	t.parts = parts{ues: map[string]plan.Device{}, gnbs: map[string]*gnb.GNB{}, upfs: map[string]*upf.UPF{}, n6s: map[string]*n6{}, recoveries: map[string]time.Time{}}
	t.units = map[string]*unit{
		"udm":     {name: "udm", open: t.openUDM, called: true},
		"smf":     {name: "smf", open: t.openSMF, called: true},
		"amf":     {name: "amf", open: t.openAMF},
		"manager": {name: "manager", open: t.openManager},
		plan.UEs:  {name: plan.UEs, open: t.openUEs},
	}
	add := func(name string, open func() ([]component, error)) {
		t.units[name] = &unit{name: name, open: open}
	}
	for _, u := range t.spec.UPFs {
		add(u.Name, func() ([]component, error) { return t.openUPF(u) })
	}
	for _, r := range t.spec.InnerRelays {
		add(r.Name, func() ([]component, error) { return t.openInner(r) })
	}
	for _, r := range t.spec.OuterRelays {
		add(r.Name, func() ([]component, error) { return t.openOuter(r) })
	}
	for i, g := range t.spec.GNBs {
		add(g.Name, func() ([]component, error) { return t.openGNB(i) })
	}
}

func (t *topology) at(name, network string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(plan.On(t.spec, name, network), port)
}

// idle is the component of a unit whose part needs no goroutine.
type idle struct{ ready chan struct{} }

func newIdle() idle {
	i := idle{make(chan struct{})}
	close(i.ready)
	return i
}

func (i idle) Ready() <-chan struct{}        { return i.ready }
func (i idle) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func (t *topology) openUDM() ([]component, error) {
	to, err := t.reports()
	if err != nil {
		return nil, err
	}
	f, err := sbi.NewForwarder(to, t.log)
	if err != nil {
		return nil, err
	}
	u, err := udm.New(plan.UDM(t.spec), udm.Deps{
		Log: t.log, AMF: func(sbi.AMFRegistration) (sbi.Communication, error) { return t.findAMF() }, Equipment: f.Forward,
	})
	if err != nil {
		return nil, err
	}
	t.parts.udm = u
	return []component{f}, nil
}

// chf is where the manager takes reports of the core. It is reached over loopback, as
// between processes, because it may be killed.
func (t *topology) chf() netip.AddrPort {
	return netip.AddrPortFrom(t.links.host(t.spec, "manager", plan.SBI), plan.PortCHF)
}

// reports returns a client for what the core reports to the manager. Who reports
// repeats what failed, in its own time.
func (t *topology) reports() (*sbi.Client, error) {
	return sbi.NewClient("http://"+t.chf().String(), sbi.ClientOptions{RetryFor: -1})
}

func (t *topology) findAMF() (sbi.Communication, error) {
	t.parts.mu.Lock()
	defer t.parts.mu.Unlock()
	if t.parts.amf == nil {
		return nil, errors.New("the AMF is not there yet")
	}
	return t.parts.amf, nil
}

func (t *topology) openSMF() ([]component, error) {
	n4, err := t.links.n4.ListenUDP(t.at("smf", plan.N4, portPFCP))
	if err != nil {
		return nil, err
	}
	chf, err := t.reports()
	if err != nil {
		return nil, errors.Join(err, n4.Close())
	}
	cfg := plan.SMF(t.spec, n4.LocalAddr(), func(u string) netip.AddrPort { return t.at(u, plan.N4, portPFCP) })
	s, err := smf.New(cfg, smf.Deps{
		Log: t.log, N4: n4, SubscriberData: t.parts.udm, UEContext: t.parts.udm, Rand: rand.Reader,
		AMF: func(sbi.NFID) (sbi.Communication, error) { return t.findAMF() }, Charging: chf,
	})
	if err != nil {
		return nil, errors.Join(err, n4.Close())
	}
	t.parts.smf = s
	return []component{after{s, func() error { chf.Close(); return nil }}}, nil
}

func (t *topology) openAMF() ([]component, error) {
	carrier, err := t.links.n2.ListenIP(plan.On(t.spec, "amf", plan.N2), ipprotoSCTP)
	if err != nil {
		return nil, err
	}
	st, err := sctp.NewStack(carrier, sctp.StackConfig{Log: t.log})
	if err != nil {
		return nil, errors.Join(err, carrier.Close())
	}
	l, err := st.Listen(sctp.PortNGAP)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	a, err := amf.New(plan.AMF(t.spec), amf.Deps{
		Log: t.log, N2: l, Authentication: t.parts.udm, SubscriberData: t.parts.udm, UEContext: t.parts.udm, Sessions: t.parts.smf, Equipment: t.parts.udm,
	})
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	t.parts.mu.Lock()
	t.parts.amf = a
	t.parts.mu.Unlock()
	return []component{after{a, st.Close}}, nil
}

const ipprotoSCTP = 132

// after is a component with something to close when it has ended.
type after struct {
	component
	close func() error
}

// Run implements component.
func (a after) Run(ctx context.Context) error { return errors.Join(a.component.Run(ctx), a.close()) }

func (t *topology) openUPF(u spec.UPF) ([]component, error) {
	n6, err := t.links.openN6(t.spec, u)
	if err != nil {
		return nil, err
	}
	d := upf.Deps{Log: t.log, N6: map[ident.DNN]tun.Device{}, Recovery: t.recovery(u.Name)}
	for _, x := range n6.stacks {
		d.N6[ident.DNN(x.dnn)] = x.dev
	}
	n4, err := t.links.n4.ListenUDP(t.at(u.Name, plan.N4, portPFCP))
	if err != nil {
		return nil, errors.Join(err, n6.close())
	}
	n3, err := t.links.n3.ListenUDP(t.at(u.Name, plan.N3, portGTPU))
	if err != nil {
		return nil, errors.Join(err, n6.close(), n4.Close())
	}
	d.N3, d.N4 = n3, n4
	c, err := upf.New(plan.UPF(u, n3.LocalAddr().Addr(), n4.LocalAddr().Addr()), d)
	if err != nil {
		return nil, errors.Join(err, n6.close(), n4.Close(), n3.Close())
	}
	t.parts.mu.Lock()
	t.parts.upfs[u.Name], t.parts.n6s[u.Name] = c, n6
	t.parts.mu.Unlock()
	return []component{after{c, n6.close}}, nil
}

// recovery returns a recovery time stamp later than the UPF's last.
func (t *topology) recovery(upf string) time.Time {
	t.parts.mu.Lock()
	defer t.parts.mu.Unlock()
	now := time.Now()
	if next := t.parts.recoveries[upf].Add(time.Second); now.Before(next) {
		now = next
	}
	t.parts.recoveries[upf] = now
	return now
}

func (t *topology) openGNB(i int) ([]component, error) {
	name := t.spec.GNBs[i].Name
	carrier, err := t.links.n2.ListenIP(plan.On(t.spec, name, plan.N2), ipprotoSCTP)
	if err != nil {
		return nil, err
	}
	st, err := sctp.NewStack(carrier, sctp.StackConfig{Log: t.log})
	if err != nil {
		return nil, errors.Join(err, carrier.Close())
	}
	n3, err := t.links.n3.ListenUDP(t.at(name, plan.N3, portGTPU))
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	g, err := gnb.New(plan.GNB(t.spec, i, n3.LocalAddr(), t.at("amf", plan.N2, sctp.PortNGAP)), gnb.Deps{Log: t.log, N2: dialer{st}, N3: n3})
	if err != nil {
		return nil, errors.Join(err, st.Close(), n3.Close())
	}
	t.parts.mu.Lock()
	t.parts.gnbs[name] = g
	t.parts.mu.Unlock()
	return []component{after{g, st.Close}}, nil
}

// dialer makes an sctp.Dialer of a stack without UDP encapsulation.
type dialer struct{ st *sctp.Stack }

// Dial implements sctp.Dialer.
func (d dialer) Dial(ctx context.Context, addr netip.AddrPort) (sctp.Conn, error) {
	return d.st.Dial(ctx, addr, 0)
}

func (t *topology) air(name string) (ue.Air, error) {
	t.parts.mu.Lock()
	defer t.parts.mu.Unlock()
	g, ok := t.parts.gnbs[name]
	if !ok {
		return nil, fmt.Errorf("no gNB %q", name)
	}
	return g, nil
}

func (t *topology) openUEs() ([]component, error) {
	var out []component
	for _, d := range t.spec.Devices {
		cfg, err := plan.UE(t.spec, d)
		if err != nil {
			return nil, err
		}
		u, err := ue.New(cfg, ue.Deps{Log: t.log, Air: t.air, Host: newHost(d, t.log)})
		if err != nil {
			return nil, err
		}
		t.parts.ues[d.Name] = plan.Device{UE: u, Sessions: cfg.Sessions}
		out = append(out, u)
	}
	if len(out) == 0 {
		out = append(out, newIdle())
	}
	return out, nil
}

// role makes a component of a node role: the manager and the relays are wired here
// as in a process of their own, but for what they find in this process.
type role struct {
	node.Role
	log   *slog.Logger
	ready chan struct{}
}

func newRole(r node.Role, log *slog.Logger) role { return role{r, log, make(chan struct{})} }

// Ready implements component.
func (r role) Ready() <-chan struct{} { return r.ready }

// Run implements component.
func (r role) Run(ctx context.Context) error {
	return r.Role.Run(ctx, r.log, func() { close(r.ready) })
}

// relaying builds the relay system's roles. Its networks are all loopback here.
func (t *topology) relaying() relaying.Plan {
	return relaying.Plan{
		Spec: t.spec, Secrets: t.secrets, Dir: t.store, OneAddress: true, Results: t.results,
		At: func(node, network string) netip.Addr { return t.links.host(t.spec, node, network) },
	}
}

func (t *topology) openManager() ([]component, error) {
	c, err := t.relaying().Manager()
	if err != nil {
		return nil, err
	}
	c.Charging, c.Sessions = t.chf(), t.parts.smf
	c.Core = manager.Core{Provisioning: t.parts.udm, Control: t.parts.smf}
	return []component{newRole(c, t.log)}, nil
}

func (t *topology) openInner(r spec.InnerRelay) ([]component, error) {
	c, err := t.relaying().Inner(r)
	if err != nil {
		return nil, err
	}
	c.Dial = func(ctx context.Context, device netip.AddrPort) (net.Conn, error) {
		var err error = &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(device), Err: errNoRoute}
		for _, u := range r.UPFs {
			t.parts.mu.Lock()
			n := t.parts.n6s[u]
			t.parts.mu.Unlock()
			if n == nil {
				continue
			}
			var conn net.Conn
			if conn, err = n.dial(ctx, device); !errors.Is(err, errNoRoute) {
				return conn, err
			}
		}
		return nil, err
	}
	c.Ping = func(ctx context.Context, q inner.PingRequest) (inner.PingResult, error) {
		for _, u := range r.UPFs {
			t.parts.mu.Lock()
			n := t.parts.n6s[u]
			t.parts.mu.Unlock()
			if n == nil {
				continue
			}
			if st, ok := n.towards(q.Device); ok {
				return ping(ctx, st, q)
			}
		}
		return inner.PingResult{}, fmt.Errorf("ping %s: %w", q.Device, errNoRoute)
	}
	return []component{newRole(c, t.log)}, nil
}

func (t *topology) openOuter(r spec.OuterRelay) ([]component, error) {
	c, err := t.relaying().Outer(r)
	if err != nil {
		return nil, err
	}
	return []component{newRole(c, t.log)}, nil
}
