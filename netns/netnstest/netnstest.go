// Package netnstest lets a test ask for network namespaces honestly: it skips
// where they are not to be had, and fails there when SIMREACH_REQUIRE names
// "netns", as it does in CI.
package netnstest

import (
	"testing"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/netns"
)

// Require skips or fails t unless namespaces can be made.
func Require(t testing.TB) {
	t.Helper()
	testenv.Require(t, "netns", netns.Available())
}
