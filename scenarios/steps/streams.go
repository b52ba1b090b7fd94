package steps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/simreach/simreach/relay/outer/manyclient"
	"github.com/simreach/simreach/scenarios/spec"
)

// streamsArgs: a client opens one TLS connection to an entry for several UEs and reaches
// each of them through a stream of its own (R9b). All streams are open before any of
// them is used, and all of those that are not cut still work at the end.
type streamsArgs struct {
	Access      string       `yaml:"access"`
	Client      string       `yaml:"client"`
	Certificate string       `yaml:"certificate"` // one of a certificate step; empty: none is shown
	Open        []streamArgs `yaml:"open"`
}

// streamArgs is one stream.
type streamArgs struct {
	UE      string `yaml:"ue"`
	Port    uint16 `yaml:"port"`
	Send    string `yaml:"send"`
	Expect  string `yaml:"expect"`
	Refused string `yaml:"refused"` // the code of the refusal that must come
	Cut     bool   `yaml:"cut"`     // the relay must cut it
}

func compileStreams(s *spec.Spec, st spec.Step) (Action, error) {
	var a streamsArgs
	if err := st.Decode(&a); err != nil {
		return nil, err
	}
	who, err := client(s, st, a.Client)
	if err != nil {
		return nil, err
	}
	if len(a.Open) == 0 {
		return nil, st.Errorf("add 'open: [{ue: ue1, port: 7}]'", "no stream to open")
	}
	targets := make([]string, len(a.Open))
	for i, o := range a.Open {
		ds, err := devices(s, st, o.UE)
		if err != nil {
			return nil, err
		}
		if len(ds) != 1 || o.Port == 0 {
			return nil, st.Errorf("such as {ue: ue1, port: 7}", "a stream needs one UE and a port")
		}
		if o.Refused != "" && (o.Send != "" || o.Expect != "" || o.Cut) {
			return nil, st.Errorf("leave send, expect and cut out", "the stream to %s is refused, so nothing goes over it", o.UE)
		}
		targets[i] = manyclient.ByIMSI(string(ds[0].IMSI), o.Port)
	}
	return func(ctx context.Context, e *Env) error { return a.run(ctx, e, who, targets) }, nil
}

func (a streamsArgs) run(ctx context.Context, e *Env, who string, targets []string) error {
	c, err := e.many(ctx, who, a.Access, a.Certificate)
	if err != nil {
		return err
	}
	defer c.Close()
	streams := make([]*manyclient.Stream, len(a.Open))
	for i, o := range a.Open {
		streams[i], err = c.Connect(ctx, targets[i])
		if err := o.opened(err); err != nil {
			return fmt.Errorf("stream to %s: %w", o.UE, err)
		}
	}
	for _, cutting := range []bool{false, true, false} {
		for i, o := range a.Open {
			if streams[i] == nil || o.Cut != cutting {
				continue
			}
			if err := o.use(ctx, streams[i]); err != nil {
				return fmt.Errorf("stream to %s: %w", o.UE, err)
			}
		}
	}
	return nil
}

// opened says whether a stream is as it should be.
func (o streamArgs) opened(err error) error {
	refused, ok := errors.AsType[*manyclient.RefusedError](err)
	switch {
	case o.Refused == "":
		return err
	case err == nil:
		return fmt.Errorf("want a refusal with %s, it opened", o.Refused)
	case !ok || refused.Code != o.Refused:
		return fmt.Errorf("want a refusal with %s: %w", o.Refused, err)
	}
	return nil
}

// use exchanges bytes over a stream, or waits for it to be cut after that.
func (o streamArgs) use(ctx context.Context, s *manyclient.Stream) error {
	stop := context.AfterFunc(ctx, func() { s.Close() }) // streams have no deadlines
	defer stop()
	if _, err := io.WriteString(s, o.Send); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	got := make([]byte, len(o.Expect))
	if n, err := io.ReadFull(s, got); err != nil || string(got) != o.Expect {
		return errors.Join(fmt.Errorf("want %q, got %q", o.Expect, got[:n]), err)
	}
	if !o.Cut {
		return nil
	}
	n, err := s.Read(got[:1:1])
	switch {
	case ctx.Err() != nil:
		return errors.New("it was not cut")
	case n > 0:
		return errors.New("it was not cut: more bytes came")
	case err == io.EOF:
		return errors.New("it was not cut: the device ended it")
	}
	return nil
}

// many opens the connection of an entry for several UEs.
func (e *Env) many(ctx context.Context, who, access, certificate string) (*manyclient.Client, error) {
	c, err := e.client(who)
	if err != nil {
		return nil, err
	}
	g, err := e.one(access)
	if err != nil {
		return nil, err
	}
	cfg, err := e.tlsConfig(g, certificate)
	if err != nil {
		return nil, err
	}
	return manyclient.Dial(ctx, manyclient.Config{
		Endpoint: g.Relay.String(), TLS: cfg,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.Dial(ctx, g.Relay) },
	})
}
