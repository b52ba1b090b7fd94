package relay

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"text/template"
	"time"

	"github.com/simreach/simreach/bench/process"
)

//go:embed peers
var peerFiles embed.FS

// variant is one way from the client to the server.
type variant struct {
	name string
	// plain and secure are where the client connects for each port of the server; a
	// variant without secure has no TLS.
	plain, secure map[uint16]netip.AddrPort
	processes     []*process.Process // what relays; their cost is measured
	others        []*process.Process // what belongs to it but does not relay
	again         func() (*variant, error)
}

// at returns where the client connects for a case.
func (v *variant) at(m measure) netip.AddrPort {
	if m.tls {
		return v.secure[m.port]
	}
	return v.plain[m.port]
}

func (v *variant) stop() error {
	var errs []error
	for _, p := range append(v.processes, v.others...) {
		errs = append(errs, p.Stop())
	}
	return errors.Join(errs...)
}

// acceptTimeout is how long a peer may take to start.
const acceptTimeout = 10 * time.Second

var loadPorts = []uint16{portEcho, portSink, portSource}

func routed() *variant {
	v := &variant{name: "routed", plain: map[uint16]netip.AddrPort{}}
	for _, p := range loadPorts {
		v.plain[p] = netip.AddrPortFrom(address(server, false), p)
	}
	return v
}

// hop is the configuration of one relay of a peer.
type hop struct {
	Address netip.Addr
	Threads int
	Dir     string
	Ports   []forward
}

type forward struct {
	Listen      uint16
	To          netip.AddrPort
	Certificate string // file with certificate and key, PEM; empty: plain TCP
}

// hops returns the configurations of a peer's outer and inner relay. Ports of the
// outer relay with TLS are 100 above those without.
func hops(base uint16, certificate string) (outer, inner hop) {
	outer = hop{Address: address(outerHost, false), Threads: runtime.NumCPU()}
	inner = hop{Address: address(innerHost, false), Threads: runtime.NumCPU()}
	for _, p := range loadPorts {
		inner.Ports = append(inner.Ports, forward{Listen: base + p, To: netip.AddrPortFrom(address(server, false), p)})
		to := netip.AddrPortFrom(inner.Address, base+p)
		outer.Ports = append(outer.Ports, forward{Listen: base + p, To: to})
		if certificate != "" {
			outer.Ports = append(outer.Ports, forward{Listen: base + 100 + p, To: to, Certificate: certificate})
		}
	}
	return outer, inner
}

// peer is somebody else's relay.
type peer struct {
	name, program, template string
	base                    uint16
	tls                     bool
	args                    func(config string) []string
}

var peers = []peer{
	{name: "haproxy", program: "haproxy", template: "haproxy.cfg.tmpl", base: 10000, tls: true, args: func(c string) []string { return []string{"-db", "-f", c} }},
	{name: "nginx", program: "nginx", template: "nginx.conf.tmpl", base: 12000, tls: true, args: func(c string) []string { return []string{"-e", "stderr", "-c", c} }},
	{name: "io.Copy", base: 14000, tls: true},
}

// find returns the peer's program, or an error if it is not installed.
func (p peer) find() (string, error) {
	if p.program == "" {
		return os.Executable()
	}
	for _, dir := range []string{"", "/usr/sbin/", "/usr/local/sbin/"} {
		if path, err := exec.LookPath(dir + p.program); err == nil {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

// start starts the peer's two relays and returns once they accept.
func (p peer) start(ctx context.Context, t *topology, dir, certificate string) (*variant, error) {
	program, err := p.find()
	if err != nil {
		return nil, err
	}
	outer, inner := hops(p.base, certificate)
	v := &variant{name: p.name, plain: map[uint16]netip.AddrPort{}, secure: map[uint16]netip.AddrPort{}}
	for _, x := range loadPorts {
		v.plain[x] = netip.AddrPortFrom(outer.Address, p.base+x)
		v.secure[x] = netip.AddrPortFrom(outer.Address, p.base+100+x)
	}
	for _, h := range []struct {
		hop
		host int
	}{{inner, innerHost}, {outer, outerHost}} {
		h.Dir = filepath.Join(dir, p.name+"-"+hostNames[h.host])
		if err := os.Mkdir(h.Dir, 0o755); err != nil {
			return nil, errors.Join(err, v.stop())
		}
		args, err := p.command(h.hop)
		if err != nil {
			return nil, errors.Join(err, v.stop())
		}
		proc, err := process.Start(ctx, process.Spec{
			Args: append([]string{program}, args...), Log: filepath.Join(h.Dir, "log"), Foreign: p.program != "", Start: t.ns[h.host].Start,
		})
		if err != nil {
			return nil, errors.Join(err, v.stop())
		}
		v.processes = append(v.processes, proc)
		if err := awaitAccept(ctx, t, h.host, netip.AddrPortFrom(h.Address, h.Ports[0].Listen), proc); err != nil {
			return nil, errors.Join(err, v.stop())
		}
	}
	return v, nil
}

func (p peer) command(h hop) ([]string, error) {
	if p.program == "" {
		args := []string{"bench", "copy-relay", "--ready-fd", "3"}
		for _, f := range h.Ports {
			args = append(args, "--forward", fmt.Sprintf("%s=%s", netip.AddrPortFrom(h.Address, f.Listen), f.To))
			if f.Certificate != "" {
				args[len(args)-1] += "=" + f.Certificate
			}
		}
		return args, nil
	}
	tmpl, err := template.ParseFS(peerFiles, "peers/"+p.template)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := tmpl.Execute(&text, h); err != nil {
		return nil, err
	}
	file := filepath.Join(h.Dir, "config")
	return p.args(file), os.WriteFile(file, text.Bytes(), 0o600)
}

// awaitAccept waits until a program that cannot say so accepts connections.
func awaitAccept(ctx context.Context, t *topology, host int, at netip.AddrPort, p *process.Process) error {
	ctx, cancel := context.WithTimeout(ctx, acceptTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var c net.Conn
		c, err := t.ns[host].Dial(ctx, at)
		if err == nil {
			c.Close()
			return nil
		}
		select {
		case <-tick.C:
		case <-p.Done():
			return fmt.Errorf("%s ended: %s", p.Name(), p.Tail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not accept: %w; its log: %s", p.Name(), err, p.Tail())
		}
	}
}
