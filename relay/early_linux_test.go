package relay

import (
	"io"
	"net/netip"
	"testing"
)

// What the client sent early follows the head, is left unread by ReadRequest, and
// counts as relayed.
func TestEarlyBytesFollowTheHead(t *testing.T) {
	near, far := tcpPair(t)
	client, fromClient := tcpPair(t)
	if b := Arrived(fromClient, 100); b != nil {
		t.Errorf("before anything was sent %q has arrived", b)
	}
	send(t, client, "hello")
	w, err := newWaiter(fromClient)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.readable(); err != nil { // leaves them there
		t.Fatal(err)
	}
	early := Arrived(fromClient, 4)
	if string(early) != "hell" {
		t.Fatalf("%q has arrived; want as much as asked for", early)
	}
	connected := make(chan error, 1)
	go func() {
		connected <- Connect(t.Context(), near, Request{Target: netip.MustParseAddrPort("10.0.0.1:22"), Ticket: "a.b.c", Early: early})
	}()
	if r, err := ReadRequest(t.Context(), far); err != nil || r.Early != nil || r.Ticket != "a.b.c" {
		t.Errorf("request %+v, %v", r, err)
	}
	if err := Accept(t.Context(), far); err != nil {
		t.Fatal(err)
	}
	if err := <-connected; err != nil {
		t.Fatal(err)
	}
	r, err := NewRelayer(Config{})
	if err != nil {
		t.Fatal(err)
	}
	runRelayer(t, r)
	var total Counters
	ended := make(chan Result, 1)
	r.StartAfter(fromClient, near, len(early), &total, func(res Result) { ended <- res })
	client.CloseWrite()
	if got, err := io.ReadAll(far); err != nil || string(got) != "hello" {
		t.Errorf("the device got %q, %v; want all in order", got, err)
	}
	far.Close()
	if res := <-ended; res.AToB != 5 || total.AToB.Load() != 5 {
		t.Errorf("%+v, in all %d; want 5 bytes", res, total.AToB.Load())
	}
}
