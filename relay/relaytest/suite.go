package relaytest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// End is one end of a relayed connection: a TCP socket of the kernel or of a userspace
// stack.
type End interface {
	net.Conn
	CloseWrite() error       // sends FIN
	SetLinger(sec int) error // 0: Close sends RST
}

// Target is the relay under test.
type Target struct {
	// Open returns the address at which clients reach the device at an address. It is
	// called for every device of the suite, before anybody connects. Required.
	Open func(t testing.TB, device netip.AddrPort) netip.AddrPort
	// Dial connects as a client; the connection must be an End. nil: over the kernel's
	// network.
	Dial func(ctx context.Context, relay netip.AddrPort) (net.Conn, error)
	// Listen opens a device, whose connections must be Ends. nil: on a port of
	// 127.0.0.1.
	Listen func() (net.Listener, error)
	// Cannot are names of cases that this relay is known to fail, each with the reason.
	// They are run, and it is an error if one passes.
	Cannot map[string]string
	// Unsure are names of cases that this relay fails now and then, each with the
	// reason: run, and only told of.
	Unsure map[string]string
	// Lossy is a network on which a RST may be lost, which nobody repeats: no case asks
	// for one. Bulk and the number of connections are small.
	Lossy bool
	// Bulk is how many bytes travel each way in bulk. 0: 64 MiB, 1 GiB in full, or
	// 256 KiB on a lossy network.
	Bulk int64
	// Idle is how many idle connections there may be at one time. 0: 5,000, for which
	// the relay and the test each need 10,000 descriptors.
	Idle int
	// Unreachable, if valid, is an address of no device, to which there is no way.
	Unreachable netip.AddrPort
	// Silent, if valid, is an address of a device that never answers.
	Silent netip.AddrPort
	// GivesUp is how long the relay may try to reach Silent. 0: 10 s.
	GivesUp time.Duration
}

// Full reports whether the suite runs in full: a gigabyte each way, and a minute of
// idleness. That is so where the environment variable SIMREACH_TEST_FULL is not empty
// and -short is not given.
func Full() bool { return !testing.Short() && os.Getenv("SIMREACH_TEST_FULL") != "" }

// suite is a Target with a device.
type suite struct {
	Target
	t        testing.TB
	at       netip.AddrPort // of the relay in front of the device
	accepted chan net.Conn
}

// check is one case. Its run fails by run.stop.
type check struct {
	name   string
	resets bool // makes no sense on a lossy network
	run    func(*run)
}

// run is a case under way, in one goroutine.
type run struct {
	*suite
	err error
}

// stop ends the goroutine of a case, or of a part of one.
func (r *run) stop(format string, args ...any) {
	r.err = fmt.Errorf(format, args...)
	runtime.Goexit()
}

func (r *run) must(err error, what string) {
	if err != nil {
		r.stop("%s: %w", what, err)
	}
}

// guard runs f in a goroutine that may stop, and returns why it did.
func (s *suite) guard(f func(*run)) error {
	r := &run{suite: s}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r.err
}

// Run runs every case as a subtest of t.
func Run(t *testing.T, target Target) {
	t.Helper()
	for _, c := range checks() {
		if c.resets && target.Lossy {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			s := &suite{Target: target, t: t}
			s.at, s.accepted = s.device()
			err := s.guard(c.run)
			why, known := target.Cannot[c.name]
			unsure, maybe := target.Unsure[c.name]
			switch {
			case maybe && err != nil:
				t.Logf("fails this time (%s): %v", unsure, err)
			case known && err == nil:
				t.Errorf("passes, though it is said that the relay cannot: %s", why)
			case known:
				t.Logf("fails as expected (%s): %v", why, err)
			case err != nil:
				t.Error(err)
			}
		})
	}
	for name := range target.Cannot {
		if !slices.ContainsFunc(checks(), func(c check) bool { return c.name == name }) {
			t.Errorf("there is no case %q", name)
		}
	}
}

// device opens a device and returns where clients reach it and its connections.
func (s *suite) device() (netip.AddrPort, chan net.Conn) {
	listen := s.Listen
	if listen == nil {
		listen = func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
	}
	l, err := listen()
	if err != nil {
		s.t.Fatal(err)
	}
	accepted := make(chan net.Conn)
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case accepted <- c:
			case <-ended:
				c.Close()
				return
			}
		}
	})
	s.t.Cleanup(func() { close(ended); l.Close(); wg.Wait() })
	return s.Open(s.t, addrPort(l.Addr())), accepted
}

func addrPort(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }

// patience is how long a case waits for anything.
func (r *run) patience() time.Duration {
	if Full() {
		return 5 * time.Minute
	}
	return time.Minute
}

// dial connects a client.
func (r *run) dial(at netip.AddrPort) End {
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	dial := r.Dial
	if dial == nil {
		dial = func(ctx context.Context, at netip.AddrPort) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", at.String())
		}
	}
	c, err := dial(ctx, at)
	r.must(err, "connect")
	return r.end(c)
}

// end has c closed when the test ends, and fail when it hangs.
func (r *run) end(c net.Conn) End {
	e, ok := c.(End)
	if !ok {
		c.Close()
		r.stop("%T is no End", c)
	}
	r.t.Cleanup(func() { c.Close() })
	r.must(c.SetDeadline(time.Now().Add(r.patience())), "deadline")
	return e
}

// open makes a connection through the relay and returns both ends.
func (r *run) open() (client, device End) {
	client = r.dial(r.at)
	return client, r.accept()
}

func (r *run) accept() End {
	select {
	case c := <-r.accepted:
		return r.end(c)
	case <-time.After(20 * time.Second):
		r.stop("the device was not connected to")
		return nil
	}
}

// reset closes e with RST.
func (r *run) reset(e End) {
	r.must(e.SetLinger(0), "linger")
	r.must(e.Close(), "close")
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}
