package pfcp

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// TestTshark shows every sample to Wireshark's dissector, which was written by
// others from the same specification.
func TestTshark(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		if slices.Contains(strings.Split(os.Getenv("SIMREACH_REQUIRE"), ","), "tshark") {
			t.Fatal("tshark is required (SIMREACH_REQUIRE) but not installed")
		}
		t.Skip("tshark is not installed")
	}
	path := filepath.Join(t.TempDir(), "pfcp.pcap")
	writePcap(t, path)

	out, err := exec.Command(tshark, "-r", path, "-T", "fields", "-E", "separator=|",
		"-e", "frame.number", "-e", "pfcp.msg_type", "-e", "_ws.malformed", "-e", "_ws.expert.message").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	all := samples()
	if len(lines) != len(all) {
		t.Fatalf("tshark saw %d frames, want %d:\n%s", len(lines), len(all), out)
	}
	for i, l := range lines {
		f := strings.Split(l, "|")
		if f[1] == "" || f[2] != "" || f[3] != "" {
			t.Errorf("%s: got type %q malformed %q expert %q, want a type and nothing else", all[i].name, f[1], f[2], f[3])
		}
	}
}

func writePcap(t *testing.T, path string) {
	t.Helper()
	var buf bytes.Buffer
	w := pcapgo.NewWriter(&buf)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for _, s := range samples() {
		payload, err := Encode(s.h, s.m)
		if err != nil {
			t.Fatal(err)
		}
		eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IP{10, 0, 4, 1}, DstIP: net.IP{10, 0, 4, 2}}
		udp := &layers.UDP{SrcPort: 8805, DstPort: 8805}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		sb := gopacket.NewSerializeBuffer()
		err = gopacket.SerializeLayers(sb, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, udp, gopacket.Payload(payload))
		if err != nil {
			t.Fatal(err)
		}
		n := len(sb.Bytes())
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: n, Length: n}, sb.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}
