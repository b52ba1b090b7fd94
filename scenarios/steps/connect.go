package steps

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/simreach/simreach/scenarios/spec"
)

// connectArgs: a client opens a connection and keeps it for later steps.
type connectArgs struct {
	Access      string `yaml:"access"`
	Client      string `yaml:"client"`
	As          string `yaml:"as"`          // how later steps call it; empty: the access's name
	Send        string `yaml:"send"`        // sent at once
	Expect      string `yaml:"expect"`      // must come back
	TLS         bool   `yaml:"tls"`         // TLS is spoken to the outer relay
	Certificate string `yaml:"certificate"` // shown to it: one of a certificate step; empty: none
}

func compileConnect(s *spec.Spec, st spec.Step) (Action, error) {
	var a connectArgs
	if err := st.Decode(&a); err != nil {
		return nil, err
	}
	who, err := client(s, st, a.Client)
	if err != nil {
		return nil, err
	}
	a.As = a.name()
	return func(ctx context.Context, e *Env) error {
		c, err := e.dial(ctx, who, a.Access, a.TLS, a.Certificate)
		if err != nil {
			return fmt.Errorf("connect %s: %w", a.As, err)
		}
		e.mu.Lock()
		if old := e.conns[a.As]; old != nil {
			_ = old.Close() // replaced by name: what happened to it no longer matters
		}
		e.conns[a.As] = c
		e.mu.Unlock()
		return exchange(ctx, c, a.Send, a.Expect)
	}, nil
}

// name is how later steps call the connection.
func (a connectArgs) name() string { return cmp.Or(a.As, a.Access) }

func (e *Env) dial(ctx context.Context, who, access string, secure bool, certificate string) (net.Conn, error) {
	c, err := e.client(who)
	if err != nil {
		return nil, err
	}
	g, err := e.one(access)
	if err != nil {
		return nil, err
	}
	conn, err := c.Dial(ctx, g.Relay)
	if err != nil || !secure {
		return conn, err
	}
	return e.secure(ctx, conn, g, certificate)
}

// exchangeArgs: bytes go over a kept connection and others come back.
type exchangeArgs struct {
	Connection string `yaml:"connection"`
	Send       string `yaml:"send"`
	Expect     string `yaml:"expect"`
}

func compileExchange(_ *spec.Spec, st spec.Step) (Action, error) {
	var a exchangeArgs
	if err := st.Decode(&a); err != nil {
		return nil, err
	}
	return func(ctx context.Context, e *Env) error {
		c, err := e.conn(a.Connection)
		if err != nil {
			return err
		}
		return exchange(ctx, c, a.Send, a.Expect)
	}, nil
}

func exchange(ctx context.Context, c net.Conn, send, expect string) error {
	defer limit(ctx, c)()
	if _, err := io.WriteString(c, send); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	got := make([]byte, len(expect))
	if n, err := io.ReadFull(c, got); err != nil {
		return fmt.Errorf("want %q, got %q: %w", expect, got[:n], err)
	}
	if string(got) != expect {
		return fmt.Errorf("want %q, got %q", expect, got)
	}
	return nil
}

// limit ends what c is waiting for when ctx ends, until the returned function is
// called.
func limit(ctx context.Context, c net.Conn) func() {
	if t, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(t) // a closed connection tells so on the next read
	}
	expired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(expired)
		_ = c.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-expired
		}
		_ = c.SetDeadline(time.Time{})
	}
}

// halfCloseArgs: the client sends, closes its sending side, and must then receive
// everything the device still has to say, up to the device's own FIN (R15).
type halfCloseArgs struct {
	Connection string `yaml:"connection"`
	Send       string `yaml:"send"`
	Repeat     int    `yaml:"repeat"` // how many times Send is sent; 0 means once
	Expect     string `yaml:"expect"` // all that comes until EOF; empty: what was sent
}

// maxSend is the most that a half_close step sends, in bytes.
const maxSend = 256 << 20

func compileHalfClose(_ *spec.Spec, st spec.Step) (Action, error) {
	var a halfCloseArgs
	if err := st.Decode(&a); err != nil {
		return nil, err
	}
	a.Repeat = max(1, a.Repeat)
	if len(a.Send) > 0 && a.Repeat > maxSend/len(a.Send) {
		return nil, st.Errorf(fmt.Sprintf("at most %d bytes", maxSend), "%d times %d bytes are too many to send", a.Repeat, len(a.Send))
	}
	sent := strings.Repeat(a.Send, a.Repeat)
	if a.Expect == "" {
		a.Expect = sent
	}
	return func(ctx context.Context, e *Env) error {
		c, err := e.conn(a.Connection)
		if err != nil {
			return err
		}
		half, ok := c.(interface{ CloseWrite() error })
		if !ok {
			return fmt.Errorf("connection %q cannot half-close", a.Connection)
		}
		defer limit(ctx, c)()
		written := make(chan error, 1)
		go func() {
			_, err := io.WriteString(c, sent)
			if err == nil {
				err = half.CloseWrite()
			}
			written <- err
		}()
		got, rerr := io.ReadAll(io.LimitReader(c, int64(len(a.Expect))+1))
		if len(got) > len(a.Expect) {
			_ = c.SetDeadline(time.Unix(1, 0)) // nothing to wait for any more
			<-written
			return fmt.Errorf("half-close: want %d bytes, got more", len(a.Expect))
		}
		if err := errors.Join(<-written, rerr); err != nil {
			return fmt.Errorf("half-close: got %d of %d bytes: %w", len(got), len(a.Expect), err)
		}
		if !bytes.Equal(got, []byte(a.Expect)) {
			return fmt.Errorf("half-close: want %d bytes, got %d that differ", len(a.Expect), len(got))
		}
		return nil
	}, nil
}

// cutArgs: a kept connection must be cut by the relay (R16, R17).
type cutArgs struct {
	Connection string        `yaml:"connection"`
	Within     spec.Duration `yaml:"within"` // 0: the step's timeout
	// NotBefore is the earliest moment, counted from the start of the step.
	NotBefore spec.Duration `yaml:"not_before"`
}

func compileCut(_ *spec.Spec, st spec.Step) (Action, error) {
	var a cutArgs
	if err := st.Decode(&a); err != nil {
		return nil, err
	}
	switch within := cmp.Or(a.Within.Std(), st.Timeout); {
	case a.Within < 0 || a.NotBefore < 0:
		return nil, st.Errorf("a duration such as 2s", "within or not_before is negative")
	case a.NotBefore.Std() >= within:
		return nil, st.Errorf("a not_before that is earlier", "the connection may not be cut before %s, and must be within %s", a.NotBefore.Std(), within)
	}
	return func(ctx context.Context, e *Env) error {
		c, err := e.conn(a.Connection)
		if err != nil {
			return err
		}
		if a.Within > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, a.Within.Std())
			defer cancel()
		}
		start := time.Now()
		defer limit(ctx, c)()
		n, err := io.Copy(io.Discard, c)
		took := time.Since(start)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("connection %q still stands after %v", a.Connection, took)
		case took < a.NotBefore.Std():
			return fmt.Errorf("connection %q was cut after %v already", a.Connection, took)
		case n > 0:
			return fmt.Errorf("connection %q delivered %d bytes before it was cut", a.Connection, n)
		}
		return nil
	}, nil
}
