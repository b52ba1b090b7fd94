// Package capture writes the packets of a link to a pcap file that Wireshark
// opens: live from an interface (Interface), or from memory, where a packet is
// given its IP and UDP headers on the way (File.IP, File.UDP). A live capture owns
// one goroutine, which Close joins.
package capture

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// snapLen is the longest packet kept whole: super-packets of segmentation offload
// included.
const snapLen = 262144

// File is a pcap file that several goroutines may write to.
type File struct {
	mu  sync.Mutex // guards all below
	f   *os.File
	buf *bufio.Writer
	w   *pcapgo.Writer
	err error // the first write error; later packets are dropped
}

// CreateIP makes a file for packets that start with their IP header.
func CreateIP(path string) (*File, error) { return create(path, layers.LinkTypeRaw) }

// CreateEthernet makes a file for Ethernet frames.
func CreateEthernet(path string) (*File, error) { return create(path, layers.LinkTypeEthernet) }

func create(path string, t layers.LinkType) (*File, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	c := &File{f: f, buf: bufio.NewWriterSize(f, 1<<18)}
	c.w = pcapgo.NewWriterNanos(c.buf)
	if err := c.w.WriteFileHeader(snapLen, t); err != nil {
		return nil, errors.Join(fmt.Errorf("capture %s: %w", path, err), f.Close())
	}
	return c, nil
}

// Packet adds one packet; b is not kept.
func (c *File) Packet(at time.Time, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.f == nil {
		return
	}
	n := min(len(b), snapLen)
	c.err = c.w.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: n, Length: len(b)}, b[:n])
}

// UDP adds a datagram, with headers made for it.
func (c *File) UDP(at time.Time, src, dst netip.AddrPort, payload []byte) {
	udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
	c.serialize(at, src.Addr(), dst.Addr(), layers.IPProtocolUDP, udp, payload)
}

// IP adds the payload of an IP packet, with an IP header made for it.
func (c *File) IP(at time.Time, src, dst netip.Addr, protocol uint8, payload []byte) {
	c.serialize(at, src, dst, layers.IPProtocol(protocol), nil, payload)
}

func (c *File) serialize(at time.Time, src, dst netip.Addr, proto layers.IPProtocol, udp *layers.UDP, payload []byte) {
	var ip gopacket.SerializableLayer
	var network gopacket.NetworkLayer
	if src.Is4() {
		h := &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: net.IP(src.AsSlice()), DstIP: net.IP(dst.AsSlice())}
		ip, network = h, h
	} else {
		h := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: net.IP(src.AsSlice()), DstIP: net.IP(dst.AsSlice())}
		ip, network = h, h
	}
	stack := []gopacket.SerializableLayer{ip}
	if udp != nil {
		_ = udp.SetNetworkLayerForChecksum(network) // fails for other network layers only
		stack = append(stack, udp)
	}
	buf := gopacket.NewSerializeBuffer()
	o := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, o, append(stack, gopacket.Payload(payload))...); err != nil {
		c.mu.Lock()
		c.err = errors.Join(c.err, err)
		c.mu.Unlock()
		return
	}
	c.Packet(at, buf.Bytes())
}

// Close flushes and closes the file, and returns the first error of its life.
func (c *File) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.f == nil {
		return nil
	}
	err := errors.Join(c.err, c.buf.Flush(), c.f.Close())
	c.f = nil
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	return nil
}
