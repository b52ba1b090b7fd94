package manager

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/simreach/simreach/bench/process"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/node"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/rpc"
	"github.com/simreach/simreach/manager/store"
)

const (
	operator    = "OP0000000001"
	keyID       = "keyId-bench"
	upf         = "upf1"
	outerRelays = 4
	restClients = 16
	fillers     = 64
	devicePort  = 22
)

var (
	relayPorts = manager.PortRange{First: 10000, Last: 65000}
	ranges     = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
)

// known is an entry that relays may ask for.
type known struct {
	id    manager.EntryID
	hit   netip.AddrPort
	imsi  ident.IMSI
	relay int
}

func relayID(i int) manager.RelayID { return manager.RelayID(fmt.Sprintf("outer%d", i+1)) }

func relayAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}) }

func imsi(i int) ident.IMSI { return ident.IMSI(fmt.Sprintf("00101%010d", i)) }

// fill puts entries and subscribers into the store as a manager would. Those of a
// configuration file would cost the manager the memory of reading it.
func (b *bench) fill(ctx context.Context) (err error) {
	st, err := store.Open(ctx, b.config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	at := time.Now().UTC().Truncate(time.Millisecond)
	sims := make([]manager.SIM, b.size.subscribers)
	for i := range sims {
		sims[i] = manager.SIM{
			IMSI: imsi(i), SIMID: fmt.Sprintf("894%016d", i), OperatorID: operator, Status: manager.SIMActive, SpeedClass: manager.DefaultSpeedClass,
			Tags: map[string]string{"name": fmt.Sprintf("device %d", i)}, Created: at, Modified: at,
		}
	}
	if _, err := st.SeedSIMs(ctx, sims); err != nil {
		return err
	}
	b.entries = make([]known, b.size.entries)
	expires := at.Add(manager.MaxDuration)
	var failed atomic.Pointer[error]
	each(len(b.entries), fillers, func(i int) {
		if failed.Load() != nil || ctx.Err() != nil {
			return
		}
		relay := i % outerRelays
		k := known{manager.EntryID(ulid.Make().String()), netip.AddrPortFrom(relayAddress(relay), relayPorts.First+uint16(i/outerRelays)), imsi(i % b.size.subscribers), relay}
		b.entries[i] = k
		err := st.CreateEntry(ctx, manager.Entry{
			ID: k.id, OperatorID: operator, IMSI: k.imsi, Strategy: manager.IMSIPrioritized, DevicePort: devicePort, RelayID: relayID(relay), Address: k.hit,
			Created: at, Expires: expires, Ranges: ranges,
		})
		if err != nil {
			failed.Store(&err)
		}
	})
	if err := failed.Load(); err != nil {
		return *err
	}
	return ctx.Err()
}

// each runs f for 0 to n-1 in several goroutines.
func each(n, workers int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}

// clients are those of the REST interface.
type clients struct {
	transport *http.Transport
	api       *api.Client
	key       string
}

// attachTimeout is how long the relays may take to be attached and have their entries.
const attachTimeout = time.Minute

// start starts the manager and attaches the relays.
func (b *bench) start(ctx context.Context) (err error) {
	rest, err := vacant()
	if err != nil {
		return err
	}
	control, err := vacant()
	if err != nil {
		return err
	}
	secret, key := rand.Text(), rand.Text()
	role := &node.Manager{
		Manager: manager.Config{
			Operators:   []manager.OperatorConfig{{ID: operator, AuthKeys: []manager.AuthKeyConfig{{ID: keyID, Key: key}}}},
			InnerRelays: []manager.InnerRelayConfig{{ID: "inner1", UPFs: []string{upf}}},
		},
		StaticDirectory: []manager.StaticAttachment{{IMSI: string(imsi(0)), Count: b.size.subscribers, UPF: upf, Address: netip.MustParseAddr("10.0.0.1")}},
		Store:           b.config,
		API:             api.Config{Listen: rest.String()},
		RPC:             rpc.ServerConfig{Listen: control.String(), Secret: secret},
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if b.manager, err = process.StartRole(ctx, b.dir, self, "manager", role, nil); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%w; the manager's log: %s", err, b.manager.Tail()), b.stop())
		}
	}()
	if b.plain, err = startPlain(ctx, b.dir); err != nil {
		return err
	}
	if b.fleet, err = attach(ctx, rpc.ClientConfig{Manager: control.String(), Secret: secret}); err != nil {
		return err
	}
	b.clients = &clients{transport: &http.Transport{MaxIdleConnsPerHost: 2 * restClients}, key: key}
	c := api.Client{URL: "http://" + rest.String(), HTTP: &http.Client{Transport: b.clients.transport}}
	b.clients.api, err = c.Login(ctx, b.clients.auth())
	return err
}

func (c *clients) auth() api.AuthRequest { return api.AuthRequest{AuthKeyID: keyID, AuthKey: c.key} }

func (b *bench) stop() error {
	if b.clients != nil {
		b.clients.transport.CloseIdleConnections()
	}
	if b.fleet != nil {
		b.fleet.stop()
	}
	err := b.manager.Stop()
	if b.plain != nil {
		err = errors.Join(err, b.plain.stop())
	}
	return err
}

// vacant returns a loopback address with a port that was free a moment ago.
func vacant() (netip.AddrPort, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort(), nil
}

// fleet is relays as the manager sees them: they open at once whatever they are told.
type fleet struct {
	outer  []*rpc.Client
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func attach(ctx context.Context, cfg rpc.ClientConfig) (*fleet, error) {
	life, cancel := context.WithCancel(ctx)
	f := &fleet{cancel: cancel}
	relays := []manager.Relay{{ID: "inner1", Kind: manager.InnerRelay, Address: netip.MustParseAddrPort("127.0.0.1:1")}}
	for i := range outerRelays {
		relays = append(relays, manager.Relay{ID: relayID(i), Kind: manager.OuterRelay, Address: netip.AddrPortFrom(relayAddress(i), 0), Ports: relayPorts})
	}
	opened := make(chan struct{}, outerRelays)
	for _, r := range relays {
		c, err := rpc.NewClient(cfg, rpc.ClientDeps{Relay: r})
		if err != nil {
			f.stop()
			return nil, err
		}
		f.wg.Go(func() { _ = c.Run(life) }) // it always returns nil
		if r.Kind == manager.InnerRelay {
			continue
		}
		f.outer = append(f.outer, c)
		f.wg.Go(func() {
			first := true
			for {
				cmd, err := c.Next(life)
				if err != nil {
					return
				}
				c.Acknowledge(manager.Acknowledgement{Session: cmd.Session, ID: cmd.ID})
				if first { // the snapshot
					first = false
					opened <- struct{}{}
				}
			}
		})
	}
	late := time.NewTimer(attachTimeout)
	defer late.Stop()
	for range outerRelays {
		select {
		case <-opened:
		case <-late.C:
			f.stop()
			return nil, errors.New("the relays were not attached in time")
		case <-ctx.Done():
			f.stop()
			return nil, ctx.Err()
		}
	}
	return f, nil
}

func (f *fleet) stop() {
	f.cancel()
	f.wg.Wait()
}
