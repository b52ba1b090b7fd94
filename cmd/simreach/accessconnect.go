package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/relay/outer/manyclient"
)

// connectFlags are the flags of access connect.
type connectFlags struct {
	entryFlags
	many            []string
	listen          string
	host, cert, key string
}

func connectAccess(o *accessOptions) *cobra.Command {
	f := &connectFlags{}
	cmd := &cobra.Command{
		Use:   "connect [ADDRESS:PORT]",
		Short: "Connect standard input and output, or local ports, to a device",
		Long: "Connect standard input and output, or local ports, to a device. Without ADDRESS:PORT the access is\n" +
			"asked for first and given back at the end. The end of the input is passed on and what the device\n" +
			"still has to say is printed, the other way round likewise. Ctrl-C cuts all connections and ends it.\n" +
			"With --many each local port leads to a device of its own, over one connection to the relay.",
		Example: "  ssh -o ProxyCommand='simreach access connect --imsi 001010000000001 --port 22' root@device\n" +
			"  simreach access connect --imsi 001010000000001 --port 80 --tls --listen 127.0.0.1:8080\n" +
			"  simreach access connect --many 001010000000001:22=2201,001010000000002:22=2202",
		Args: cobra.MaximumNArgs(1),
		RunE: o.runs(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			c, err := f.plan(o, cmd, args)
			if err != nil {
				return err
			}
			return c.run(ctx)
		}),
	}
	fs := cmd.Flags()
	f.register(fs)
	fs.StringVar(&f.listen, "listen", "", "carry connections to this local ADDRESS:PORT; port 0 takes a free one, which is printed")
	fs.StringSliceVar(&f.many, "many", nil, "devices of one access with a local port for each: IMSI:PORT=LOCALPORT, also SIM:PORT=ADDRESS:LOCALPORT")
	fs.StringVar(&f.host, "host", "", "name in the relay's certificate; empty: that of the access, or ADDRESS")
	fs.StringVar(&f.cert, "cert", "", "PEM file of the client certificate to show; implies --tls")
	fs.StringVar(&f.key, "key", "", "PEM file of its private key; empty: in the same file")
	return cmd
}

// door is a local way to a device. Without an address it is standard input and output.
type door struct {
	device device // zero when an access for one device says who it is
	listen string
}

// connector is one run of access connect.
type connector struct {
	o       *accessOptions
	f       *connectFlags
	cmd     *cobra.Command
	doors   []door
	at      string      // the endpoint; empty: ask for one
	secure  *tls.Config // nil: plain TCP
	mu      sync.Mutex  // guards what is printed while connections run
	session *session    // nil without a login
	made    api.ExtendedMapping
	since   time.Time     // when made was asked for, by this machine's clock
	took    time.Duration // to make it
}

// plan checks the flags.
func (f *connectFlags) plan(o *accessOptions, cmd *cobra.Command, args []string) (*connector, error) {
	c := &connector{o: o, f: f, cmd: cmd}
	if len(args) == 1 {
		c.at = args[0]
		if host, port, err := net.SplitHostPort(c.at); err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("%q: want ADDRESS:PORT, as access create prints it", c.at)
		}
		for _, name := range []string{"imsi", "sim", "port", "duration", "range", "credential", "proxy-protocol", "relay", "region"} {
			if cmd.Flags().Changed(name) {
				return nil, fmt.Errorf("--%s is for an access that is asked for, not for %s", name, c.at)
			}
		}
	}
	f.tls = f.tls || f.credential != "" || f.cert != "" || len(f.many) > 0
	if f.key != "" && f.cert == "" {
		return nil, errors.New("--key goes with --cert")
	}
	if err := f.doors(c); err != nil {
		return nil, err
	}
	if _, err := f.request(); err != nil {
		return nil, err
	}
	return c, f.trust(c)
}

