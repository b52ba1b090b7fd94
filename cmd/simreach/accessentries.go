package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
)

// device is a port of a device, which is named by IMSI or by SIM ID.
type device struct {
	imsi, sim string
	port      uint16
}

// String returns "IMSI:port" or "SIM:port".
func (d device) String() string { return cmp.Or(d.imsi, d.sim) + ":" + strconv.Itoa(int(d.port)) }

// parseDevice reads "NAME" or "NAME:PORT", with port for one without. What has the form
// of an IMSI is one, anything else is a SIM ID.
func parseDevice(s string, port uint16) (device, error) {
	d := device{port: port}
	name, text, ok := strings.Cut(s, ":")
	if ok {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return d, fmt.Errorf("device %q: want a port from 1 to 65535", s)
		}
		d.port = uint16(n)
	}
	if d.port == 0 {
		return d, fmt.Errorf("device %q: no port: give --port, or %s:PORT", s, name)
	}
	if imsi, err := ident.ParseIMSI(name); err == nil {
		d.imsi = string(imsi)
		return d, nil
	}
	if name == "" {
		return d, fmt.Errorf("device %q: want an IMSI or a SIM ID", s)
	}
	d.sim = name
	return d, nil
}

// entryFlags describe an access.
type entryFlags struct {
	imsis, sims   []string
	port          uint16
	duration      time.Duration
	ranges        []string
	tls, proxy    bool
	credential    string
	relay, region string
}

func (e *entryFlags) register(fs *pflag.FlagSet) {
	fs.StringSliceVar(&e.imsis, "imsi", nil, "IMSI of a device, or IMSI:PORT; repeatable")
	fs.StringSliceVar(&e.sims, "sim", nil, "SIM ID of a device, or SIM:PORT; repeatable")
	fs.Uint16Var(&e.port, "port", 0, "TCP port of the device")
	e.conditions(fs)
}

// conditions registers the flags about how a device may be reached.
func (e *entryFlags) conditions(fs *pflag.FlagSet) {
	fs.DurationVar(&e.duration, "duration", 0, "how long the access is valid, at most 8h; 0: the manager's default")
	fs.StringSliceVar(&e.ranges, "range", nil, "addresses that may connect, CIDR; repeatable; none: only this machine's")
	fs.BoolVar(&e.tls, "tls", false, "clients speak TLS to the relay, and the device does not")
	fs.StringVar(&e.credential, "credential", "", "ID of the credential that client certificates are checked with; implies --tls")
	fs.BoolVar(&e.proxy, "proxy-protocol", false, "tell the device who connects, with the PROXY protocol version 2")
	fs.StringVar(&e.relay, "relay", "", "outer relay to prefer")
	fs.StringVar(&e.region, "region", "", "region of the outer relay to prefer")
}

