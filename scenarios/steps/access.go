package steps

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/spec"
)

// accessArgs: a client asks the manager for access (R3, R4).
type accessArgs struct {
	UE       string        `yaml:"ue"`   // name or pattern: one access each
	IMSI     string        `yaml:"imsi"` // instead of ue
	Port     uint16        `yaml:"port"`
	As       string        `yaml:"as"`     // how later steps call it; empty: what ue or imsi says
	Client   string        `yaml:"client"` // who asks; empty: the first client
	Duration spec.Duration `yaml:"duration"`
	Ranges   []string      `yaml:"ranges"` // CIDRs or "${client.NAME.address}/32"
	TLS      bool          `yaml:"tls"`    // clients must speak TLS to the relay (R18)
	// Endpoint and Host are those of an access that an api step has asked for: it gets
	// its name here and nothing is asked of the manager.
	Endpoint string   `yaml:"endpoint"` // "address:port", such as "${api.NAME}"
	Host     string   `yaml:"host"`
	Refused  *refusal `yaml:"refused"`
}

// refusal is the API error that a step wants to see.
type refusal struct {
	Status int    `yaml:"status"`
	Code   string `yaml:"code"` // empty: any
}

func compileAccess(s *spec.Spec, st spec.Step) (Action, error) {
	var a accessArgs
	if err := st.Decode(&a); err != nil {
		return nil, err
	}
	who, err := client(s, st, a.Client)
	if err != nil {
		return nil, err
	}
	type target struct {
		name string
		imsi ident.IMSI
	}
	var targets []target
	switch {
	case a.UE != "" && a.IMSI != "":
		return nil, st.Errorf("give one of them", "both ue and imsi")
	case a.IMSI != "":
		if _, err := ident.ParseIMSI(a.IMSI); err != nil && a.Refused == nil {
			return nil, st.Errorf("15 digits, or 'refused' if that is the point", "%v", err)
		}
		targets = []target{{a.IMSI, ident.IMSI(a.IMSI)}}
	default:
		ds, err := devices(s, st, a.UE)
		if err != nil {
			return nil, err
		}
		for _, d := range ds {
			targets = append(targets, target{d.Name, d.IMSI})
		}
	}
	if a.Port == 0 && a.Refused == nil && a.Endpoint == "" {
		return nil, st.Errorf("1 to 65535", "access without a port")
	}
	if a.Duration < 0 {
		return nil, st.Errorf("a duration such as 10m", "duration is negative")
	}
	for _, t := range append(slices.Clone(a.Ranges), a.Endpoint, a.Host) {
		if err := checkTemplate(st, t); err != nil {
			return nil, err
		}
	}
	a.As = a.name()
	if a.Endpoint != "" {
		if len(targets) != 1 {
			return nil, st.Errorf("name one UE", "an endpoint of %d UEs", len(targets))
		}
		return func(_ context.Context, e *Env) error { return a.adopt(e, targets[0].name, targets[0].imsi) }, nil
	}
	return func(ctx context.Context, e *Env) error {
		c, err := e.client(who)
		if err != nil {
			return err
		}
		var ranges []netip.Prefix
		for _, t := range a.Ranges {
			text, err := e.expand(t)
			if err != nil {
				return err
			}
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return fmt.Errorf("range %q: %w", t, err)
			}
			ranges = append(ranges, p)
		}
		var got []grant
		err = each(ctx, targets, func(ctx context.Context, t target) error {
			g, err := e.Lab.Manager().Create(ctx, c, lab.AccessRequest{IMSI: t.imsi, Port: a.Port, Duration: a.Duration.Std(), Ranges: ranges, TLS: a.TLS})
			if err := a.Refused.check(err); err != nil {
				return fmt.Errorf("access to %s: %w", t.name, err)
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			got = append(got, grant{t.name, g})
			return nil
		})
		if err != nil || a.Refused != nil {
			return err
		}
		slices.SortFunc(got, func(x, y grant) int { return cmp.Compare(x.ue, y.ue) })
		e.mu.Lock()
		defer e.mu.Unlock()
		e.accesses[a.As] = got
		return nil
	}, nil
}

// name is how later steps call the access.
func (a accessArgs) name() string { return cmp.Or(a.As, a.UE, a.IMSI) }

// adopt names an access that exists.
func (a accessArgs) adopt(e *Env, ue string, imsi ident.IMSI) error {
	endpoint, err := e.expand(a.Endpoint)
	if err != nil {
		return err
	}
	host, err := e.expand(a.Host)
	if err != nil {
		return err
	}
	at, err := netip.ParseAddrPort(endpoint)
	if err != nil {
		return fmt.Errorf("endpoint: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.accesses[a.As] = []grant{{ue, lab.Access{Relay: at, IMSI: imsi, Port: a.Port, Host: host}}}
	return nil
}

func (r *refusal) check(err error) error {
	if r == nil {
		return err
	}
	if err == nil {
		return errors.New("the manager granted what it had to refuse")
	}
	got, ok := errors.AsType[*lab.APIError](err)
	if !ok {
		return fmt.Errorf("want an error answer: %w", err)
	}
	if (r.Status != 0 && r.Status != got.Status) || (r.Code != "" && r.Code != got.Code) {
		return fmt.Errorf("want status %d code %s: %w", r.Status, r.Code, err)
	}
	return nil
}

// revokeArgs: the client gives an access back (R17).
type revokeArgs struct {
	Access string `yaml:"access"`
}

func compileRevoke(_ *spec.Spec, st spec.Step) (Action, error) {
	var a revokeArgs
	if err := st.Decode(&a); err != nil {
		return nil, err
	}
	return func(ctx context.Context, e *Env) error {
		gs, err := e.grants(a.Access)
		if err != nil {
			return err
		}
		return each(ctx, gs, func(ctx context.Context, g grant) error {
			if err := e.Lab.Manager().Delete(ctx, g.Access); err != nil {
				return fmt.Errorf("revoke %s: %w", a.Access, err)
			}
			return nil
		})
	}, nil
}
