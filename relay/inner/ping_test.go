package inner

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

func TestPingRefusesWhatIsNotAllowed(t *testing.T) {
	r := &Relay{}
	device := netip.MustParseAddr("198.18.0.1")
	for name, q := range map[string]PingRequest{
		"none":        {Device: device, Count: 0, Timeout: time.Second},
		"too many":    {Device: device, Count: 6, Timeout: time.Second},
		"no time":     {Device: device, Count: 1},
		"too long":    {Device: device, Count: 1, Timeout: 4 * time.Second},
		"no device":   {Count: 1, Timeout: time.Second},
		"a multicast": {Device: netip.MustParseAddr("224.0.0.1"), Count: 1, Timeout: time.Second},
	} {
		if _, err := r.Ping(t.Context(), q); !errors.Is(err, errPing) {
			t.Errorf("%s: %v; want a refusal", name, err)
		}
	}
	if _, err := r.Ping(t.Context(), PingRequest{Device: device, Count: 1, Timeout: time.Second}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("without Deps.Ping: %v; want ErrUnsupported", err)
	}
}

func FuzzEchoReply(f *testing.F) {
	nonce := []byte("0123456789abcdef")
	reply, err := (&icmp.Message{Type: ipv4.ICMPTypeEchoReply, Body: &icmp.Echo{ID: 1, Seq: 2, Data: nonce}}).Marshal(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(reply, false)
	f.Add(reply[:7], false)
	f.Add([]byte{129, 0, 0, 0}, true)
	if !isEchoReply(reply, false, 2, nonce) || isEchoReply(reply, false, 3, nonce) {
		f.Fatal("the reply is not recognised, or that to another request is")
	}
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		if isEchoReply(b, v6, 2, nonce) && len(b) < 8+len(nonce) {
			t.Errorf("%x is too short for a reply", b)
		}
	})
}
