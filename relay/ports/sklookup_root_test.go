package ports_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/netns"
	"github.com/simreach/simreach/netns/netnstest"
	"github.com/simreach/simreach/relay/ports"
)

const insideVariable = "SIMREACH_PORTS_INSIDE"

// inNamespace reports whether this process was started in a network namespace of
// its own; if not, it has run the calling test in one that was. args select the
// test for the new process.
func inNamespace(t testing.TB, args ...string) bool {
	t.Helper()
	if os.Getenv(insideVariable) != "" {
		return true
	}
	netnstest.Require(t)
	testenv.Require(t, "ebpf", ebpfAvailable())
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	n, err := netns.Create(netns.Prefix + "t" + strconv.Itoa(os.Getpid()) + "-ports")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(n.Close(), netns.Remove(n.Name())); err != nil {
			t.Error(err)
		}
	}()
	err = n.Do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", []byte("0"), 0o644) })
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, append(args, "-test.v", "-test.timeout=60s")...)
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := n.Start(cmd); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	t.Logf("in %s:\n%s", n.Name(), &out)
	if err != nil {
		t.Errorf("in the namespace: %v", err)
	}
	return false
}

func insideTest(t testing.TB) bool { return inNamespace(t, "-test.run=^"+t.Name()+"$") }

func ebpfAvailable() error {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return err
	}
	return m.Close()
}

func TestRootPorts(t *testing.T) {
	if !insideTest(t) {
		return
	}
	for _, mode := range []string{ports.ModeSkLookup, ports.ModeListen} {
		for _, s := range suite {
			t.Run(mode+"/"+s.name, func(t *testing.T) { s.run(t, mode) })
		}
	}
	if n := attached(t); n != 0 {
		t.Errorf("%d programs are attached still", n)
	}
}

// attached returns how many sk_lookup programs this network namespace has.
func attached(t testing.TB) int {
	t.Helper()
	ns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	r, err := link.QueryPrograms(link.QueryOptions{Target: int(ns.Fd()), Attach: ebpf.AttachSkLookup})
	if err != nil {
		t.Fatal(err)
	}
	return len(r.Programs)
}

func TestRootAutoTakesSkLookup(t *testing.T) {
	if !insideTest(t) {
		return
	}
	s := serve(t, ports.Config{Address: address(), Mode: ports.ModeAuto}, nil)
	if st := s.Status(); st.Mode != ports.ModeSkLookup || st.Fallback != "" {
		t.Errorf("status %+v", st)
	}
	if n := attached(t); n != 1 {
		t.Errorf("%d programs are attached, want 1", n)
	}
}

