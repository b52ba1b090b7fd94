package inproc

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/dgram"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/scenarios/scenariotest"
	"github.com/simreach/simreach/scenarios/spec"
)

// stranger is the host number of the tests' own peer on each network: nobody else
// has it.
const stranger = 200

// patience bounds the wait for an answer that must come.
const patience = 5 * time.Second

// world is a running core with a registered UE, the witness, that a client reaches
// through the relays. Whatever a peer sends, it must go on answering.
type world struct {
	*topology
	imsi   ident.IMSI
	client lab.Client
	access lab.Access
}

const worldYAML = `
name: robustness
upfs: [{name: upf1, pools: [{cidr: 10.45.0.0/16}]}]
inner_relays: [{name: inner1, upfs: [upf1]}]
outer_relays: [{name: outer1}]
gnbs: [{name: gnb1}]
ues:
  - {name: witness, imsi: "001010000000001", services: [{kind: http, port: 80}]}
  - {name: absent, imsi: "001010000000002"}
clients: [{name: client1}]
steps:
  - register: {ue: witness}
`

func newWorld(t *testing.T) *world {
	t.Helper()
	s, err := spec.Parse("robustness.yaml", []byte(worldYAML))
	if err != nil {
		t.Fatal(err)
	}
	l, err := New().Start(t.Context(), s, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	w := &world{imsi: s.Devices[0].IMSI}
	w.topology, _ = l.(*topology)
	w.client, _ = l.Client("client1")
	u, _ := l.UE("witness")
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	if err := u.Register(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Manager().AwaitDirectory(ctx, w.imsi, true); err != nil {
		t.Fatal(err)
	}
	if w.access, err = l.Manager().Create(ctx, w.client, lab.AccessRequest{IMSI: w.imsi, Port: 80}); err != nil {
		t.Fatal(err)
	}
	w.alive(t)
	return w
}

// alive has the witness answer an HTTP request through the relays, and checks that
// it is registered where it was.
func (w *world) alive(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return w.client.Dial(ctx, w.access.Relay)
	}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.access.Relay.String()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatalf("the witness does not answer any more: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), string(w.imsi)) {
		t.Fatalf("the witness answers %s %q, %v", resp.Status, body, err)
	}
	st := w.parts.ues["witness"].UE.Status()
	if !st.Registered() || !st.Connected || st.GNB != "gnb1" {
		t.Errorf("the witness is in %s, connected %v, on %q", st.State, st.Connected, st.GNB)
	}
}

// counted waits until a counter has grown by grows at least, and by something. A
// counter may follow the answer by a moment.
func counted(t *testing.T, name string, before uint64, now func() uint64, grows uint64) {
	t.Helper()
	scenariotest.Settle(t, func() []string {
		n := now() - before
		if n >= max(grows, 1) {
			return nil
		}
		return []string{fmt.Sprintf("%s: the counter grew by %d", name, n)}
	})
}

// strangerOn is the address of the tests' peer on a network that node is on.
func (w *world) strangerOn(node, network string) netip.Addr {
	a := plan.On(w.spec, node, network).As4()
	a[3] = stranger
	return netip.AddrFrom4(a)
}

// udpPeer is a datagram socket of the tests' own.
type udpPeer struct {
	dgram.Conn
	got chan []byte // everything received, until Close
}

func newUDPPeer(t *testing.T, c dgram.Conn) *udpPeer {
	p := &udpPeer{Conn: c, got: make(chan []byte, 256)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ds := []dgram.Datagram{{Buf: make([]byte, 65535)}}
		for {
			if _, err := c.ReadBatch(ds); err != nil {
				return
			}
			p.got <- append([]byte(nil), ds[0].Buf[:ds[0].N]...)
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-done
	})
	return p
}

func (p *udpPeer) send(t *testing.T, to netip.AddrPort, b []byte) {
	t.Helper()
	if _, err := p.WriteBatch([]dgram.Datagram{{Buf: b, N: len(b), Addr: to}}); err != nil {
		t.Fatal(err)
	}
}

// next returns the next datagram.
func (p *udpPeer) next(t *testing.T) []byte {
	t.Helper()
	select {
	case b := <-p.got:
		return b
	case <-time.After(patience):
		t.Fatal("no answer")
		return nil
	}
}
