// Package datapath moves user packets between N3 and N6 by rules: TEID lookup and
// decapsulation uplink, UE address lookup and encapsulation downlink, gates, bit
// rates, counters. It knows no PFCP: package upf turns PFCP sessions into its rules.
//
// Plain is the portable implementation: one goroutine reads N3 and one reads each
// N6 device, all owned by Run. They find a session in a sharded table and its rules
// behind one atomic pointer, so a change of rules is one store for the packets and
// costs the same however many sessions there are. A packet costs no lock, no
// allocation and no log line.
//
// On size: a downlink packet becomes OverheadV4 or OverheadV6 bytes longer. Packets
// that no longer fit the N3 link are sent all the same and left to IP
// fragmentation by the kernel; to avoid that, give each N6 device an MTU of
// the N3 link's less the overhead, 1456 for IPv4 over 1500.
//
// The package does not route between UEs (that is up to what stands behind N6),
// does not buffer packets, does not answer ICMP or IPv6 router solicitations, and
// answers Echo Requests but sends none: whether a gNB is there is N2's to tell.
package datapath

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/tun"
	"github.com/simreach/simreach/internal/wire/gtpu"
)

// How much longer encapsulation makes a packet: IP, UDP and GTP-U headers with the
// PDU session container.
const (
	OverheadV4 = 20 + 8 + gtpu.GPDUWithQFISize
	OverheadV6 = 40 + 8 + gtpu.GPDUWithQFISize
)

// Config describes a Plain datapath.
type Config struct {
	// N3 is our address in Error Indications and thus in the F-TEIDs of the rules.
	N3 netip.Addr
	// BatchSize is how many packets one read takes at most; 0 means 64.
	BatchSize int
	// ErrorIndicationRate is how many Error Indications, and how many Supported
	// Extension Headers Notifications, may be sent per second; 0 means 100.
	ErrorIndicationRate int
	// PeerPort is where GTP-U peers listen; 0 means gtpu.Port. Only tests that run
	// several peers on one address change it.
	PeerPort uint16
}

// Validate reports the first field that is out of range.
func (c Config) Validate() error {
	if !c.N3.IsValid() {
		return errors.New("datapath: no N3 address")
	}
	if c.BatchSize < 0 || c.BatchSize > 1024 {
		return fmt.Errorf("datapath: batch size %d: want 0 to 1024", c.BatchSize)
	}
	if c.ErrorIndicationRate < 0 || c.ErrorIndicationRate > 1_000_000 {
		return fmt.Errorf("datapath: error indication rate %d: want 0 to 1000000", c.ErrorIndicationRate)
	}
	return nil
}

// Deps is what a Plain datapath works on. Run closes the sockets and devices.
type Deps struct {
	Log *slog.Logger // nil discards
	N3  dgram.Conn
	N6  map[ident.DNN]tun.Device // by network instance
}

// Plain is the userspace datapath. Apply, Remove, Usage and the other methods may
// be called from any goroutine, also before and after Run.
type Plain struct {
	log   *slog.Logger
	cfg   Config
	n3    dgram.Conn
	n6    map[ident.DNN]*network
	byIdx []*network
	start time.Time
	ready chan struct{}

	sessions sessions
	events   chan Event
	count    counters

	errorIndications *meter
	notifications    *meter
	warned           [warnings]atomic.Bool
}

// network is one N6 device with the UE addresses behind it.
type network struct {
	name  ident.DNN
	index int
	dev   tun.Device
	byUE  table[ueKey]
}

// New checks cfg and d.
func New(cfg Config, d Deps) (*Plain, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if d.N3 == nil {
		return nil, errors.New("datapath: Deps.N3 is nil")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.BatchSize == 0 {
		cfg.BatchSize = 64
	}
	if cfg.ErrorIndicationRate == 0 {
		cfg.ErrorIndicationRate = 100
	}
	if cfg.PeerPort == 0 {
		cfg.PeerPort = gtpu.Port
	}
	p := &Plain{
		log:    d.Log,
		cfg:    cfg,
		n3:     d.N3,
		n6:     make(map[ident.DNN]*network, len(d.N6)),
		start:  time.Now(),
		ready:  make(chan struct{}),
		events: make(chan Event, eventQueue),
		// One message counts as 8 bit against a rate of 8 bit per message.
		errorIndications: newMeter(uint64(cfg.ErrorIndicationRate)*8, uint64(cfg.ErrorIndicationRate)),
		notifications:    newMeter(uint64(cfg.ErrorIndicationRate)*8, uint64(cfg.ErrorIndicationRate)),
	}
	p.sessions.byID = make(map[ident.SEID]*session)
	for name, dev := range d.N6 {
		if dev == nil {
			return nil, fmt.Errorf("datapath: Deps.N6[%q] is nil", name)
		}
		n := &network{name: name, index: len(p.byIdx), dev: dev}
		p.n6[name] = n
		p.byIdx = append(p.byIdx, n)
	}
	return p, nil
}

// Run moves packets until ctx is cancelled, then closes N3 and the N6 devices and
// returns nil; it returns an error, and closes them too, if one of them fails.
func (p *Plain) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	loop := func(run func() error) {
		wg.Go(func() {
			if err := run(); err != nil {
				cancel(err)
			}
		})
	}
	loop(p.uplink)
	for _, n := range p.byIdx {
		loop(func() error { return p.downlink(n) })
	}
	close(p.ready)
	<-ctx.Done()
	p.n3.Close()
	for _, n := range p.byIdx {
		n.dev.Close()
	}
	wg.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return nil
}

// Ready is closed once packets are moved.
func (p *Plain) Ready() <-chan struct{} { return p.ready }

// now is the clock of the meters: nanoseconds since New.
func (p *Plain) now() int64 { return int64(time.Since(p.start)) }

// closedErr tells whether err only says that the socket or device was closed.
func closedErr(err error) bool { return errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) }

// Reasons for a warning; each is logged the first time only, and counted always.
const (
	warnN3Send = iota
	warnN6Write
	warnMalformed
	warnSpoofed
	warnEvents
	warnings
)

// first reports whether kind has not been logged yet. Ask before the arguments are
// put together: that costs an allocation per packet.
func (p *Plain) first(kind int) bool { return !p.warned[kind].Load() && !p.warned[kind].Swap(true) }
