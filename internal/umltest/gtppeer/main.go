// Command gtppeer is the other end of a GTP-U test: it makes the Linux kernel's
// GTP driver the end of one tunnel, with the UE's address behind it, and moves
// bytes over TCP through it. It runs as root in a guest that has the driver.
//
//	gtppeer -n3 198.18.0.2 -upf 198.18.0.1 -ue 10.60.0.2 -dn 10.60.0.1 \
//	        -teid 512 -upf-teid 1 -listen 7000 -upload 10.60.0.1:7000 -n 100000000
//
// First it sends n bytes from the UE's address to -upload, then it takes one
// connection on the UE's port -listen, which is open from the start, and reads
// until its end. It prints
//
//	upload sha256=... bytes=... ms=...
//	download sha256=... bytes=... ms=...
//	device rx_packets=... tx_packets=... rx_errors=... tx_errors=...
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
)

const (
	deviceName = "gtp0"
	gtp0Port   = 3386 // GTP version 0; the library always hands over a socket for it
	gtp1Port   = 2152
)

type options struct {
	n3, upf, ue, dn netip.Addr
	teid, upfTEID   uint
	listen          uint
	upload          netip.AddrPort
	n               int64
	seed            uint64
	timeout         time.Duration
}

func main() {
	var o options
	flag.TextVar(&o.n3, "n3", netip.Addr{}, "our tunnel address")
	flag.TextVar(&o.upf, "upf", netip.Addr{}, "the UPF's tunnel address")
	flag.TextVar(&o.ue, "ue", netip.Addr{}, "the UE's address")
	flag.TextVar(&o.dn, "dn", netip.Addr{}, "address that is reached through the tunnel")
	flag.UintVar(&o.teid, "teid", 0, "TEID of the packets to us")
	flag.UintVar(&o.upfTEID, "upf-teid", 0, "TEID of the packets to the UPF")
	flag.UintVar(&o.listen, "listen", 0, "TCP port of the UE")
	flag.TextVar(&o.upload, "upload", netip.AddrPort{}, "where to send")
	flag.Int64Var(&o.n, "n", 1e6, "bytes to send")
	flag.Uint64Var(&o.seed, "seed", 1, "of the bytes")
	flag.DurationVar(&o.timeout, "timeout", time.Minute, "of the whole run")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), o.timeout)
	defer cancel()
	if err := run(ctx, o); err != nil {
		fmt.Println("gtppeer:", err) // on the console, beside the results
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	tunnel, err := openTunnel(o)
	if err != nil {
		return err
	}
	defer tunnel.Close()
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(o.ue, uint16(o.listen))))
	if err != nil {
		return err
	}
	defer l.Close()
	end, _ := ctx.Deadline()
	if err := l.SetDeadline(end); err != nil {
		return err
	}
	if err := upload(ctx, o, end); err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	if err := download(l, end); err != nil {
		return fmt.Errorf("download: %w", err)
	}
	link, err := netlink.LinkByName(deviceName)
	if err != nil {
		return fmt.Errorf("statistics of %s: %w", deviceName, err)
	}
	st := link.Attrs().Statistics
	fmt.Printf("device rx_packets=%d tx_packets=%d rx_errors=%d tx_errors=%d\n", st.RxPackets, st.TxPackets, st.RxErrors, st.TxErrors)
	return nil
}

// upload sends and waits until the other side has closed.
func upload(ctx context.Context, o options, end time.Time) error {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(o.ue, 0))}
	c, err := d.DialContext(ctx, "tcp4", o.upload.String())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(end); err != nil {
		return err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("connection is a %T", c)
	}
	hash, start := sha256.New(), time.Now()
	source := rand.NewChaCha8([32]byte{byte(o.seed), byte(o.seed >> 8)})
	sent, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(tcp, hash)}, io.LimitReader(source, o.n), make([]byte, 256<<10))
	if err != nil {
		return err
	}
	if err := tcp.CloseWrite(); err != nil {
		return err
	}
	if _, err := tcp.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the last byte: %w, want the end", err)
	}
	fmt.Printf("upload sha256=%x bytes=%d ms=%d\n", hash.Sum(nil), sent, time.Since(start).Milliseconds())
	return nil
}

// download reads one connection to its end.
func download(l net.Listener, end time.Time) error {
	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(end); err != nil {
		return err
	}
	hash, start := sha256.New(), time.Now()
	got, err := io.CopyBuffer(struct{ io.Writer }{hash}, struct{ io.Reader }{c}, make([]byte, 256<<10))
	if err != nil {
		return err
	}
	fmt.Printf("download sha256=%x bytes=%d ms=%d\n", hash.Sum(nil), got, time.Since(start).Milliseconds())
	return nil
}

// sockets are what the driver takes its packets from; it stops when they close.
type sockets []*os.File

func (s sockets) Close() {
	for _, f := range s {
		_ = f.Close()
	}
}

// openTunnel makes the device, its one PDP context, and the UE's address and route
// on it. The role is that of an SGSN, whose place a gNB has: uplink packets are
// found by their source, the UE.
func openTunnel(o options) (sockets, error) {
	var s sockets
	if err := s.tunnel(o); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *sockets) tunnel(o options) error {
	for _, port := range []uint16{gtp0Port, gtp1Port} {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(o.n3, port)))
		if err != nil {
			return err
		}
		f, err := c.File()
		_ = c.Close() // f is a duplicate
		if err != nil {
			return err
		}
		*s = append(*s, f)
	}
	gtp := &netlink.GTP{
		LinkAttrs: netlink.LinkAttrs{Name: deviceName},
		FD0:       int((*s)[0].Fd()), FD1: int((*s)[1].Fd()), Role: nl.GTP_ROLE_SGSN,
	}
	if err := netlink.LinkAdd(gtp); err != nil {
		return fmt.Errorf("add %s: %w", deviceName, err)
	}
	link, err := netlink.LinkByName(deviceName)
	if err != nil {
		return fmt.Errorf("find %s: %w", deviceName, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", deviceName, err)
	}
	err = netlink.GTPPDPAdd(link, &netlink.PDP{
		Version: 1, ITEI: uint32(o.teid), OTEI: uint32(o.upfTEID),
		PeerAddress: o.upf.AsSlice(), MSAddress: o.ue.AsSlice(),
	})
	if err != nil {
		return fmt.Errorf("add PDP context: %w", err)
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: host(o.ue)}); err != nil {
		return fmt.Errorf("add UE address: %w", err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: host(o.dn), Src: o.ue.AsSlice()}); err != nil {
		return fmt.Errorf("add route: %w", err)
	}
	return nil
}

func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}