func TestRootAutoFallsBackWithoutRights(t *testing.T) {
	if !insideTest(t) {
		return
	}
	if err := syscall.Setuid(65534); err != nil { // the process is this test's own
		t.Fatal(err)
	}
	p, err := ports.New(ports.Config{Address: address(), Mode: ports.ModeSkLookup}, ports.Deps{Handle: func(net.Conn, uint16) {}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); !errors.Is(err, syscall.EPERM) {
		t.Errorf("sk_lookup without rights: %v, want operation not permitted", err)
	}
	s := serve(t, ports.Config{Address: address(), Mode: ports.ModeAuto}, nil)
	st := s.Status()
	if st.Mode != ports.ModeListen || !strings.Contains(st.Fallback, "operation not permitted") {
		t.Errorf("status %+v", st)
	}
	s.open(first)
	mustDial(t, s.at(first))
	s.hit()
}

// TestRootOpenPortsCostNothing: 20,000 entries take neither descriptors nor
// goroutines, and open at 10,000 per second or faster.
func TestRootOpenPortsCostNothing(t *testing.T) {
	if !insideTest(t) {
		return
	}
	const n, from = 20000, 40000
	a := address()
	s := serve(t, ports.Config{Address: a, Mode: ports.ModeSkLookup, First: from, Last: 65000}, greet('1'))
	fds, goroutines := testenv.Descriptors(t), runtime.NumGoroutine()
	start := time.Now()
	for port := uint16(from); port < from+n; port++ {
		s.open(port)
	}
	took := time.Since(start)
	t.Logf("opening %d ports took %v: %.0f/s", n, took, n/took.Seconds())
	if rate := n / took.Seconds(); rate < 10000 {
		t.Errorf("%.0f ports opened per second, want 10000", rate)
	}
	if f, g := testenv.Descriptors(t), runtime.NumGoroutine(); f != fds || g != goroutines {
		t.Errorf("%d descriptors and %d goroutines, before %d and %d", f, g, fds, goroutines)
	}
	for port := uint16(from); port < from+n; port += 97 {
		if who, err := greeting(s.at(port)); who != '1' || err != nil {
			t.Fatalf("port %d: %q, %v", port, who, err)
		}
	}
	start = time.Now()
	for port := uint16(from); port < from+n; port++ {
		s.Close(port)
	}
	t.Logf("closing them took %v", time.Since(start))
	for port := uint16(from); port < from+n; port += 97 {
		wantRefused(t, s.at(port))
	}
	start = time.Now()
	for port := uint16(from); port < from+n; port++ {
		s.open(port)
	}
	t.Logf("opening them again took %v", time.Since(start))
}

// TestRootModesHandOverToEachOther: a configuration may change with a restart.
func TestRootModesHandOverToEachOther(t *testing.T) {
	if !insideTest(t) {
		return
	}
	a := address()
	start := func(mode string, name byte) *served {
		s := serve(t, ports.Config{Address: a, Mode: mode}, greet(name))
		s.open(first)
		s.open(first + 4)
		return s
	}
	old := start(ports.ModeListen, 'a')
	l := connectAll(t, []netip.AddrPort{old.at(first), old.at(first + 4)}, func(error) bool { return false })
	for i, mode := range []string{ports.ModeSkLookup, ports.ModeListen, ports.ModeSkLookup, ports.ModeListen} {
		l.tick(t)
		next := start(mode, 'b'+byte(i))
		if err := old.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		if err := old.stop(); err != nil {
			t.Error(err)
		}
		old = next
	}
	l.tick(t)
	t.Logf("connections: %v", l.wait())
}

// TestRootHandOverWithSYNCookies: handshakes that one process begins and of which
// the kernel keeps nothing end with the other one.
func TestRootHandOverWithSYNCookies(t *testing.T) {
	if !insideTest(t) {
		return
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_syncookies", []byte("2"), 0o644); err != nil { // always
		t.Fatal(err)
	}
	for _, mode := range []string{ports.ModeSkLookup, ports.ModeListen} {
		t.Run(mode, func(t *testing.T) { handOverUnderLoadLosesNothing(t, mode) })
	}
}

// TestRootSuccessorInheritsFromAKilledProcess: what a process that is killed has
// not accepted goes to the other one that serves the address.
func TestRootSuccessorInheritsFromAKilledProcess(t *testing.T) {
	if !insideTest(t) {
		return
	}
	for _, mode := range []string{ports.ModeSkLookup, ports.ModeListen} {
		t.Run(mode, func(t *testing.T) {
			if mode == ports.ModeListen { // only with the administrator's help
				if err := os.WriteFile("/proc/sys/net/ipv4/tcp_migrate_req", []byte("1"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			inheritFromKilled(t, mode)
		})
	}
}

func inheritFromKilled(t *testing.T, mode string) {
	a := address()
	at := netip.AddrPortFrom(a, first+6)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	old := exec.CommandContext(t.Context(), self)
	old.Env = append(os.Environ(), childVariable+"="+mode+" "+at.String())
	old.Stderr = os.Stderr
	stdin, err := old.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := old.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = old.Process.Kill()
		_ = old.Wait()
	}()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); !strings.HasPrefix(line, "ready") {
		t.Fatal(line, err)
	}
	if who, err := greeting(at); who != '1' || err != nil {
		t.Fatalf("%q, %v", who, err)
	}
	accepted := mustDial(t, at) // and never greeted: the acceptor stands still
	var waiting []net.Conn
	for range 10 {
		waiting = append(waiting, mustDial(t, at))
	}
	half := beginHandshake(t, at)
	defer half.close()
	next := serve(t, ports.Config{Address: a, Mode: mode}, greet('2'))
	next.open(at.Port())
	if err := old.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, c := range append(waiting, accepted) {
		if err := c.SetReadDeadline(time.Now().Add(deadline)); err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		_, err := io.ReadFull(c, b[:])
		if c == accepted {
			if err == nil {
				t.Errorf("the connection that the killed process had was greeted by %c", b[0])
			}
		} else if err != nil || b[0] != '2' {
			t.Errorf("a waiting connection met %q, %v", b[0], err)
		}
	}
	if who, err := half.finish(); who != '2' || err != nil {
		t.Errorf("the half-way handshake met %q, %v", who, err)
	}
}

// BenchmarkRootAccept compares accepting through sk_lookup, with 1 and 20,000 open
// ports, with one plain listener. It runs in a namespace of its own.
func BenchmarkRootAccept(b *testing.B) {
	if os.Getenv(insideVariable) == "" {
		inNamespace(b, "-test.run=^$", "-test.bench=^BenchmarkRootAccept$", "-test.benchtime=20000x")
		return
	}
	b.Run("plain", func(b *testing.B) {
		l := mustListen(b, netip.AddrPortFrom(address(), 0))
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
		connectLoop(b, func(int) netip.AddrPort { return netip.MustParseAddrPort(l.Addr().String()) })
		l.Close()
		<-ended
	})
	for _, n := range []int{1, 20000} {
		for _, mode := range []string{ports.ModeListen, ports.ModeSkLookup} {
			if mode == ports.ModeListen && n > 1 {
				continue // needs more descriptors than a machine may give
			}
			b.Run(mode+"/"+strconv.Itoa(n), func(b *testing.B) {
				s := serve(b, ports.Config{Address: address(), Mode: mode, First: 40000, Last: 65000}, func(c net.Conn, _ uint16) { c.Close() })
				for i := range n {
					s.open(40000 + uint16(i))
				}
				connectLoop(b, func(i int) netip.AddrPort { return s.at(40000 + uint16(i%n)) })
				if err := s.stop(); err != nil {
					b.Error(err)
				}
			})
		}
	}
}

// connectLoop connects and waits for the server's end, one after the other in four
// goroutines.
func connectLoop(b *testing.B, at func(i int) netip.AddrPort) {
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	var d net.Dialer
	b.ReportAllocs()
	b.SetParallelism(2)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			c, err := d.DialContext(ctx, "tcp", at(i).String())
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = c.Read(make([]byte, 1))
			_ = c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "conn/s")
}
