package relay_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// Peers of the manager that take their time get no more of it than its servers allow,
// however steadily they send, and relays and clients do not notice.
func TestSlowPeersOfTheManager(t *testing.T) {
	c := newChain(t)
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" // RFC 9113 clause 3.4
	drip := "GET / HTTP/1.1\r\nX-Slow: " + strings.Repeat("a", 1<<16)
	var wg sync.WaitGroup
	for server, at := range map[string]string{"control": c.rpcAddr, "REST": c.apiAddr} {
		for what, text := range map[string]string{"nothing": "", "half a request": drip, "half a preface": preface[:10], "a preface and no more": preface} {
			wg.Go(func() {
				conn, err := net.Dial("tcp", at)
				if err != nil {
					t.Errorf("%s, %s: %v", server, what, err)
					return
				}
				defer conn.Close()
				over := make(chan struct{})
				var writer sync.WaitGroup
				defer writer.Wait()
				writer.Go(func() {
					tick := time.NewTicker(20 * time.Millisecond)
					defer tick.Stop()
					for i := range len(text) {
						select {
						case <-tick.C:
						case <-over:
							return
						}
						if _, err := conn.Write([]byte{text[i]}); err != nil {
							return
						}
					}
				})
				conn.SetReadDeadline(time.Now().Add(patience))
				_, err = io.Copy(io.Discard, conn)
				close(over)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s, %s: held for longer than %s", server, what, patience)
				}
			})
		}
	}
	m := c.create()
	c.connect(m) // beside them
	wg.Wait()
	c.connect(m)
}
