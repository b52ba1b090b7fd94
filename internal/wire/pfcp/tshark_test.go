package pfcp

import (
	"testing"

	"github.com/google/gopacket"

	"github.com/simreach/simreach/internal/testenv"
)

// TestTshark shows every sample to Wireshark's dissector, which was written by
// others from the same specification. Any remark of its experts fails.
func TestTshark(t *testing.T) {
	all := samples()
	var packets [][]gopacket.SerializableLayer
	for _, s := range all {
		b, err := Encode(s.h, s.m)
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, testenv.UDP(t, 8805, b))
	}
	for i, remarks := range testenv.Dissect(t, "pfcp", packets) {
		if remarks != "" {
			t.Errorf("%s: %s", all[i].name, remarks)
		}
	}
}
