// Package upf is a user plane function: the N4 server (PFCP, TS 29.244 Release 17)
// that turns sessions into rules of a datapath, which moves the packets.
//
// Run owns three kinds of goroutines: one reads N4, one owns the PFCP state (it
// handles one message, event or timer at a time), and those of the datapath. A rule
// change is built aside and published at once, so that packets and the control plane
// never see half of it.
//
// The package does not allocate UE addresses (the SMF does), does not buffer downlink
// packets, and knows no SDF filters, traffic endpoints or MAR.
package upf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/tun"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/upf/datapath"
)

// PFCPPort is the registered UDP port of PFCP (TS 29.244 clause 4.2.2).
const PFCPPort = 8805

// Config describes a UPF.
type Config struct {
	// NodeID is how the UPF names itself on N4, an IP address or an FQDN; empty
	// means N4Address.
	NodeID string `yaml:"node_id"`
	// N4Address is the address in our F-SEIDs. Required.
	N4Address netip.Addr `yaml:"n4_address"`
	// N3Address is the address in our F-TEIDs. Required.
	N3Address netip.Addr `yaml:"n3_address"`
	// NetworkInstances are the data networks behind N6, one device each in Deps.N6.
	// At least one. If there is exactly one, rules need not name it.
	NetworkInstances []ident.DNN `yaml:"network_instances"`
	// T1 is how long the UPF waits for a response before it sends a request again;
	// 0 means 3 s.
	T1 time.Duration `yaml:"t1"`
	// N1 is how often a request is sent in all; 0 means 3.
	N1 int `yaml:"n1"`
	// HeartbeatInterval is how often the UPF asks each associated CP function for
	// a heartbeat; 0 means never (the CP function asks).
	HeartbeatInterval time.Duration `yaml:"heartbeat_interval"`
	// CPPort is where CP functions receive requests; 0 means PFCPPort.
	CPPort uint16 `yaml:"cp_port"`
	// ErrorIndicationRate limits GTP-U Error Indications per second; 0 means 100.
	ErrorIndicationRate int `yaml:"error_indication_rate"`
}

// Validate reports the first field that is missing or out of range.
func (c Config) Validate() error {
	switch {
	case !c.N4Address.IsValid():
		return errors.New("upf: n4_address: required")
	case !c.N3Address.IsValid():
		return errors.New("upf: n3_address: required")
	case len(c.NetworkInstances) == 0:
		return errors.New("upf: network_instances: at least one required")
	case c.T1 < 0 || c.HeartbeatInterval < 0:
		return errors.New("upf: t1 and heartbeat_interval: must not be negative")
	case c.N1 < 0:
		return fmt.Errorf("upf: n1: %d is negative", c.N1)
	}
	seen := make(map[ident.DNN]bool)
	for _, n := range c.NetworkInstances {
		if n == "" || seen[n] {
			return fmt.Errorf("upf: network_instances: %q is empty or named twice", n)
		}
		seen[n] = true
	}
	return nil
}

// Deps is what a UPF works with. Run closes the sockets and devices.
type Deps struct {
	Log *slog.Logger // nil discards
	N4  dgram.Conn
	N3  dgram.Conn
	N6  map[ident.DNN]tun.Device // one for each of Config.NetworkInstances
	// Recovery is the recovery time stamp that tells CP functions of a restart; zero
	// means the time of Run. PFCP counts in whole seconds (TS 29.244 clause 8.2.65),
	// so whoever may start a UPF anew within the second of its last start gives one
	// that is a second or more later.
	Recovery time.Time
}

// Datapath is what the N4 server needs of packet forwarding. *datapath.Plain is one.
type Datapath interface {
	Run(ctx context.Context) error
	Ready() <-chan struct{}
	Apply(s datapath.Session) (removed map[uint32]datapath.Usage, err error)
	Remove(id ident.SEID) (map[uint32]datapath.Usage, error)
	Usage(id ident.SEID) (map[uint32]datapath.Usage, error)
	SetVolumeLimit(id ident.SEID, urr uint32, limit uint64)
	SendEndMarker(to ident.FTEID) error
	Events() <-chan datapath.Event
	Status() datapath.Status
}

var _ Datapath = (*datapath.Plain)(nil)

// UPF is a user plane function. Its exported methods may be called from any
// goroutine; Run once.
type UPF struct {
	log    *slog.Logger
	cfg    Config
	node   pfcp.NodeID
	n4     dgram.Conn
	dp     Datapath
	ready  chan struct{}
	warned map[string]bool // by the N4 loop: what has been logged once

	mu sync.Mutex // guards what follows; the N4 loop holds it while it handles one thing
	state
}

