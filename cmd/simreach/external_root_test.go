package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/netns"
)

const externalTopology = `name: external
upfs: [{name: upf1, pools: [{cidr: 10.45.0.0/24}]}]
inner_relays: [{name: inner1, upfs: [upf1]}]
outer_relays: [{name: outer1}]
gnbs: [{name: gnb1}]
ues: [{name: ue1, imsi: "001010000000001", services: [{kind: echo, port: 7}]}]
external:
  - {network: public, interface: labpub}
  - {network: n2, interface: labn2}
  - {network: n3, interface: labn3}
  - {network: n6, upf: upf1, interface: labn6}
`

// TestRootExternal joins networks to what a host has: bridges with a peer behind
// them for public, N2 and N6, and an ordinary interface for N3. Each peer reaches
// the core; afterwards the host has what it had.
func TestRootExternal(t *testing.T) {
	host := newHost(t)
	testenv.Program(t, "programs", "ip")
	peer := func(name, network, addr string) *netns.NS {
		ns := newPeer(t, name)
		bridge := "lab" + network
		if err := host.AddBridge(bridge); err != nil {
			t.Fatal(err)
		}
		err := ns.Join(netns.Port{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix(addr)}, Switch: host, Bridge: bridge, PortName: "p" + network})
		if err != nil {
			t.Fatal(err)
		}
		return ns
	}
	client, gnb, server := peer("client", "pub", "198.18.0.200/24"), peer("gnb", "n2", "198.18.2.200/24"), peer("server", "n6", "198.19.0.200/24")
	if err := host.Configure("labn2", netip.MustParsePrefix("198.18.2.201/24")); err != nil {
		t.Fatal(err)
	}
	n3 := newPeer(t, "n3")
	shell(t, host, "ip link add labn3 type veth peer name eth0 netns "+n3.Name()+" && ip link set labn3 up && ip addr add 192.0.2.1/24 dev labn3")
	if err := n3.Configure("eth0", netip.MustParsePrefix("198.18.3.200/24")); err != nil {
		t.Fatal(err)
	}
	before := hostState(t, host)

	file := filepath.Join(t.TempDir(), "external.yaml")
	if err := os.WriteFile(file, []byte(externalTopology), 0o644); err != nil {
		t.Fatal(err)
	}
	p, run, _ := up(t, host, file)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	if c, err := client.Dial(ctx, netip.MustParseAddrPort("198.18.0.4:8080")); err != nil {
		t.Errorf("public: the manager's API: %v", err)
	} else {
		c.Close()
	}
	for _, from := range []*netns.NS{gnb, host} {
		// The AMF serves SCTP: that it refuses TCP tells that it is there.
		if _, err := from.Dial(ctx, netip.MustParseAddrPort("198.18.2.1:38412")); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("N2 from %q: want the AMF's host to refuse TCP, got %v", from.Name(), err)
		}
	}
	echoGTPU(t, n3, "198.18.3.120:2152")
	_, out, _ := output(t, (*exec.Cmd).Start, nil, "exec", "--run", run, "ue1", "--", "ip", "-4", "-o", "addr", "show", "pdu1")
	if m := regexp.MustCompile(`inet (10\.45\.0\.\d+)/`).FindStringSubmatch(out); m == nil {
		t.Errorf("the UE has no address: %q", out)
	} else {
		if err := server.Route(netip.MustParsePrefix("10.45.0.0/24"), netip.MustParseAddr("198.19.0.8"), ""); err != nil {
			t.Error(err)
		}
		echoTCP(ctx, t, server, netip.MustParseAddrPort(m[1]+":7"))
	}

	p.signal(os.Interrupt)
	if code, _ := p.wait(); code != 0 || p.stderr.Len() > 0 {
		t.Errorf("teardown: code %d, %s", code, p.stderr.String())
	}
	if after := hostState(t, host); after != before {
		t.Errorf("the host changed; before:\n%s\nafter:\n%s", before, after)
	}
	wantEmpty(t, p.tmp)
}

// TestRootExternalInterfaceMissing: the interface is named, and nothing stays.
func TestRootExternalInterfaceMissing(t *testing.T) {
	host := newHost(t)
	file := filepath.Join(t.TempDir(), "external.yaml")
	if err := os.WriteFile(file, []byte(externalTopology), 0o644); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, host.Start, "up", "--backend", "netns", file)
	run := runOfProcess(t, p)
	if code, _ := p.wait(); code != 2 || !strings.Contains(p.stderr.String(), "external interface labpub: ") {
		t.Errorf("want code 2 and the interface named, got %d, %s", code, p.stderr.String())
	}
	wantNothing(t, host, run, p.tmp)
}

// newPeer makes a namespace for somebody outside the topology.
func newPeer(t *testing.T, name string) *netns.NS {
	t.Helper()
	ns, err := netns.Create(netns.Prefix + "peer-" + strings.ToLower(t.Name()) + "-" + name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(ns.Close(), netns.Remove(ns.Name())); err != nil {
			t.Error(err)
		}
	})
	return ns
}

// shell runs a command on the host and returns its output.
func shell(t *testing.T, host *netns.NS, command string) string {
	t.Helper()
	var out, errOut bytes.Buffer
	c := exec.Command("sh", "-c", command)
	c.Stdout, c.Stderr = &out, &errOut
	err := host.Start(c)
	if err == nil {
		err = c.Wait()
	}
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, errOut.String())
	}
	return out.String()
}

// operState is what the kernel thinks of a carrier, in its own time.
var operState = regexp.MustCompile(` state [A-Z]+`)

// hostState is the host's interfaces with their flags, counters and addresses.
func hostState(t *testing.T, host *netns.NS) string {
	t.Helper()
	var out []string
	for line := range strings.Lines(shell(t, host, "ip -details addr show")) {
		if !strings.Contains(line, "valid_lft") && !strings.Contains(line, "bridge") {
			out = append(out, operState.ReplaceAllString(line, ""))
		}
	}
	return strings.Join(out, "")
}

// echoGTPU sends a GTP-U Echo Request (TS 29.281 clause 7.2.1) and wants its answer.
func echoGTPU(t *testing.T, from *netns.NS, to string) {
	t.Helper()
	testenv.Program(t, "programs", "timeout")
	var out, errOut bytes.Buffer
	c := exec.Command("timeout", "20", "bash", "-c", `exec 3<>/dev/udp/`+strings.Replace(to, ":", "/", 1)+`; printf '\x32\x01\x00\x04\x00\x00\x00\x00\x12\x34\x00\x00' >&3; head -c 8 <&3`)
	c.Stdout, c.Stderr = &out, &errOut
	if err := errors.Join(from.Start(c), c.Wait()); err != nil {
		t.Errorf("N3: no GTP-U echo: %v: %s", err, errOut.String())
		return
	}
	if b := out.Bytes(); len(b) < 2 || b[1] != 2 {
		t.Errorf("N3: want an Echo Response (type 2), got % x", b)
	}
}

// echoTCP sends text to an echo service and wants it back.
func echoTCP(ctx context.Context, t *testing.T, from *netns.NS, to netip.AddrPort) {
	t.Helper()
	c, err := from.Dial(ctx, to)
	if err != nil {
		t.Errorf("N6: the UE's echo service: %v", err)
		return
	}
	defer c.Close()
	if d, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(d) // it fails only on a closed connection, which the next line shows
	}
	const text = "from the data network"
	if _, err := io.WriteString(c, text); err != nil {
		t.Error(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Errorf("N6: want %q back, got %q, %v", text, got, err)
	}
}
