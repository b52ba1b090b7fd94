package upf

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/simreach/simreach/internal/dgram"
)

// brokenN4 is a connection that fails to send.
type brokenN4 struct {
	dgram.Conn
	err error
}

func (c brokenN4) WriteBatch([]dgram.Datagram) (int, error) { return 0, c.err }

// A failure to send is counted and told once, but for one that only says that the UPF stops.
func TestSendFails(t *testing.T) {
	for err, want := range map[error]uint64{net.ErrClosed: 0, errors.New("no route"): 2} {
		var log bytes.Buffer
		u := &UPF{n4: brokenN4{err: err}, log: slog.New(slog.NewTextHandler(&log, nil)), warned: map[string]bool{}}
		for range 2 {
			u.write(netip.MustParseAddrPort("198.18.4.2:8805"), []byte{1})
		}
		if n := bytes.Count(log.Bytes(), []byte("send N4")); uint64(u.count.SendFailed) != want || (n == 1) != (want > 0) || u.count.Sent != 0 {
			t.Errorf("%v: %d failures and %d sent counted; logged: %s", err, u.count.SendFailed, u.count.Sent, &log)
		}
	}
}
