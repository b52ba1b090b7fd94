package netns_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/simreach/simreach/netns"
	"github.com/simreach/simreach/netns/netnstest"
)

func newNS(t *testing.T, node string) *netns.NS {
	t.Helper()
	n, err := netns.Create(netns.Prefix + "t" + strconv.Itoa(os.Getpid()) + "-" + node)
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

func TestRootTwoNodesOnABridgeReachEachOther(t *testing.T) {
	netnstest.Require(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	sw, a, b := newNS(t, "sw"), newNS(t, "a"), newNS(t, "b")
	if err := sw.AddBridge("n3"); err != nil {
		t.Fatal(err)
	}
	for i, n := range []*netns.NS{a, b} {
		err := n.Join(netns.Port{
			Name: "n3", Addresses: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, 3, byte(i + 1)}), 24)},
			Switch: sw, Bridge: "n3", PortName: "p" + strconv.Itoa(i),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := b.Listen(ctx, netip.MustParseAddrPort("198.18.3.2:7"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(c, c)
			c.Close()
		}
		served <- err
	}()
	c, err := a.Dial(ctx, netip.MustParseAddrPort("198.18.3.2:7"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Fatalf("want the echo of hello, got %q, %v", got, err)
	}
	c.Close()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
}

func TestRootProgramsStartInsideAndAreFound(t *testing.T) {
	netnstest.Require(t)
	n := newNS(t, "x")
	in, feed := io.Pipe()
	cmd := exec.CommandContext(t.Context(), "cat")
	cmd.Stdin = in
	if err := n.Start(cmd); err != nil {
		t.Fatal(err)
	}
	pids, err := n.Processes()
	if err != nil || !slices.Equal(pids, []int{cmd.Process.Pid}) {
		t.Errorf("want the one process we started, got %v, %v", pids, err)
	}
	feed.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestRootForeignNamesAreRefused(t *testing.T) {
	if _, err := netns.Create("other"); !errors.Is(err, netns.ErrName) {
		t.Errorf("create: want ErrName, got %v", err)
	}
	if err := netns.Remove("other"); !errors.Is(err, netns.ErrName) {
		t.Errorf("remove: want ErrName, got %v", err)
	}
	if err := netns.Remove(netns.Prefix + "not-there"); err != nil {
		t.Errorf("removing what is gone must succeed, got %v", err)
	}
}

func TestRootFillChecksumsTurnsOffloadOff(t *testing.T) {
	netnstest.Require(t)
	sw, a := newNS(t, "sw"), newNS(t, "a")
	if err := sw.AddBridge("n2"); err != nil {
		t.Fatal(err)
	}
	if err := a.Join(netns.Port{Name: "n2", Switch: sw, Bridge: "n2", PortName: "p1"}); err != nil {
		t.Fatal(err)
	}
	if err := sw.FillChecksums("p1"); err != nil {
		t.Errorf("veth: %v", err)
	}
	if err := sw.FillChecksums("not-there"); err == nil {
		t.Error("want an error for an interface that is not there")
	}
}