func (e *entryFlags) devices() ([]device, error) {
	var out []device
	for _, s := range e.imsis {
		d, err := parseDevice(s, e.port)
		if err == nil && d.imsi == "" {
			err = fmt.Errorf("--imsi %q: want 6 to 15 digits", s)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	for _, s := range e.sims {
		d, err := parseDevice(s, e.port)
		if err != nil {
			return nil, err
		}
		d.sim, d.imsi = cmp.Or(d.sim, d.imsi), ""
		out = append(out, d)
	}
	return out, nil
}

// request is the access to no device yet.
func (e *entryFlags) request() (api.ExtendedRequest, error) {
	r := api.ExtendedRequest{
		CreateRequest: api.CreateRequest{TLSRequired: e.tls || e.credential != ""},
		CredentialID:  e.credential, ProxyProtocol: e.proxy, Relay: e.relay, Region: e.region,
	}
	switch {
	case e.duration < 0 || e.duration%time.Second != 0:
		return r, fmt.Errorf("--duration %s: want whole seconds", e.duration)
	case e.duration > 0:
		s := e.duration.Seconds()
		r.Duration = &s
	}
	if len(e.ranges) > 0 {
		r.Source = &api.Source{IPRanges: e.ranges}
	}
	return r, nil
}

// one makes an entry for several devices (R9b).
func (e *entryFlags) one(ctx context.Context, s *session, ds []device) (api.ExtendedMapping, error) {
	r, err := e.request()
	if err != nil {
		return api.ExtendedMapping{}, err
	}
	r.TLSRequired = true // such an entry exists with TLS only
	for _, d := range ds {
		r.Targets = append(r.Targets, api.TargetRequest{IMSI: d.imsi, SIMID: d.sim, Port: float64(d.port)})
	}
	return first(s.CreateExtended(ctx, r))
}

func first(ms []api.ExtendedMapping, err error) (api.ExtendedMapping, error) {
	if err == nil && len(ms) != 1 {
		err = fmt.Errorf("the manager made %d port mappings instead of one", len(ms))
	}
	if err != nil {
		return api.ExtendedMapping{}, err
	}
	return ms[0], nil
}

// each makes an entry for each device (R9a). A single ordinary one is asked for with
// the call that every user of port mappings is permitted to make.
func (e *entryFlags) each(ctx context.Context, s *session, ds []device) ([]api.ExtendedMapping, error) {
	r, err := e.request()
	if err != nil {
		return nil, err
	}
	rs := make([]api.ExtendedRequest, len(ds))
	for i, d := range ds {
		rs[i] = r
		rs[i].Destination = &api.Destination{IMSI: d.imsi, SIMID: d.sim, Port: float64(d.port)}
	}
	if len(rs) == 1 && r.CredentialID == "" && !r.ProxyProtocol && r.Relay == "" && r.Region == "" {
		m, err := s.Create(ctx, rs[0].CreateRequest)
		return []api.ExtendedMapping{{PortMapping: m}}, err
	}
	return s.CreateExtended(ctx, rs...)
}

func createAccess(o *accessOptions) *cobra.Command {
	e := &entryFlags{}
	var many bool
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Ask for access to devices and print where to connect",
		Long: "Ask for access to devices and print where to connect. Several devices get an access each, or with\n" +
			"--many one access together, over which 'access connect --many' reaches each of them.",
		Example: "  simreach access create --imsi 001010000000001 --port 22 --duration 1h --range 203.0.113.0/24",
		Args:    cobra.NoArgs,
		RunE: o.runs(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			ds, err := e.devices()
			if err != nil {
				return err
			}
			if len(ds) == 0 {
				return errors.New("no device: give --imsi or --sim")
			}
			return o.withSession(ctx, shortLogin, func(s *session) error {
				var ms []api.ExtendedMapping
				if many {
					m, err := e.one(ctx, s, ds)
					if err != nil {
						return err
					}
					ms = append(ms, m)
				} else if ms, err = e.each(ctx, s, ds); err != nil {
					return err
				}
				return o.printMappings(cmd, ms)
			})
		}),
	}
	e.register(cmd.Flags())
	cmd.Flags().BoolVar(&many, "many", false, "make one access for all the devices; implies --tls")
	return cmd
}

func listAccess(o *accessOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the accesses that are valid now",
		Args:  cobra.NoArgs,
		RunE: o.runs(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
			return o.withSession(ctx, shortLogin, func(s *session) error {
				ms, err := s.ListExtended(ctx)
				if errors.Is(err, manager.CodeNotPermitted) {
					ms, err = listOrdinary(ctx, s) // a user who knows port mappings only
				}
				if err != nil {
					return err
				}
				return o.printMappings(cmd, ms)
			})
		}),
	}
}

func listOrdinary(ctx context.Context, s *session) ([]api.ExtendedMapping, error) {
	ms, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]api.ExtendedMapping, len(ms))
	for i, m := range ms {
		out[i].PortMapping = m
	}
	return out, nil
}

func deleteAccess(o *accessOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "delete ADDRESS:PORT...",
		Short: "Give accesses back; connections over them are cut",
		Args:  cobra.MinimumNArgs(1),
		RunE: o.runs(func(ctx context.Context, _ *cobra.Command, args []string) error {
			for _, a := range args { // all are right before the first is deleted
				if _, err := endpoint(a); err != nil {
					return err
				}
			}
			return o.withSession(ctx, shortLogin, func(s *session) error {
				for _, a := range args {
					e, err := endpoint(a)
					if err == nil {
						err = s.Delete(ctx, e)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		}),
	}
}

func (o *accessOptions) printMappings(cmd *cobra.Command, ms []api.ExtendedMapping) error {
	w := cmd.OutOrStdout()
	if o.json {
		out := make([]any, len(ms))
		for i, m := range ms {
			if out[i] = m; m.EntryID == "" { // it came from the call without the rest
				out[i] = m.PortMapping
			}
		}
		return printJSON(w, out)
	}
	rows := make([][]string, len(ms))
	for i, m := range ms {
		secure := "no"
		if m.TLSRequired {
			secure = "yes"
		}
		rows[i] = []string{m.Endpoint, m.Hostname, devicesOf(m), localTime(m.ExpiredTime, clock), secure, strings.Join(m.Source.IPRanges, ",")}
	}
	return table(w, "ENDPOINT HOST DEVICE UNTIL TLS FROM", rows)
}

func devicesOf(m api.ExtendedMapping) string {
	if len(m.Targets) == 0 {
		return device{imsi: m.Destination.IMSI, sim: m.Destination.SIMID, port: uint16(m.Destination.Port)}.String()
	}
	names := make([]string, len(m.Targets))
	for i, t := range m.Targets {
		names[i] = device{imsi: t.IMSI, port: t.Port}.String()
		if t.SIMID != "" {
			names[i] = device{sim: t.SIMID, port: t.Port}.String()
		}
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}
