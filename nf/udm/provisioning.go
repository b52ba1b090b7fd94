package udm

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

// provisioned is what an operator has changed in a subscription while it was in use.
// It outlives UpdateSubscriber, not the process.
type provisioned struct {
	barred bool
	lock   sbi.PEILock
	ambr   ident.AMBR // zero: each DNN's own
	group  *string    // nil: as subscribed
}

// Subscriptions implements sbi.Provisioning.
func (u *UDM) Subscriptions(ctx context.Context) ([]sbi.Subscription, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	u.mu.Lock()
	out := make([]sbi.Subscription, 0, len(u.subs))
	for supi, s := range u.subs {
		out = append(out, u.subscriptionLocked(supi, s))
	}
	u.mu.Unlock()
	slices.SortFunc(out, func(a, b sbi.Subscription) int { return cmp.Compare(a.SUPI, b.SUPI) })
	return out, nil
}

// Subscription implements sbi.Provisioning.
func (u *UDM) Subscription(ctx context.Context, supi ident.SUPI) (sbi.Subscription, error) {
	if err := ctx.Err(); err != nil {
		return sbi.Subscription{}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	s, err := u.knownLocked(supi)
	if err != nil {
		return sbi.Subscription{}, err
	}
	return u.subscriptionLocked(supi, s), nil
}

// Provision implements sbi.Provisioning. A subscriber that is barred while a UE is
// registered is withdrawn from its AMF; a UE whose device a new lock does not allow is
// asked to register again, which the EIR then refuses, so that the UE learns the reason.
func (u *UDM) Provision(ctx context.Context, supi ident.SUPI, c sbi.SubscriptionChange) (sbi.Subscription, error) {
	if err := c.Validate(); err != nil {
		return sbi.Subscription{}, err
	}
	if err := ctx.Err(); err != nil {
		return sbi.Subscription{}, err
	}
	u.mu.Lock()
	s, err := u.knownLocked(supi)
	if err != nil {
		u.mu.Unlock()
		return sbi.Subscription{}, err
	}
	p := &s.provisioned
	if c.Barred != nil {
		p.barred = *c.Barred
	}
	if c.Lock != nil {
		p.lock = *c.Lock
	}
	if c.SessionAMBR != nil {
		p.ambr = *c.SessionAMBR
	}
	if c.UEGroup != nil {
		group := *c.UEGroup
		p.group = &group
	}
	u.count.Provisioned++
	out := u.subscriptionLocked(supi, s)
	reg, registered := u.amfs[supi]
	var reason sbi.DeregistrationReason
	switch {
	case !registered:
	case p.barred:
		reason = sbi.SubscriptionWithdrawn
	case !p.lock.Allows(reg.PEI):
		reason = sbi.ReregistrationRequired
	}
	u.mu.Unlock()
	if reason == "" {
		return out, nil
	}
	if err := u.deregister(ctx, supi, reg, reason); err != nil {
		return out, fmt.Errorf("udm: deregister %s at AMF %s: %w", supi, reg.AMF, err)
	}
	return out, nil
}

// deregister has the AMF let the UE go (TS 29.503 clause 5.3.2.3).
func (u *UDM) deregister(ctx context.Context, supi ident.SUPI, reg sbi.AMFRegistration, reason sbi.DeregistrationReason) error {
	if u.amf == nil {
		return errors.New("no way to reach AMFs is configured")
	}
	a, err := u.amf(reg)
	if err != nil {
		return err
	}
	err = a.Deregister(ctx, supi, reason)
	var p *sbi.Problem
	if errors.As(err, &p) && p.Status == http.StatusNotFound { // it has restarted
		u.mu.Lock()
		if u.amfs[supi] == reg {
			delete(u.amfs, supi)
		}
		u.mu.Unlock()
		return nil
	}
	return err
}

func (u *UDM) subscriptionLocked(supi ident.SUPI, s *subscriber) sbi.Subscription {
	out := sbi.Subscription{SUPI: supi, Barred: s.barred, Lock: s.lock, SessionAMBR: s.ambr, UEGroup: s.profile.group}
	if s.group != nil {
		out.UEGroup = *s.group
	}
	if r, ok := u.amfs[supi]; ok {
		out.AMF, out.PEI = r.AMF, r.PEI
	}
	return out
}

// apply changes session data as provisioned.
func (p *provisioned) apply(d *sbi.SessionData) {
	if p.ambr != (ident.AMBR{}) {
		d.AMBR = limited(p.ambr)
	}
	if p.group != nil {
		d.UEGroup = *p.group
	}
}

// served returns the subscriber unless it is barred: Problem NO_PS_SUBSCRIPTION (403),
// one of the application errors of TS 29.503 clause 6.2.3.2.3.1. u.mu is held.
func (u *UDM) servedLocked(supi ident.SUPI) (*subscriber, error) {
	s, err := u.knownLocked(supi)
	if err != nil {
		return nil, err
	}
	if s.barred {
		u.count.Barred++
		return nil, problem(http.StatusForbidden, sbi.CauseNoPSSubscription, "%s is barred", supi)
	}
	return s, nil
}

// CheckEquipment implements sbi.EquipmentIdentity: the EIR is a view of the
// subscriptions' locks, so that a device is refused for a subscription, not as such.
func (u *UDM) CheckEquipment(ctx context.Context, supi ident.SUPI, pei ident.PEI) (sbi.EquipmentStatus, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	u.mu.Lock()
	s, err := u.knownLocked(supi)
	if err != nil {
		u.mu.Unlock()
		return "", err
	}
	lock := s.lock
	allowed := lock.Allows(pei)
	if !allowed {
		u.count.EquipmentRefused++
	}
	u.mu.Unlock()
	if !allowed {
		u.log.Warn("device refused by the subscription's lock", "supi", supi)
		u.tell(sbi.EquipmentEvent{Type: sbi.EquipmentRefused, SUPI: supi, PEI: pei, Old: lock.PEI})
		return sbi.EquipmentBlacklisted, nil
	}
	return sbi.EquipmentWhitelisted, nil
}

// tell passes an event on. u.mu is not held.
func (u *UDM) tell(e sbi.EquipmentEvent) {
	if u.equipment == nil {
		return
	}
	e.ID, e.At = rand.Text(), time.Now()
	u.equipment(e)
}
