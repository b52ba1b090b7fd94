package nas

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// TestWireshark has Wireshark dissect every sample, plain and protected with
// NEA0: it knows nothing of our codec. Any remark of its experts fails.
func TestWireshark(t *testing.T) {
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
	for i, remarks := range dissect(t, pdus) {
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

// dissect returns what tshark's experts say about each NGAP PDU and the NAS in it, "" for nothing.
// It skips the test if tshark is not installed, unless SIMREACH_REQUIRE has
// "tshark".
func dissect(t *testing.T, pdus [][]byte) []string {
	t.Helper()
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		if strings.Contains(os.Getenv("SIMREACH_REQUIRE"), "tshark") {
			t.Fatal("tshark is required but not installed")
		}
		t.Skip("tshark is not installed")
	}
	file := filepath.Join(t.TempDir(), "nas.pcap")
	writeCapture(t, file, pdus)
	out, err := exec.Command(tshark, "-r", file, "-o", "nas-5gs.null_decipher:TRUE", "-T", "fields",
		"-E", "separator=|", "-e", "frame.number", "-e", "frame.protocols",
		"-e", "_ws.expert.severity", "-e", "_ws.expert.message", "-e", "_ws.malformed").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(pdus) {
		t.Fatalf("%d packets dissected, want %d:\n%s", len(lines), len(pdus), out)
	}
	remarks := make([]string, len(pdus))
	for i, l := range lines {
		f := strings.Split(l, "|")
		if !strings.Contains(f[1], "nas-5gs") {
			remarks[i] = "not taken for NAS: " + l
		}
		if f[2] != "" || f[4] != "" {
			remarks[i] = l
		}
	}
	return remarks
}

// writeCapture writes each PDU as an SCTP DATA chunk between two addresses.
func writeCapture(t *testing.T, name string, pdus [][]byte) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := pcapgo.NewWriter(f)
	if err := w.WriteFileHeader(1<<16, layers.LinkTypeRaw); err != nil {
		t.Fatal(err)
	}
	for i, pdu := range pdus {
		ip := &layers.IPv4{
			Version: 4, TTL: 64, Protocol: layers.IPProtocolSCTP,
			SrcIP: net.IPv4(127, 0, 0, 1), DstIP: net.IPv4(127, 0, 0, 2),
		}
		sctp := &layers.SCTP{SrcPort: 38412, DstPort: 38412}
		chunk := &layers.SCTPData{
			SCTPChunk:     layers.SCTPChunk{Type: layers.SCTPChunkTypeData, Flags: 3},
			BeginFragment: true, EndFragment: true,
			TSN: uint32(i + 1), StreamSequence: uint16(i), PayloadProtocol: 60,
		}
		buf := gopacket.NewSerializeBuffer()
		opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
		padded := append(append([]byte{}, pdu...), make([]byte, (4-len(pdu)%4)%4)...)
		chunk.Length = uint16(16 + len(pdu))
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{ComputeChecksums: true}, chunk, gopacket.Payload(padded)); err != nil {
			t.Fatal(err)
		}
		body := append([]byte{}, buf.Bytes()...)
		body[2], body[3] = byte(chunk.Length>>8), byte(chunk.Length)
		if err := gopacket.SerializeLayers(buf, opts, ip, sctp, gopacket.Payload(body)); err != nil {
			t.Fatal(err)
		}
		ci := gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 0), CaptureLength: len(buf.Bytes()), Length: len(buf.Bytes())}
		if err := w.WritePacket(ci, buf.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
}
