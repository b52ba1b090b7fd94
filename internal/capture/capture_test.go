package capture_test

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/simreach/simreach/internal/capture"
)

func TestDatagramsComeBackFromTheFile(t *testing.T) {
	for _, addr := range []string{"198.18.3.1", "2001:db8::1"} {
		path := filepath.Join(t.TempDir(), "n3.pcap")
		f, err := capture.CreateIP(path)
		if err != nil {
			t.Fatal(err)
		}
		src, dst := netip.AddrPortFrom(netip.MustParseAddr(addr), 7000), netip.AddrPortFrom(netip.MustParseAddr(addr), 7001)
		at := time.Unix(1700000000, 123456789)
		f.UDP(at, src, dst, []byte("payload"))
		f.IP(at, src.Addr(), dst.Addr(), 132, []byte("twelve octets of SCTP"))
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		f.UDP(at, src, dst, []byte("after Close: dropped"))

		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := pcapgo.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		data, ci, err := r.ReadPacketData()
		if err != nil {
			t.Fatal(err)
		}
		if !ci.Timestamp.Equal(at) {
			t.Errorf("want the packet stamped %v, got %v", at, ci.Timestamp)
		}
		p := gopacket.NewPacket(data, layers.LinkTypeRaw, gopacket.Default)
		if e := p.ErrorLayer(); e != nil {
			t.Fatalf("%s: the datagram does not decode: %v", addr, e.Error())
		}
		udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok || udp.DstPort != 7001 || string(udp.Payload) != "payload" {
			t.Errorf("want payload to port 7001, got %v", p)
		}
		if _, _, err := r.ReadPacketData(); err != nil {
			t.Errorf("want the SCTP packet too: %v", err)
		}
		if _, _, err := r.ReadPacketData(); err == nil {
			t.Error("a packet written after Close is in the file")
		}
	}
}
