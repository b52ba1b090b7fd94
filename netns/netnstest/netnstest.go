// Package netnstest lets a test ask for network namespaces honestly: it skips
// where they are not to be had, and fails there when SIMREACH_REQUIRE names
// "netns", as it does in CI.
package netnstest

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/simreach/simreach/netns"
)

// Require skips or fails t unless namespaces can be made.
func Require(t testing.TB) {
	t.Helper()
	err := netns.Available()
	if err == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("SIMREACH_REQUIRE"), ","), "netns") {
		t.Fatalf("network namespaces are required here: %v", err)
	}
	t.Skipf("needs network namespaces (run as root): %v", err)
}