// doors reads which local ways there are.
func (f *connectFlags) doors(c *connector) error {
	if len(f.many) > 0 {
		if f.listen != "" || len(f.imsis)+len(f.sims) > 0 || f.port != 0 {
			return errors.New("--many names devices and local ports itself: no --imsi, --sim, --port and --listen")
		}
		for _, m := range f.many {
			name, listen, ok := strings.Cut(m, "=")
			d, err := parseDevice(name, 0)
			if err != nil || !ok {
				return errors.Join(fmt.Errorf("--many %q: want IMSI:PORT=LOCALPORT", m), err)
			}
			if !strings.Contains(listen, ":") {
				listen = "127.0.0.1:" + listen
			}
			if err := localAddress(listen); err != nil {
				return fmt.Errorf("--many %q: %w", m, err)
			}
			c.doors = append(c.doors, door{d, listen})
		}
		return nil
	}
	if f.listen != "" {
		if err := localAddress(f.listen); err != nil {
			return fmt.Errorf("--listen: %w", err)
		}
	}
	if c.at != "" {
		c.doors = []door{{listen: f.listen}}
		return nil
	}
	ds, err := f.devices()
	if err == nil && len(ds) != 1 {
		err = errors.New("want ADDRESS:PORT, one --imsi or --sim, or --many")
	}
	if err != nil {
		return err
	}
	c.doors = []door{{ds[0], f.listen}}
	return nil
}

func localAddress(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("local address %q: want PORT or ADDRESS:PORT", s)
	}
	return nil
}

// trust reads what TLS takes.
func (f *connectFlags) trust(c *connector) error {
	if !f.tls {
		if f.host != "" {
			return errors.New("--host goes with --tls")
		}
		return nil
	}
	pool, err := c.o.roots()
	if err != nil {
		return err
	}
	c.secure = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, cmp.Or(f.key, f.cert))
		if err != nil {
			return fmt.Errorf("client certificate: %w", err)
		}
		// Also to a relay that asks for another CA's: what is wrong with the certificate
		// is for the relay to say.
		c.secure.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return nil
}

func (c *connector) run(ctx context.Context) error {
	defer outliveReaders()() // the access is to be given back

	listeners, err := c.open(ctx)
	defer func() {
		for _, l := range listeners {
			_ = l.Close() // again, for most
		}
	}()
	if err != nil {
		return err
	}
	if c.at != "" {
		return c.connect(ctx, listeners)
	}
	return c.o.withSession(ctx, longLogin, func(s *session) error {
		c.session = s
		err := c.ask(ctx)
		if err != nil {
			return err
		}
		return errors.Join(c.connect(ctx, listeners), c.giveBack(ctx))
	})
}

// open opens the local ports, before anything is asked of the manager.
func (c *connector) open(ctx context.Context) (ls []net.Listener, err error) {
	for _, d := range c.doors {
		if d.listen == "" {
			continue
		}
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", d.listen)
		if err != nil {
			return ls, err
		}
		ls = append(ls, l)
	}
	return ls, nil
}

// ask asks for the access. It is not interrupted: an access whose address nobody has
// could not be given back.
func (c *connector) ask(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	ds := make([]device, len(c.doors))
	for i, d := range c.doors {
		ds[i] = d.device
	}
	var err error
	c.since = time.Now()
	if len(c.f.many) > 0 {
		c.made, err = c.f.one(ctx, c.session, ds)
	} else {
		c.made, err = first(c.f.each(ctx, c.session, ds))
	}
	if err != nil {
		return err
	}
	c.at, c.took = c.made.Endpoint, time.Since(c.since)
	return nil
}

