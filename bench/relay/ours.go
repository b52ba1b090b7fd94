package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/simreach/simreach/bench/process"
	"github.com/simreach/simreach/internal/node"
	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/rpc"
	"github.com/simreach/simreach/manager/store"
	"github.com/simreach/simreach/relay/audit"
	"github.com/simreach/simreach/relay/inner"
	"github.com/simreach/simreach/relay/outer"
)

const (
	certificateName = "relay.bench.internal"
	operator        = "OP0000000001"
	device          = "001010000000001"
	portREST        = 8080
	portRPC         = 8090
	portInner       = 8100
	noBound         = 100_000 // connections in a second
)

// certificate makes a server certificate for all variants: certificate and key in one
// file.
func certificate(dir string) (file string, err error) {
	ca, err := pki.NewAuthority(pki.AuthorityConfig{Name: "simreach bench"})
	if err != nil {
		return "", err
	}
	pair, err := ca.Issue(pki.Server(certificateName))
	if err != nil {
		return "", err
	}
	file = filepath.Join(dir, "certificate.pem")
	return file, os.WriteFile(file, []byte(string(pair.Cert)+string(pair.Key)), 0o600)
}

// ours starts a manager, an outer and an inner relay as a topology of ours has them, and
// asks the manager for the entries. The server plays the device.
func ours(ctx context.Context, t *topology, dir, self, cert string) (*variant, error) {
	v := &variant{name: "ours"}
	secret, key := rand.Text(), rand.Text()
	rest := netip.AddrPortFrom(address(outerHost, false), portREST)
	control := netip.AddrPortFrom(address(outerHost, true), portRPC)
	roles := []struct {
		name string
		host int
		role node.Role
	}{
		{"manager", outerHost, &node.Manager{
			Manager: manager.Config{
				Operators:   []manager.OperatorConfig{{ID: operator, AuthKeys: []manager.AuthKeyConfig{{ID: "keyId-bench", Key: key}}}},
				Subscribers: []manager.SubscriberConfig{{IMSI: device, OperatorID: operator}},
				InnerRelays: []manager.InnerRelayConfig{{ID: "inner", UPFs: []string{"bench"}}},
			},
			StaticDirectory: []manager.StaticAttachment{{IMSI: device, UPF: "bench", Address: address(server, false)}},
			Store:           store.Config{Path: filepath.Join(dir, "manager.db")},
			API:             api.Config{Listen: rest.String()},
			RPC:             rpc.ServerConfig{Listen: control.String(), Secret: secret},
		}},
		{"relay-inner", innerHost, &node.Inner{
			Relay:   inner.Config{ID: "inner", Listen: netip.AddrPortFrom(address(innerHost, false), portInner).String()},
			Control: rpc.ClientConfig{Manager: control.String(), Secret: secret},
		}},
		{"relay-outer", outerHost, &node.Outer{
			// The guards stay in place with bounds that a load does not reach.
			Relay: outer.Config{
				ID: "outer", Address: address(outerHost, false), EntryRate: noBound, SourceRate: noBound, MaxEntryConnections: -1, MaxHandshakes: 4096,
			},
			Control: rpc.ClientConfig{Manager: control.String(), Secret: secret},
			TLS:     pki.Config{Cert: cert, Key: pki.Secret(cert)},
			Audit:   audit.Config{Dir: filepath.Join(dir, "audit")},
		}},
	}
	for _, r := range roles {
		p, err := process.StartRole(ctx, dir, self, r.name, r.role, t.ns[r.host].Start)
		if err != nil {
			return nil, errors.Join(err, v.stop())
		}
		if r.name == "manager" {
			v.others = append(v.others, p)
		} else {
			v.processes = append(v.processes, p)
		}
	}
	if err := v.open(ctx, t, rest, key); err != nil {
		for _, p := range append(v.processes, v.others...) {
			err = fmt.Errorf("%w; the log of %s: %s", err, p.Name(), p.Tail())
		}
		return nil, errors.Join(err, v.stop())
	}
	return v, nil
}

// open asks for an entry for each port of the server, with and without TLS.
func (v *variant) open(ctx context.Context, t *topology, rest netip.AddrPort, key string) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return t.ns[client].Dial(ctx, rest) }}
	defer transport.CloseIdleConnections()
	c, err := (&api.Client{URL: "http://" + rest.String(), HTTP: &http.Client{Transport: transport}}).Login(ctx, api.AuthRequest{AuthKeyID: "keyId-bench", AuthKey: key})
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	v.plain, v.secure = map[uint16]netip.AddrPort{}, map[uint16]netip.AddrPort{}
	hours := manager.MaxDuration.Seconds()
	for _, port := range loadPorts {
		for tls, at := range map[bool]map[uint16]netip.AddrPort{false: v.plain, true: v.secure} {
			m, err := c.Create(ctx, api.CreateRequest{Destination: &api.Destination{IMSI: device, Port: float64(port)}, Duration: &hours, TLSRequired: tls})
			if err != nil {
				return fmt.Errorf("ask for access: %w", err)
			}
			if at[port], err = netip.ParseAddrPort(m.Endpoint); err != nil {
				return fmt.Errorf("ask for access: %w", err)
			}
		}
	}
	return nil
}
