package sbi

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/simreach/simreach/internal/ident"
)

// Provisioning is what an operator changes in a subscription: the attributes that
// Nudr_DataRepository (TS 29.504 clause 5.2, TS 29.505 clause 5.2, Release 17) spreads
// over operator-determined-barring-data, am-data, sm-data and the EIR's list, as one
// resource. It is implemented by *udm.UDM and *Client.
type Provisioning interface {
	// Subscriptions returns every subscription, ordered by SUPI.
	Subscriptions(ctx context.Context) ([]Subscription, error)
	// Subscription returns one. Unknown SUPI: Problem USER_NOT_FOUND (404).
	Subscription(ctx context.Context, supi ident.SUPI) (Subscription, error)
	// Provision changes what c names and returns the result. A UE that the change
	// forbids is deregistered before Provision returns. When its AMF cannot be told
	// the change holds all the same and the error says so; repeating the call tries
	// again. Errors: Problem USER_NOT_FOUND (404), MANDATORY_IE_INCORRECT (400), and
	// those of Communication.Deregister.
	Provision(ctx context.Context, supi ident.SUPI, c SubscriptionChange) (Subscription, error)
}

// Subscription is the part of a subscription that Provisioning shows.
type Subscription struct {
	SUPI ident.SUPI
	// Barred is operator determined barring of all services: registration is refused.
	Barred bool
	// Lock ties the subscription to one device; its zero value does not.
	Lock PEILock
	// SessionAMBR in bit/s takes the place of every DNN's own; zero leaves them. It
	// applies to sessions established later. For those that exist the caller asks
	// SessionControl.SetAMBR.
	SessionAMBR ident.AMBR
	// UEGroup selects UPFs for sessions established later; empty means none.
	UEGroup string
	// AMF serves the UE, which said that its PEI is PEI; both are empty when the UE
	// is not registered. They cannot be changed here.
	AMF NFID
	PEI ident.PEI
}

// PEILock says with which device a subscription may be used.
type PEILock struct {
	// PEI of the device, "imei-..." or "imeisv-..."; empty means any. Type allocation
	// code and serial number are compared, neither check digit nor software version.
	PEI ident.PEI
	// Anonymous tolerates a UE that does not tell its PEI.
	Anonymous bool
}

// SubscriptionChange is what Provision changes; nil leaves an attribute as it is.
type SubscriptionChange struct {
	Barred      *bool
	Lock        *PEILock
	SessionAMBR *ident.AMBR
	UEGroup     *string
}

// The resource is ours, because the specification has it in four places:
//
//	GET   /simreach-udr/v1/subscription-data            all subscriptions
//	GET   /simreach-udr/v1/subscription-data/{supi}     one
//	PATCH /simreach-udr/v1/subscription-data/{supi}     changes the attributes given
const pathProvisioning = "/simreach-udr/v1/subscription-data"

type subscriptionJSON struct {
	SUPI   ident.SUPI   `json:"supi,omitempty"`
	Barred *bool        `json:"barred,omitempty"`
	Lock   *peiLockJSON `json:"peiLock,omitempty"`
	AMBR   *ambrJSON    `json:"sessionAmbr,omitempty"`
	Group  *string      `json:"ueGroup,omitempty"`
	AMF    NFID         `json:"amfInstanceId,omitempty"`
	PEI    ident.PEI    `json:"pei,omitempty"`
}

type peiLockJSON struct {
	PEI       ident.PEI `json:"pei,omitempty"`
	Anonymous bool      `json:"anonymous,omitempty"`
}

func toChange(c SubscriptionChange) subscriptionJSON {
	j := subscriptionJSON{Barred: c.Barred, Group: c.UEGroup}
	if c.Lock != nil {
		l := peiLockJSON(*c.Lock)
		j.Lock = &l
	}
	if c.SessionAMBR != nil {
		a := toAMBR(*c.SessionAMBR)
		j.AMBR = &a
	}
	return j
}

func toSubscription(s Subscription) subscriptionJSON {
	j := toChange(SubscriptionChange{Barred: &s.Barred, Lock: &s.Lock, SessionAMBR: &s.SessionAMBR, UEGroup: &s.UEGroup})
	j.SUPI, j.AMF, j.PEI = s.SUPI, s.AMF, s.PEI
	return j
}

func (j *subscriptionJSON) change() (c SubscriptionChange, err error) {
	c.Barred, c.UEGroup = j.Barred, j.Group
	if j.Lock != nil {
		l := PEILock(*j.Lock)
		if err := checkPEI(l.PEI); err != nil {
			return c, err
		}
		c.Lock = &l
	}
	if j.AMBR != nil {
		a, err := j.AMBR.ambr()
		if err != nil {
			return c, err
		}
		c.SessionAMBR = &a
	}
	return c, nil
}

func (j *subscriptionJSON) subscription() (s Subscription, err error) {
	c, err := j.change()
	if err != nil {
		return s, err
	}
	if s.SUPI, err = ident.ParseSUPI(string(j.SUPI)); err != nil {
		return s, err
	}
	c.Apply(&s)
	s.AMF, s.PEI = j.AMF, j.PEI
	return s, nil
}

