package umltest

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRootGuest(t *testing.T) {
	m := Boot(t, Options{Modules: []string{"sctp", "gtp"}, Script: "echo hello from the guest"})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := m.Run(ctx, "uname -r; grep -c '^sctp ' /proc/modules")
	if err != nil || !strings.Contains(out, "\n1\n") {
		t.Errorf("%v: %q", err, out)
	}
	if _, err := m.Run(ctx, "false"); err == nil {
		t.Error("a command that failed was reported as good")
	}
	if _, err := m.Run(ctx, "touch /usr/written-by-guest"); err == nil {
		t.Error("the guest can write the host's files")
	}
	// UDP into the guest reaches a closed port there: ICMP comes back as an error.
	m.In(func() {
		c, err := net.Dial("udp", net.JoinHostPort(m.Guest.String(), "9"))
		if err != nil {
			t.Errorf("dial: %v", err)
			return
		}
		defer c.Close()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Errorf("write: %v", err)
		}
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%v, want connection refused", err)
		}
	})
}
