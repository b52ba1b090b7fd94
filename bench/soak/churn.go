package soak

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
)

const (
	churners    = 4
	churnPause  = 200 * time.Millisecond
	shortLife   = 2 * time.Second
	longLife    = 10 * time.Minute
	churnMargin = 5 * time.Second
)

// access is what a client needs for an entry.
type access int

const (
	plain   access = iota
	secure         // TLS
	guarded        // and a certificate under a credential
)

// entry is one that the manager has made.
type entry struct {
	at         netip.AddrPort
	expires    time.Time
	credential string // its ID; empty: none
}

// create asks for access to the device. credential is for guarded only.
func (s *soak) create(ctx context.Context, life time.Duration, a access, credential string) (entry, error) {
	seconds := life.Seconds()
	r := api.CreateRequest{Destination: &api.Destination{IMSI: deviceIMSI, Port: float64(s.devicePort)}, Duration: &seconds, TLSRequired: a != plain}
	var m api.PortMapping
	var err error
	if a == guarded {
		var all []api.ExtendedMapping
		if all, err = s.api.CreateExtended(ctx, api.ExtendedRequest{CreateRequest: r, CredentialID: credential}); err == nil {
			m = all[0].PortMapping
		}
	} else {
		m, err = s.api.Create(ctx, r)
	}
	if err != nil {
		return entry{}, fmt.Errorf("create: %w", err)
	}
	at, err := netip.ParseAddrPort(m.Endpoint)
	return entry{at, time.UnixMilli(m.ExpiredTime), credential}, err
}

// cut is a cause that ends a live connection, and how long after it the clients saw that.
type cut struct {
	name   string
	within time.Duration                             // as is promised
	end    func(context.Context, *soak, entry) error // brings it about; nil: time does

	mu   sync.Mutex // guards the rest
	late []time.Duration
}

// churn is entries that come and go beside the load.
type churn struct {
	created                   atomic.Int64
	deleted, expired, revoked cut
}

func newChurn() *churn {
	return &churn{
		deleted: cut{name: "entry deleted", within: 200 * time.Millisecond, end: func(ctx context.Context, s *soak, e entry) error { return s.api.Delete(ctx, e.at) }},
		expired: cut{name: "entry expired", within: 100 * time.Millisecond},
		revoked: cut{name: "credential revoked", within: 200 * time.Millisecond, end: func(ctx context.Context, s *soak, e entry) error {
			return s.api.RevokeCredential(ctx, e.credential)
		}},
	}
}

// churn creates entries, connects to them and has them end, until ctx ends: the live
// connection must be cut, and nobody may connect any more.
func (s *soak) churn(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	again := func(every time.Duration, comeAndGo func(ctx context.Context, turn int) error) {
		wg.Go(func() {
			for turn := 0; pause(ctx, every); turn++ {
				if err := comeAndGo(context.WithoutCancel(ctx), turn); err != nil {
					s.fault("entry", err)
				}
			}
		})
	}
	for i := range churners {
		again(churnPause, func(ctx context.Context, turn int) error {
			how := []*cut{&s.entries.deleted, &s.entries.expired}[(turn+i)%2]
			return s.comeAndGo(ctx, how, []access{plain, secure}[turn/2%2], "")
		})
	}
	// An operator may not have more credentials than that, revoked ones included.
	again(max(time.Second, s.For/(manager.MaxCredentials-100)), func(ctx context.Context, _ int) error {
		c, err := s.api.RegisterCredential(ctx, api.CreateCredential{CACertificate: string(s.clients.PEM())})
		if err != nil {
			return fmt.Errorf("register a credential: %w", err)
		}
		return s.comeAndGo(ctx, &s.entries.revoked, guarded, c.CredentialID)
	})
}

// comeAndGo is the life of one entry with one connection.
func (s *soak) comeAndGo(ctx context.Context, how *cut, a access, credential string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	fail := func(what string, err error) error {
		return fmt.Errorf("%s (%s, TLS %t): %w", what, how.name, a != plain, err)
	}
	life := longLife
	if how.end == nil {
		life = shortLife
	}
	e, err := s.create(ctx, life, a, credential)
	if err != nil {
		return err
	}
	s.entries.created.Add(1)
	var config *tls.Config
	if a != plain {
		config = s.trusting(s.certificate)
	}
	c, err := s.dial(ctx, e.at, config)
	if err != nil {
		return fail("connect to a new entry", err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(shortLife + churnMargin)) // fails only on a closed connection
	if err := echoed(c, 64, true); err != nil {
		return fail("talk over a new entry", err)
	}
	from, asked := e.expires, make(chan error, 1)
	if how.end == nil {
		asked <- nil
	} else {
		from = time.Now()
		go func() { asked <- how.end(ctx, s, e) }() // which ctx bounds
	}
	_, err = io.Copy(io.Discard, c)
	late := time.Since(from)
	if err := <-asked; err != nil {
		return fail("end it", err)
	}
	if a == plain && !isReset(err) || a != plain && !isAlert(err, alertAccessDenied) {
		return fail("the connection of an entry that is over ended with", err)
	}
	if late < 0 {
		return fail("cut", fmt.Errorf("%s too early", -late))
	}
	if err := s.closed(ctx, e); err != nil {
		return fail("connect to an entry that is over", err)
	}
	how.mu.Lock()
	defer how.mu.Unlock()
	how.late = append(how.late, late)
	return nil
}

// closed checks that nobody may connect to an entry that is over, and deletes what is left
// of it.
func (s *soak) closed(ctx context.Context, e entry) error {
	if e.credential == "" {
		late, err := net.DialTimeout("tcp", e.at.String(), churnMargin)
		if err == nil {
			late.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("%w; want connection refused", err)
		}
		return nil
	}
	late, err := s.dial(ctx, e.at, s.trusting(s.certificate))
	if err == nil {
		late.Close()
	}
	if !isAlert(err, alertAccessDenied) {
		return fmt.Errorf("%w; want the alert access_denied", err)
	}
	s.turnedAway.Add(1)
	return s.api.Delete(ctx, e.at)
}