// Apply makes the change in s.
func (c SubscriptionChange) Apply(s *Subscription) {
	if c.Barred != nil {
		s.Barred = *c.Barred
	}
	if c.Lock != nil {
		s.Lock = *c.Lock
	}
	if c.SessionAMBR != nil {
		s.SessionAMBR = *c.SessionAMBR
	}
	if c.UEGroup != nil {
		s.UEGroup = *c.UEGroup
	}
}

// Validate reports a lock that no device can open. Errors are Problems (400).
func (c SubscriptionChange) Validate() error {
	if c.Lock == nil {
		return nil
	}
	if err := checkPEI(c.Lock.PEI); err != nil {
		return invalidIE(err)
	}
	return nil
}

// Allows reports whether a device that says its PEI is pei (empty: says nothing) may
// use the subscription.
func (l PEILock) Allows(pei ident.PEI) bool {
	switch {
	case l.PEI == "":
		return true
	case pei == "":
		return l.Anonymous
	}
	return equipment(pei) == equipment(l.PEI)
}

// equipment is the type allocation code and serial number of an IMEI or IMEISV: 14
// digits (TS 23.003 clauses 6.2.1 and 6.2.2).
func equipment(p ident.PEI) string {
	_, digits, _ := strings.Cut(string(p), "-")
	return digits[:min(14, len(digits))]
}

// checkPEI accepts an empty PEI.
func checkPEI(p ident.PEI) error {
	if p == "" {
		return nil
	}
	kind, digits, _ := strings.Cut(string(p), "-")
	if strings.Trim(digits, "0123456789") == "" && (kind == "imei" && len(digits) == 15 || kind == "imeisv" && len(digits) == 16) {
		return nil
	}
	return fmt.Errorf(`pei %.40q: want "imei-" and 15 digits, or "imeisv-" and 16`, p)
}

func pathSubscription(supi ident.SUPI) string {
	return pathProvisioning + "/" + segment(string(supi))
}

// Subscriptions implements Provisioning.
func (c *Client) Subscriptions(ctx context.Context) ([]Subscription, error) {
	r := request{method: http.MethodGet, path: pathProvisioning, repeatable: true, limit: maxSnapshot}
	resp, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	var in []subscriptionJSON
	if err := c.read(r, resp, &in); err != nil {
		return nil, err
	}
	out := make([]Subscription, 0, len(in))
	for _, j := range in {
		s, err := j.subscription()
		if err != nil {
			return nil, c.unreadable(r, resp, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// Subscription implements Provisioning.
func (c *Client) Subscription(ctx context.Context, supi ident.SUPI) (Subscription, error) {
	return c.subscription(ctx, request{method: http.MethodGet, path: pathSubscription(supi), repeatable: true})
}

// Provision implements Provisioning.
func (c *Client) Provision(ctx context.Context, supi ident.SUPI, change SubscriptionChange) (Subscription, error) {
	r, err := jsonRequest(http.MethodPatch, pathSubscription(supi), toChange(change), true)
	if err != nil {
		return Subscription{}, err
	}
	return c.subscription(ctx, r)
}

func (c *Client) subscription(ctx context.Context, r request) (Subscription, error) {
	resp, err := c.do(ctx, r)
	if err != nil {
		return Subscription{}, err
	}
	var in subscriptionJSON
	if err := c.read(r, resp, &in); err != nil {
		return Subscription{}, err
	}
	s, err := in.subscription()
	if err != nil {
		return Subscription{}, c.unreadable(r, resp, err)
	}
	return s, nil
}

func provisioningRoutes(p Provisioning) []route {
	const one = pathProvisioning + "/{supi}"
	return []route{
		{http.MethodGet, pathProvisioning, func(ctx context.Context, _ *incoming) (*answer, error) {
			list, err := p.Subscriptions(ctx)
			if err != nil {
				return nil, err
			}
			doc := make([]subscriptionJSON, 0, len(list))
			for _, s := range list {
				doc = append(doc, toSubscription(s))
			}
			return &answer{doc: doc}, nil
		}},
		{http.MethodGet, one, func(ctx context.Context, in *incoming) (*answer, error) {
			supi, err := in.supi()
			if err != nil {
				return nil, err
			}
			s, err := p.Subscription(ctx, supi)
			if err != nil {
				return nil, err
			}
			return &answer{doc: toSubscription(s)}, nil
		}},
		{http.MethodPatch, one, func(ctx context.Context, in *incoming) (*answer, error) {
			supi, err := in.supi()
			if err != nil {
				return nil, err
			}
			var doc subscriptionJSON
			if err := in.into(&doc); err != nil {
				return nil, err
			}
			change, err := doc.change()
			if err != nil {
				return nil, invalidIE(err)
			}
			s, err := p.Provision(ctx, supi, change)
			if err != nil {
				return nil, err
			}
			return &answer{doc: toSubscription(s)}, nil
		}},
	}
}
