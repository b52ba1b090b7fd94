package nas

import (
	"testing"

	"github.com/google/gopacket"

	"github.com/simreach/simreach/internal/testenv"
)

// TestTshark has Wireshark dissect every sample, plain and protected with
// NEA0: it knows nothing of our codec. Any remark of its experts fails.
func TestTshark(t *testing.T) {
	ue, amf := contexts(0, 2)
	var names []string
	var pdus [][]byte
	add := func(name string, downlink bool, b []byte) {
		names = append(names, name)
		pdus = append(pdus, inNGAP(downlink, b))
	}
	for _, s := range samples {
		b := unhex(t, s.hex)
		if b[0] == epd5GSM {
			var m Message = &ULNASTransport{PayloadType: PayloadN1SM, Payload: b, PDUSessionID: 5}
			if s.downlink {
				m = &DLNASTransport{PayloadType: PayloadN1SM, Payload: b, PDUSessionID: 5}
			}
			var err error
			if b, err = Encode(m); err != nil {
				t.Fatal(err)
			}
		}
		add(s.name, s.downlink, b)
		from, h := ue, HeaderIntegrityCiphered
		if s.downlink {
			from = amf
		}
		switch s.msg.(type) {
		case *SecurityModeCommand:
			h = HeaderIntegrityNew
		case *SecurityModeComplete:
			h = HeaderIntegrityCipheredNew
		case *RegistrationRequest:
			h = HeaderIntegrity
		}
		pdu, err := from.Protect(b, h)
		if err != nil {
			t.Fatal(err)
		}
		add(s.name+", protected", s.downlink, pdu)
	}
	var packets [][]gopacket.SerializableLayer
	for i, b := range pdus {
		packets = append(packets, testenv.SCTPData(t, uint32(i+1), b))
	}
	for i, remarks := range testenv.Dissect(t, "nas-5gs", packets) {
		if remarks != "" {
			t.Errorf("%s (%x): %s", names[i], pdus[i], remarks)
		}
	}
}

// inNGAP returns a NAS message in a DOWNLINK or UPLINK NAS TRANSPORT, without the
// user location.
func inNGAP(downlink bool, b []byte) []byte {
	ies := []byte{0, 0, 3, 0, 10, 0, 2, 0, 7, 0, 85, 0, 2, 0, 9, 0, 38, 0}
	length := func(n int) []byte { return []byte{0x80 | byte(n>>8), byte(n)} }
	octets := append(length(len(b)), b...)
	ies = append(append(ies, length(len(octets))...), octets...)
	procedure := byte(46)
	if downlink {
		procedure = 4
	}
	return append(append([]byte{0, procedure, 0x40}, length(len(ies))...), ies...)
}
