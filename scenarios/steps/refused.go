package steps

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/simreach/simreach/scenarios/spec"
)

// refusedArgs: a new connection must fail at once: refused, reset before any byte comes
// back, or ended with a TLS alert.
type refusedArgs struct {
	Access      string `yaml:"access"`
	Client      string `yaml:"client"`
	Alert       string `yaml:"alert"`       // part of the TLS alert's text that must come; needs tls
	TLS         bool   `yaml:"tls"`         // TLS is spoken to the outer relay
	Certificate string `yaml:"certificate"` // shown to it: one of a certificate step; empty: none
}

func compileRefused(s *spec.Spec, st spec.Step) (Action, error) {
	var a refusedArgs
	if err := st.Decode(&a); err != nil {
		return nil, err
	}
	who, err := client(s, st, a.Client)
	if err != nil {
		return nil, err
	}
	if a.Alert != "" && !a.TLS {
		return nil, st.Errorf("add 'tls: true' or leave alert out", "alert without tls")
	}
	return func(ctx context.Context, e *Env) error {
		gs, err := e.grants(a.Access)
		if err != nil {
			return err
		}
		c, err := e.client(who)
		if err != nil {
			return err
		}
		return each(ctx, gs, func(ctx context.Context, g grant) error {
			conn, err := c.Dial(ctx, g.Relay)
			if err != nil && ctx.Err() != nil {
				return fmt.Errorf("connecting hangs: %w", err)
			}
			if err == nil && a.TLS {
				conn, err = e.secure(ctx, conn, g, a.Certificate)
			}
			if err == nil {
				defer conn.Close()
				err = e.noAnswer(ctx, conn)
			}
			return a.verdict(ctx, err)
		})
	}, nil
}

// errAnswers is that something came back.
var errAnswers = errors.New("the device answers")

// noAnswer reads until the connection ends and says how.
func (e *Env) noAnswer(ctx context.Context, c net.Conn) error {
	defer limit(ctx, c)()
	n, err := c.Read(make([]byte, 1))
	if n > 0 {
		return errAnswers
	}
	return err
}

// verdict says whether err is the refusal that the step wants to see.
func (a refusedArgs) verdict(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, errAnswers):
		return fmt.Errorf("the device behind %q answers", a.Access)
	case errors.Is(err, os.ErrDeadlineExceeded), ctx.Err() != nil:
		return fmt.Errorf("a connection to %q is neither refused nor cut", a.Access)
	case a.Alert != "" && !strings.Contains(err.Error(), a.Alert):
		return fmt.Errorf("a connection to %q ended without the alert %q: %w", a.Access, a.Alert, err)
	}
	return nil
}
