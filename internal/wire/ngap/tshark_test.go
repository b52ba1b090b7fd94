package ngap

import (
	"testing"

	"github.com/google/gopacket"

	"github.com/simreach/simreach/internal/testenv"
)

// TestTshark has Wireshark dissect every sample: it knows nothing of our codec. Any
// remark of its experts fails.
func TestTshark(t *testing.T) {
	var packets [][]gopacket.SerializableLayer
	for i, s := range samples {
		packets = append(packets, testenv.SCTPData(t, uint32(i+1), unhex(t, s.hex)))
	}
	for i, remarks := range testenv.Dissect(t, "ngap", packets) {
		if remarks != "" {
			t.Errorf("%s (%s): %s", samples[i].name, samples[i].hex, remarks)
		}
	}
}