// New checks cfg and d. It opens and starts nothing.
func New(cfg Config, d Deps) (*UPF, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if d.N4 == nil || d.N3 == nil {
		return nil, errors.New("upf: Deps.N4 and Deps.N3 are required")
	}
	if len(d.N6) != len(cfg.NetworkInstances) {
		return nil, fmt.Errorf("upf: %d N6 devices for %d network instances", len(d.N6), len(cfg.NetworkInstances))
	}
	for _, n := range cfg.NetworkInstances {
		if d.N6[n] == nil {
			return nil, fmt.Errorf("upf: no N6 device for network instance %q", n)
		}
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.T1 == 0 {
		cfg.T1 = 3 * time.Second
	}
	if cfg.N1 == 0 {
		cfg.N1 = 3
	}
	if cfg.CPPort == 0 {
		cfg.CPPort = PFCPPort
	}
	log := d.Log.With("nf", "upf")
	dp, err := datapath.New(
		datapath.Config{N3: cfg.N3Address, ErrorIndicationRate: cfg.ErrorIndicationRate},
		datapath.Deps{Log: log, N3: d.N3, N6: d.N6},
	)
	if err != nil {
		return nil, err
	}
	u := &UPF{
		log:    log,
		cfg:    cfg,
		node:   nodeID(cfg),
		n4:     d.N4,
		dp:     dp,
		ready:  make(chan struct{}),
		warned: make(map[string]bool),
		state:  newState(),
	}
	u.recovery = d.Recovery
	return u, nil
}

func nodeID(cfg Config) pfcp.NodeID {
	if cfg.NodeID == "" {
		return pfcp.NodeID{Addr: cfg.N4Address}
	}
	if a, err := netip.ParseAddr(cfg.NodeID); err == nil {
		return pfcp.NodeID{Addr: a}
	}
	return pfcp.NodeID{FQDN: cfg.NodeID}
}

// Ready is closed once N4 requests are answered and packets are moved.
func (u *UPF) Ready() <-chan struct{} { return u.ready }

// Run serves until ctx is cancelled and returns nil, or returns why it could not go
// on. Sessions end with it: the recovery time stamp of the next start tells the CP
// functions.
func (u *UPF) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	u.mu.Lock()
	if u.recovery.IsZero() {
		u.recovery = time.Now()
	}
	// PFCP tells time in seconds (TS 29.244 clause 8.2.65).
	u.recovery = u.recovery.Truncate(time.Second)
	u.mu.Unlock()

	received := make(chan packet, 256)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := u.dp.Run(ctx); err != nil {
			cancel(err)
		}
	})
	wg.Go(func() {
		if err := u.read(ctx, received); err != nil {
			cancel(err)
		}
	})
	wg.Go(func() {
		select {
		case <-u.dp.Ready():
			close(u.ready)
		case <-ctx.Done():
		}
		u.loop(ctx, received)
	})
	<-ctx.Done()
	u.n4.Close()
	wg.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("upf: %w", cause)
	}
	return nil
}

// packet is one datagram from N4.
type packet struct {
	from netip.AddrPort
	data []byte
}

// read is the only reader of N4.
func (u *UPF) read(ctx context.Context, to chan<- packet) error {
	ds := make([]dgram.Datagram, 16)
	for i := range ds {
		ds[i].Buf = make([]byte, 65535)
	}
	for {
		n, err := u.n4.ReadBatch(ds)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read N4: %w", err)
		}
		for _, d := range ds[:n] {
			select {
			case to <- packet{d.Addr, append([]byte(nil), d.Buf[:d.N]...)}:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// loop owns the PFCP state.
func (u *UPF) loop(ctx context.Context, received <-chan packet) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		u.mu.Lock()
		wait := u.timers.next(time.Now())
		u.mu.Unlock()
		timer.Reset(wait)
		select {
		case p := <-received:
			u.mu.Lock()
			u.receive(p, time.Now())
			u.mu.Unlock()
		case e := <-u.dp.Events():
			u.mu.Lock()
			u.event(e, time.Now())
			u.mu.Unlock()
		case <-timer.C:
			u.mu.Lock()
			u.timers.run(time.Now())
			u.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// warnOnce logs the first of its kind; counters tell the rest.
func (u *UPF) warnOnce(msg string, args ...any) {
	if !u.warned[msg] {
		u.warned[msg] = true
		u.log.Warn(msg, args...)
	}
}
