package capture_test

import (
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/capture"
)

// What has been written is found at once, while the file is open, and only within one
// packet.
func TestFind(t *testing.T) {
	f, err := capture.CreateIP(filepath.Join(t.TempDir(), "x.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	a, b := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2")
	for _, text := range []string{"first half", "second part"} {
		f.UDP(time.Unix(1, 0), a, b, []byte(text))
	}
	got, err := f.Find([][]byte{[]byte("half"), []byte("second"), []byte("third"), []byte("halfsecond"), {10, 0, 0, 2}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []bool{true, true, false, false, true}; !slices.Equal(got, want) {
		t.Errorf("found %v; want %v", got, want)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Find(nil); err == nil {
		t.Error("a closed file was searched")
	}
}
