package manager

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/simreach/simreach/bench/process"
)

// plainTCP is the variant without a manager: messages as long as questions and answers,
// between two processes like these, over as many connections.
const (
	plainTCP   = "plain TCP"
	plainAsk   = 30
	plainReply = 561
)

// ReplyPlainly is the other process: it connects to an address and answers what comes
// until ctx ends.
func ReplyPlainly(ctx context.Context, to string, ready func()) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	var all []net.Conn
	defer func() {
		for _, c := range all {
			_ = c.Close() // that is how its goroutine ends
		}
	}()
	for range outerRelays {
		c, err := net.Dial("tcp", to)
		if err != nil {
			return err
		}
		all = append(all, c)
		wg.Go(func() {
			ask, reply := make([]byte, plainAsk), make([]byte, plainReply)
			for {
				if _, err := io.ReadFull(c, ask); err != nil {
					return
				}
				if _, err := c.Write(reply); err != nil {
					return
				}
			}
		})
	}
	ready()
	<-ctx.Done()
	return nil
}

// plain is this end.
type plain struct {
	peer  *process.Process
	conns []net.Conn
}

func startPlain(ctx context.Context, dir string) (_ *plain, err error) {
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer at.Close()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &plain{}
	p.peer, err = process.Start(ctx, process.Spec{
		Name: "plain peer", Log: filepath.Join(dir, "plain.log"), Args: []string{self, "bench", "plain-peer", "--to", at.Addr().String(), "--ready-fd", "3"},
	})
	if err != nil {
		return nil, err
	}
	for range outerRelays {
		c, err := at.Accept() // they wait there
		if err != nil {
			return nil, errors.Join(err, p.stop())
		}
		p.conns = append(p.conns, c)
	}
	return p, nil
}

func (p *plain) stop() error {
	for _, c := range p.conns {
		_ = c.Close()
	}
	return p.peer.Stop()
}

// ask sends messages at a pace; the answers of a connection come in its order.
func (p *plain) ask(ctx context.Context, rate int, length time.Duration) (figures, error) {
	t := newTally()
	asked := make([]chan time.Time, len(p.conns))
	var wg sync.WaitGroup
	begin := time.Now()
	for i, c := range p.conns {
		asked[i] = make(chan time.Time, rate*int(length/time.Second+1))
		wg.Go(func() {
			reply := make([]byte, plainReply)
			for at := range asked[i] {
				_, err := io.ReadFull(c, reply)
				t.note(1, time.Since(at), err)
			}
		})
	}
	message, n := make([]byte, plainAsk), 0
	var failed error
	err := paced(ctx, rate, length, func() {
		i := n % len(p.conns)
		n++
		start := time.Now()
		if _, err := p.conns[i].Write(message); err != nil {
			failed = err
			return
		}
		asked[i] <- start
	})
	for _, ch := range asked {
		close(ch)
	}
	wg.Wait()
	t.f.took = time.Since(begin)
	return t.f, errors.Join(err, failed)
}
