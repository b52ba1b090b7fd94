package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/simreach/simreach/manager/api"
)

const (
	churners    = 4
	churnPause  = 200 * time.Millisecond
	shortLife   = 2 // seconds
	churnMargin = 5 * time.Second
)

// churn counts entries that come and go beside the load.
type churn struct {
	created, revoked, expired atomic.Int64
	failed                    atomic.Int64
}

// create asks for access to the device for some seconds.
func (s *soak) create(ctx context.Context, seconds float64, secure bool) (string, error) {
	m, err := s.api.Create(ctx, api.CreateRequest{
		Destination: &api.Destination{IMSI: deviceIMSI, Port: float64(s.devicePort)}, Duration: &seconds, TLSRequired: secure,
	})
	if err != nil {
		return "", fmt.Errorf("create: %w", err)
	}
	return m.Endpoint, nil
}

// churn creates entries, connects to them and revokes them or lets them expire, until ctx
// ends: the live connection must be cut, and nobody may connect any more.
func (s *soak) churn(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range churners {
		wg.Go(func() {
			for turn := i; pause(ctx, churnPause); turn++ {
				if err := s.comeAndGo(context.WithoutCancel(ctx), turn%2 == 0); err != nil {
					s.entries.failed.Add(1)
					s.fault("entry", err)
				}
			}
		})
	}
}

func (s *soak) comeAndGo(ctx context.Context, revoke bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	life := float64(shortLife)
	if revoke {
		life = 600
	}
	at, err := s.create(ctx, life, false)
	if err != nil {
		return err
	}
	s.entries.created.Add(1)
	c, err := s.dial(ctx, at, false)
	if err != nil {
		return fmt.Errorf("connect to a new entry: %w", err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(shortLife*time.Second + churnMargin)) // fails only on a closed connection
	if err := echoed(c, 64, true); err != nil {
		return fmt.Errorf("talk over a new entry: %w", err)
	}
	if revoke {
		a, err := netip.ParseAddrPort(at)
		if err == nil {
			err = s.api.Delete(ctx, a)
		}
		if err != nil {
			return fmt.Errorf("revoke: %w", err)
		}
	}
	if _, err := io.Copy(io.Discard, c); !isEnd(err) {
		return fmt.Errorf("the connection of an entry that is over (revoked: %t) ended with %w; want a reset", revoke, err)
	}
	late, err := net.DialTimeout("tcp", at, churnMargin)
	if err == nil {
		late.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("connect to an entry that is over (revoked: %t): %w; want connection refused", revoke, err)
	}
	if revoke {
		s.entries.revoked.Add(1)
	} else {
		s.entries.expired.Add(1)
	}
	return nil
}