// giveBack deletes the access, which may have expired.
func (c *connector) giveBack(ctx context.Context) error {
	a, err := netip.ParseAddrPort(c.made.Endpoint)
	if err != nil {
		return fmt.Errorf("the manager's endpoint: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patienceEnd)
	defer cancel()
	if err := c.session.Delete(ctx, a); err != nil && !errors.Is(err, manager.CodeUnknownEntry) {
		return fmt.Errorf("the access %s was not given back, it ends at %s: %w", a, localTime(c.made.ExpiredTime, clock), err)
	}
	return nil
}

// connect carries bytes over the access until they end, or ctx does.
func (c *connector) connect(ctx context.Context, listeners []net.Listener) error {
	if c.secure != nil {
		host, _, err := net.SplitHostPort(c.at)
		if err != nil {
			return err
		}
		c.secure.ServerName = cmp.Or(c.f.host, c.made.Hostname, host)
	}
	reaches := []reach{direct(c.at, c.secure)}
	if len(c.f.many) > 0 {
		all := &carrier{config: manyclient.Config{Endpoint: c.at, TLS: c.secure}}
		defer all.close()
		if _, err := all.connection(ctx); err != nil { // what is wrong with it shows now
			return c.explain(ctx, c.since, err)
		}
		reaches = reaches[:0]
		for _, d := range c.doors {
			reaches = append(reaches, all.to(d.device))
		}
	}
	if len(listeners) == 0 {
		return c.inOut(ctx, reaches[0])
	}
	return c.forward(ctx, listeners, reaches)
}

// inOut connects standard input and output.
func (c *connector) inOut(ctx context.Context, to reach) error {
	begin := time.Now()
	remote, err := to(ctx)
	if err != nil {
		return c.explain(ctx, begin, err)
	}
	local, err := newStdio(c.cmd.InOrStdin(), c.cmd.OutOrStdout())
	if err != nil {
		remote.Abort()
		return err
	}
	defer local.release()
	return c.explain(ctx, begin, withPort(remote, join(ctx, local, remote)))
}

// forward serves local ports. That ctx ends is no error, that the access expires is one.
func (c *connector) forward(ctx context.Context, ls []net.Listener, reaches []reach) error {
	if c.made.Duration > 0 {
		expired := &refusal{Code: string(manager.CodeEntryExpired), Message: manager.NewError(manager.CodeEntryExpired).Message(manager.English)}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, c.since.Add(time.Duration(c.made.Duration)*time.Second), expired)
		defer cancel()
	}
	type row struct {
		Listen   string `json:"listen"`
		Device   string `json:"device"` // empty: that of the access
		Endpoint string `json:"endpoint"`
	}
	rows := make([]row, len(ls))
	for i, l := range ls {
		rows[i] = row{Listen: l.Addr().String(), Endpoint: c.at}
		if d := c.doors[i].device; d != (device{}) {
			rows[i].Device = d.String()
		}
	}
	w := c.cmd.OutOrStdout()
	if c.o.json {
		if err := printJSON(w, rows); err != nil {
			return err
		}
	} else {
		for _, r := range rows {
			fmt.Fprintf(w, "%s -> %s over %s\n", r.Listen, cmp.Or(r.Device, "device"), r.Endpoint)
		}
	}
	g, running := errgroup.WithContext(ctx)
	for i, l := range ls {
		fw := &forward{listener: l, reach: reaches[i], report: func(client net.Addr, begin time.Time, err error) {
			c.report(running, client, begin, err)
		}}
		g.Go(func() error { return fw.run(running) })
	}
	err := g.Wait()
	if r, ok := errors.AsType[*refusal](context.Cause(ctx)); ok && err == nil {
		return r
	}
	return err
}

// report tells of a connection that failed; the others go on.
func (c *connector) report(ctx context.Context, client net.Addr, begin time.Time, err error) {
	err = c.explain(ctx, begin, err)
	r := asRefusal(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.cmd.ErrOrStderr()
	if c.o.json {
		if r == nil {
			r = &refusal{Message: err.Error()}
		}
		_ = printJSON(w, r)
		return
	}
	fmt.Fprintf(w, "simreach: connection of %s: %v\n", client, err)
}
