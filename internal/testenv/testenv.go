// Package testenv lets a test say honestly what it needs of the machine, has what tests
// of connections share, and asks Wireshark's dissectors what they think of bytes that our
// codecs made. It starts no goroutine.
package testenv

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// Require skips t if missing is not nil, or fails it when the environment variable
// SIMREACH_REQUIRE, a comma-separated list, names the feature: there it must not be
// missing. Features are netns, tun, sctp, uml, tshark, programs, postgres, ebpf, browser
// (Chromium, and certutil) and clang (the version of it that made the committed BPF
// program).
func Require(t testing.TB, feature string, missing error) {
	t.Helper()
	if missing == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("SIMREACH_REQUIRE"), ","), feature) {
		t.Fatalf("%s is required here: %v", feature, missing)
	}
	t.Skipf("needs %s: %v", feature, missing)
}

// Program is Require for a program, and returns its path.
func Program(t testing.TB, feature, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	Require(t, feature, err)
	return path
}

// SCTPData makes an SCTP packet of one DATA chunk that carries an NGAP PDU.
func SCTPData(t testing.TB, tsn uint32, pdu []byte) []gopacket.SerializableLayer {
	t.Helper()
	chunk := &layers.SCTPData{
		SCTPChunk:     layers.SCTPChunk{Type: layers.SCTPChunkTypeData, Flags: 3, Length: uint16(16 + len(pdu))},
		BeginFragment: true, EndFragment: true,
		TSN: tsn, StreamSequence: uint16(tsn), PayloadProtocol: 60,
	}
	buf := gopacket.NewSerializeBuffer()
	padded := append(slices.Clone(pdu), make([]byte, (4-len(pdu)%4)%4)...)
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{}, chunk, gopacket.Payload(padded)); err != nil {
		t.Fatal(err)
	}
	body := slices.Clone(buf.Bytes())
	body[2], body[3] = byte(chunk.Length>>8), byte(chunk.Length) // the library counts the padding
	return []gopacket.SerializableLayer{
		ipv4(layers.IPProtocolSCTP), &layers.SCTP{SrcPort: 38412, DstPort: 38412}, gopacket.Payload(body),
	}
}

// UDP makes a datagram between two addresses, from and to the port.
func UDP(t testing.TB, port uint16, payload []byte) []gopacket.SerializableLayer {
	t.Helper()
	ip := ipv4(layers.IPProtocolUDP)
	udp := &layers.UDP{SrcPort: layers.UDPPort(port), DstPort: layers.UDPPort(port)}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return []gopacket.SerializableLayer{ip, udp, gopacket.Payload(payload)}
}

func ipv4(p layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: p, SrcIP: net.IPv4(127, 0, 0, 1), DstIP: net.IPv4(127, 0, 0, 2)}
}

// Dissect has tshark look at packets and returns, for each, what it objects to: ""
// for a packet that was taken for the protocol (as tshark names it) and about which
// its experts have nothing to say. It needs tshark, by Program.
func Dissect(t testing.TB, protocol string, packets [][]gopacket.SerializableLayer) []string {
	t.Helper()
	tshark := Program(t, "tshark", "tshark")
	file := filepath.Join(t.TempDir(), "packets.pcap")
	write(t, file, packets)
	out, err := exec.Command(tshark, "-r", file, "-o", "nas-5gs.null_decipher:TRUE", "-T", "fields",
		"-E", "separator=|", "-e", "frame.protocols", "-e", "_ws.expert.severity", "-e", "_ws.expert.message", "-e", "_ws.malformed").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(packets) {
		t.Fatalf("%d packets dissected, want %d:\n%s", len(lines), len(packets), out)
	}
	remarks := make([]string, len(packets))
	for i, l := range lines {
		f := strings.Split(l, "|")
		switch {
		case !slices.Contains(strings.Split(f[0], ":"), protocol):
			remarks[i] = "not taken for " + protocol + ": " + l
		case f[1] != "" || f[3] != "":
			remarks[i] = l
		}
	}
	return remarks
}

func write(t testing.TB, name string, packets [][]gopacket.SerializableLayer) {
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
	for i, p := range packets {
		buf := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, p...); err != nil {
			t.Fatal(err)
		}
		n := len(buf.Bytes())
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 0), CaptureLength: n, Length: n}, buf.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
}
