package manager_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

// A range of devices has consecutive IMSIs and addresses; whoever is not in it is not
// attached.
func TestStaticDirectory(t *testing.T) {
	d, err := manager.NewStaticDirectory([]manager.StaticAttachment{
		{IMSI: "001010000000099", Count: 3, UPF: "upf1", Address: netip.MustParseAddr("10.45.0.255")},
		{IMSI: "001010000000500", UPF: "upf2", Address: netip.MustParseAddr("10.46.0.1")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for imsi, want := range map[ident.IMSI]manager.Attachment{
		"001010000000099": {UPF: "upf1", Address: netip.MustParseAddr("10.45.0.255")},
		"001010000000101": {UPF: "upf1", Address: netip.MustParseAddr("10.45.1.1")},
		"001010000000500": {UPF: "upf2", Address: netip.MustParseAddr("10.46.0.1")},
	} {
		if got, err := d.Lookup(t.Context(), imsi); err != nil || got != want {
			t.Errorf("%s is at %v, %v; want %v", imsi, got, err, want)
		}
	}
	if _, err := d.Lookup(t.Context(), "001010000000102"); !errors.Is(err, manager.ErrNotAttached) {
		t.Errorf("a device outside of the list: %v; want ErrNotAttached", err)
	}
	if d.Size() != 4 {
		t.Errorf("size %d; want 4", d.Size())
	}
}

// What cannot be meant is refused with the IMSI it is about.
func TestStaticDirectoryRefuses(t *testing.T) {
	at := netip.MustParseAddr("10.45.0.1")
	for name, list := range map[string][]manager.StaticAttachment{
		"bad IMSI":          {{IMSI: "12ab", UPF: "u", Address: at}},
		"no UPF":            {{IMSI: "001010000000001", Address: at}},
		"no address":        {{IMSI: "001010000000001", UPF: "u"}},
		"negative count":    {{IMSI: "001010000000001", Count: -1, UPF: "u", Address: at}},
		"IMSIs run out":     {{IMSI: "999999999999999", Count: 2, UPF: "u", Address: at}},
		"addresses run out": {{IMSI: "001010000000001", Count: 2, UPF: "u", Address: netip.MustParseAddr("255.255.255.255")}},
		"listed twice":      {{IMSI: "001010000000001", Count: 2, UPF: "u", Address: at}, {IMSI: "001010000000002", UPF: "u", Address: at}},
	} {
		if _, err := manager.NewStaticDirectory(list); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
