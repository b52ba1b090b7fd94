package inproc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/tun"
	"github.com/simreach/simreach/internal/tun/netstack"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/scenarios/spec"
	"github.com/simreach/simreach/ue"
	"github.com/simreach/simreach/ue/device"
)

// host is a device without a kernel: every PDU session brings a userspace stack on
// which the device's services listen.
type host struct {
	imsi     ident.IMSI
	services []device.Service
	log      *slog.Logger
}

func newHost(d spec.Device, log *slog.Logger) host {
	return host{imsi: d.IMSI, services: plan.Services(d), log: log}
}

// Up implements ue.Host.
func (h host) Up(ctx context.Context, s ue.SessionInfo) (tun.Device, error) {
	addr := s.Address.Reach()
	st, err := netstack.New(netstack.Config{
		Name: fmt.Sprintf("pdu%d", s.ID), MTU: s.MTU, Addresses: []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	dev := &sessionDevice{Stack: st, stop: cancel}
	for _, v := range h.services {
		l, err := st.Listen("tcp", netip.AddrPortFrom(addr, v.Port).String())
		if err != nil {
			return nil, errors.Join(err, dev.Close())
		}
		dev.wg.Go(func() {
			if err := v.Serve(ctx, l, h.imsi); err != nil {
				h.log.Warn("device service ended", "supi", h.imsi.SUPI(), "service", v.Kind, "error", err)
			}
		})
	}
	return dev, nil
}

// sessionDevice is a stack with the services that listen on it.
type sessionDevice struct {
	*netstack.Stack
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// Close implements tun.Device.
func (d *sessionDevice) Close() error {
	d.stop()
	d.wg.Wait()
	return d.Stack.Close()
}
