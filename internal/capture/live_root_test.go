package capture_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"go.uber.org/goleak"

	"github.com/simreach/simreach/internal/capture"
	"github.com/simreach/simreach/netns"
	"github.com/simreach/simreach/netns/netnstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRootLiveCapture: every datagram of a burst between two nodes is in the file
// once Close has returned, although nobody waited for the capture to keep up; and
// nothing of another bridge is.
func TestRootLiveCapture(t *testing.T) {
	netnstest.Require(t)
	const burst = 1000
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	newNS := func(node string) *netns.NS {
		n, err := netns.Create(netns.Prefix + "c" + strconv.Itoa(os.Getpid()) + "-" + node)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := errors.Join(n.Close(), netns.Remove(n.Name())); err != nil {
				t.Error(err)
			}
		})
		return n
	}
	sw, a, b := newNS("sw"), newNS("a"), newNS("b")
	addr := func(net, host byte) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, net, host}) }
	for n, bridge := range []string{"watched", "other"} {
		if err := sw.AddBridge(bridge); err != nil {
			t.Fatal(err)
		}
		for i, ns := range []*netns.NS{a, b} {
			err := ns.Join(netns.Port{
				Name: bridge, Addresses: []netip.Prefix{netip.PrefixFrom(addr(byte(n), byte(i+1)), 24)},
				Switch: sw, Bridge: bridge, PortName: bridge + strconv.Itoa(i),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	// The receiver's socket must exist, or the kernel answers with ICMP.
	var open []io.Closer
	send := map[byte]net.Conn{}
	for n := range byte(2) {
		at := net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr(n, 2), 7000))
		err := b.Do(func() error {
			c, err := net.ListenUDP("udp", at)
			if err == nil {
				open = append(open, c)
			}
			return err
		})
		if err == nil {
			err = a.Do(func() error {
				c, err := net.DialUDP("udp", nil, at)
				if err == nil {
					open, send[n] = append(open, c), c
				}
				return err
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for n := range byte(2) { // the neighbours get to know each other
		if _, err := send[n].Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		c := open[2*n].(*net.UDPConn)
		if d, ok := ctx.Deadline(); ok {
			_ = c.SetReadDeadline(d)
		}
		if _, err := c.Read(make([]byte, 16)); err != nil {
			t.Fatal(err)
		}
	}

	path := filepath.Join(t.TempDir(), "watched.pcap")
	f, err := capture.CreateEthernet(path)
	if err != nil {
		t.Fatal(err)
	}
	var live *capture.Live
	err = sw.Do(func() error {
		i, err := net.InterfaceByName("watched")
		if err == nil {
			live, err = capture.Interface(i.Index, f)
		}
		return err
	})
	if err != nil {
		t.Fatal(errors.Join(err, f.Close()))
	}
	start := time.Now()
	payload := make([]byte, 1200)
	for i := range burst {
		binary.BigEndian.PutUint32(payload, uint32(i))
		for n := range byte(2) {
			payload[4] = n
			if _, err := send[n].Write(payload); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := live.Close(); err != nil {
		t.Fatal(err)
	}

	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint32]int{}
	for {
		data, ci, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		udp, ok := gopacket.NewPacket(data, layers.LinkTypeEthernet, gopacket.Default).Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok || udp.DstPort != 7000 {
			continue // ARP, neighbour discovery
		}
		if len(udp.Payload) != len(payload) || udp.Payload[4] != 0 {
			t.Fatalf("a frame with %d bytes of bridge %d", len(udp.Payload), udp.Payload[4])
		}
		// The kernel may need a moment to begin stamping: the first frames then have
		// the time at which they were read.
		if ci.Timestamp.Before(start) || ci.Timestamp.After(time.Now()) {
			t.Errorf("a frame of the burst that began at %v is stamped %v", start, ci.Timestamp)
		}
		seen[binary.BigEndian.Uint32(udp.Payload)]++
	}
	for i := range uint32(burst) {
		if seen[i] != 1 {
			t.Fatalf("datagram %d is in the file %d times; %d of %d are there", i, seen[i], len(seen), burst)
		}
	}
}

// TestRootLiveCaptureNeedsAnInterface: an interface that is not there is an error,
// and leaves the file to its maker.
func TestRootLiveCaptureNeedsAnInterface(t *testing.T) {
	netnstest.Require(t)
	f, err := capture.CreateEthernet(filepath.Join(t.TempDir(), "none.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	if l, err := capture.Interface(1<<30, f); err == nil {
		t.Error("capturing on nothing")
		_ = l.Close()
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
