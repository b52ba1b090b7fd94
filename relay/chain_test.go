package relay

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"github.com/simreach/simreach/internal/testenv"
)

// relayProcess is the environment variable that makes the test binary a relay: the way
// to carry links, and the address to dial.
const relayProcess = "SIMREACH_TEST_RELAY"

// serveRelay relays until standard input ends. Its first line of output is the address
// on which it listens. For each line of input it collects garbage and says so.
func serveRelay(way, to string) error {
	r := &Relayer{}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	if way == onLoop.name {
		var err error
		if r, err = NewRelayer(Config{}); err != nil {
			return err
		}
		wg.Go(func() { _ = r.Run(ctx) })
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	wg.Go(func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				b, err := net.Dial("tcp", to)
				if err != nil {
					Abort(a)
					return
				}
				r.Start(a.(Conn), b.(Conn), nil, func(Result) {})
			})
		}
	})
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		debug.FreeOSMemory()
		fmt.Println("collected")
	}
	l.Close()
	cancel()
	wg.Wait()
	return orders.Err()
}

// startRelay starts a relay process in front of an address and returns where it
// listens.
func startRelay(t testing.TB, way, to string) string {
	t.Helper()
	at, _, _ := startProcess(t, way, to)
	return at
}

// startProcess is startRelay, and returns the process's ID and what makes it collect
// garbage.
func startProcess(t testing.TB, way, to string) (at string, pid int, collect func()) {
	t.Helper()
	if way == "haproxy" {
		at, pid = startHAProxy(t, to)
		return at, pid, func() {}
	}
	cmd := exec.Command(os.Args[0])
	// The race detector would wait for a second at the end of each process.
	cmd.Env = append(os.Environ(), relayProcess+"="+way+" "+to, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line), cmd.Process.Pid, func() {
		t.Helper()
		if _, err := io.WriteString(in, "\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
}

// startHAProxy starts HAProxy as a TCP relay that splices.
func startHAProxy(t testing.TB, to string) (at string, pid int) {
	t.Helper()
	program := testenv.Program(t, "programs", "haproxy")
	f, at := listening(t, "127.0.0.1:0")
	defer f.Close()
	config := filepath.Join(t.TempDir(), "haproxy.cfg")
	text := `global
  tune.pipesize 1048576
  maxconn 6000
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  option splice-request
  option splice-response
listen relay
  bind fd@3
  server device ` + to + "\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-db", "-q", "-f", config)
	cmd.ExtraFiles, cmd.Stderr = []*os.File{f}, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return at, cmd.Process.Pid
}

// device listens and serves each connection.
func device(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

// BenchmarkChain measures two relays in processes of their own between a client and a
// device, next to two of HAProxy.
func BenchmarkChain(b *testing.B) {
	echo := func(c net.Conn) { io.Copy(c, c) }
	discard := func(c net.Conn) { io.Copy(io.Discard, c) }
	chain := func(b *testing.B, way string, serve func(net.Conn)) string {
		return startRelay(b, way, startRelay(b, way, device(b, serve)))
	}
	dial := func(b *testing.B, at string) net.Conn {
		c, err := net.Dial("tcp", at)
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	for _, way := range []string{onLoop.name, onGoroutines.name, "haproxy"} {
		b.Run("roundtrip/"+way, func(b *testing.B) {
			c := dial(b, chain(b, way, echo))
			defer c.Close()
			buf := make([]byte, 64)
			for b.Loop() {
				c.Write(buf)
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("bulk/"+way, func(b *testing.B) {
			c := dial(b, chain(b, way, discard))
			defer c.Close()
			block := make([]byte, 1<<20)
			b.SetBytes(int64(len(block)))
			for b.Loop() {
				if _, err := c.Write(block); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("bulk16/"+way, func(b *testing.B) {
			at := chain(b, way, discard)
			block := make([]byte, 1<<20)
			b.SetBytes(int64(len(block)))
			b.SetParallelism(8)
			b.RunParallel(func(p *testing.PB) {
				c := dial(b, at)
				defer c.Close()
				for p.Next() {
					if _, err := c.Write(block); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
		b.Run("connect/"+way, func(b *testing.B) {
			at := chain(b, way, echo)
			b.SetParallelism(8)
			b.RunParallel(func(p *testing.PB) {
				buf := make([]byte, 64)
				for p.Next() {
					c, err := net.Dial("tcp", at)
					if err != nil {
						b.Error(err)
						return
					}
					c.Write(buf)
					if _, err := io.ReadFull(c, buf); err != nil {
						b.Error(err)
					}
					Abort(c) // leaves no TIME-WAIT behind
				}
			})
		})
	}
}
