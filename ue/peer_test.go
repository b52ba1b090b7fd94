package ue

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/tun"
	"github.com/simreach/simreach/internal/wire/nas"
)

// The test network: gNBs and an AMF in one, driven by the test. It lives in a
// synctest bubble with the UE.

var (
	testPLMN = ident.PLMN{MCC: "001", MNC: "01"}
	testK    = Key{0x46, 0x5b, 0x5c, 0xe8, 0xb1, 0x99, 0xb4, 0x9f, 0xaa, 0x5f, 0x0a, 0x2e, 0xe2, 0x38, 0xa6, 0xbc}
	testOPc  = Key{0xcd, 0x63, 0xcb, 0x71, 0x95, 0x4a, 0x9f, 0x4e, 0x48, 0xa5, 0x99, 0x4e, 0x37, 0xa0, 0x2b, 0xaf}
	testABBA = []byte{0, 0}
	testGUTI = ident.GUTI{GUAMI: ident.GUAMI{PLMN: testPLMN, Region: 1, Set: 2, Pointer: 3}, TMSI: 0xc0ffee}
)

const testSUPI = ident.SUPI("imsi-001010000000001")

func testConfig() Config {
	return Config{
		SUPI: testSUPI, K: testK, OPc: testOPc, PEI: "imeisv-1234567890123456",
		RequestedNSSAI: []ident.SNSSAI{{SST: 1}}, GNBs: []string{"a", "b"},
	}
}

type testNet struct {
	t     *testing.T
	u     *UE
	host  *testHost
	conns chan *testConn
	milen *aka.Milenage
	sqn   uint64
	after func() // runs when the UE has stopped

	mu   sync.Mutex
	gnbs map[string]*testGNB
}

type testGNB struct {
	n    *testNet
	name string
	tai  ident.TAI
	down bool
}

func (g *testGNB) Cell(context.Context) (Cell, error) {
	g.n.mu.Lock()
	defer g.n.mu.Unlock()
	if g.down {
		return Cell{}, errors.New("silent")
	}
	return Cell{Name: g.name, Location: ident.Location{TAI: g.tai}}, nil
}

func (g *testGNB) Connect(_ context.Context, req ConnectRequest) (Radio, error) {
	g.n.mu.Lock()
	down := g.down
	g.n.mu.Unlock()
	if down {
		return nil, errors.New("refused")
	}
	c := &testConn{n: g.n, gnb: g.name, req: req, up: make(chan []byte, 64), events: make(chan RadioEvent, 64), packets: make(chan string, 64)}
	c.up <- req.NAS
	g.n.conns <- c
	return c, nil
}

func (n *testNet) setDown(gnb string, down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gnbs[gnb].down = down
}

// testConn is one RRC connection and the AMF behind it.
type testConn struct {
	n      *testNet
	gnb    string
	req    ConnectRequest
	up     chan []byte
	events chan RadioEvent
	sec    *nas.SecurityContext
	recv   func(ident.PDUSessionID, [][]byte)

	mu      sync.Mutex
	closed  bool // by the UE
	gone    bool // by us
	packets chan string
}

func (c *testConn) SendNAS(_ context.Context, b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.gone {
		return ErrRadioLinkFailure
	}
	c.up <- b
	return nil
}
func (c *testConn) Events() <-chan RadioEvent { return c.events }
func (c *testConn) SendPackets(id ident.PDUSessionID, qfi ident.QFI, packets [][]byte) {
	for _, p := range packets {
		c.packets <- fmt.Sprintf("%d/%d %s", id, qfi, p)
	}
}
func (c *testConn) SetReceiver(f func(ident.PDUSessionID, [][]byte)) { c.recv = f }
func (c *testConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

func (c *testConn) isClosed() bool {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// release ends the connection from the network's side.
func (c *testConn) release(err error) {
	c.mu.Lock()
	c.gone = true
	c.mu.Unlock()
	c.events <- Released{Err: err}
	close(c.events)
	synctest.Wait()
}

// testHost opens channel devices.
type testHost struct {
	mu   sync.Mutex
	devs map[ident.PDUSessionID]*testDevice
	fail error
}

func (h *testHost) Up(_ context.Context, info SessionInfo) (tun.Device, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail != nil {
		return nil, h.fail
	}
	d := &testDevice{in: make(chan []byte, 16), out: make(chan string, 16), done: make(chan struct{}), mtu: info.MTU}
	h.devs[info.ID] = d
	return d, nil
}

func (h *testHost) dev(id ident.PDUSessionID) *testDevice {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.devs[id]
}

type testDevice struct {
	in   chan []byte
	out  chan string
	done chan struct{}
	once sync.Once
	mtu  int
}

func (d *testDevice) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	select {
	case p := <-d.in:
		sizes[0] = copy(bufs[0][offset:], p)
		return 1, nil
	case <-d.done:
		return 0, os.ErrClosed
	}
}
func (d *testDevice) Write(bufs [][]byte, offset int) (int, error) {
	for _, b := range bufs {
		d.out <- string(b[offset:])
	}
	return len(bufs), nil
}
func (d *testDevice) MTU() int       { return d.mtu }
func (d *testDevice) Name() string   { return "test" }
func (d *testDevice) BatchSize() int { return 8 }
func (d *testDevice) Close() error   { d.once.Do(func() { close(d.done) }); return nil }
func (d *testDevice) closed() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// bubble runs f with a running UE; the UE stops when f returns.
func bubble(t *testing.T, cfg Config, f func(t *testing.T, n *testNet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := &testNet{
			t: t, conns: make(chan *testConn, 16), host: &testHost{devs: map[ident.PDUSessionID]*testDevice{}},
			milen: aka.NewMilenage([16]byte(testK), [16]byte(testOPc)), sqn: 1 << 5, gnbs: map[string]*testGNB{},
		}
		for i, name := range []string{"a", "b", "far"} {
			tac := ident.TAC(1)
			if name == "far" {
				tac = 2
			}
			_ = i
			n.gnbs[name] = &testGNB{n: n, name: name, tai: ident.TAI{PLMN: testPLMN, TAC: tac}}
		}
		u, err := New(cfg, Deps{Host: n.host, Air: func(g string) (Air, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			if a := n.gnbs[g]; a != nil {
				return a, nil
			}
			return nil, errors.New("no such gNB")
		}})
		if err != nil {
			t.Fatal(err)
		}
		n.u = u
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- u.Run(ctx) }()
		<-u.Ready()
		f(t, n)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if n.after != nil {
			n.after()
		}
	})
}

// start runs a command and returns its result channel.
func start(f func() error) <-chan error {
	c := make(chan error, 1)
	go func() { c <- f() }()
	return c
}

func (n *testNet) register(gnb string) <-chan error {
	return start(func() error { return n.u.Register(n.t.Context(), gnb) })
}

// result waits for a command.
func (n *testNet) result(why string, c <-chan error) error {
	n.t.Helper()
	select {
	case err := <-c:
		return err
	case <-time.After(time.Hour):
		n.t.Fatalf("%s: command does not return", why)
		return nil
	}
}

// wantConn waits for an RRC connection.
func (n *testNet) wantConn(why string) *testConn {
	n.t.Helper()
	select {
	case c := <-n.conns:
		return c
	case <-time.After(time.Hour):
		n.t.Fatalf("%s: no connection", why)
		return nil
	}
}

// wantNoConn says that none comes within d.
func (n *testNet) wantNoConn(why string, d time.Duration) {
	n.t.Helper()
	select {
	case <-n.conns:
		n.t.Fatalf("%s: unexpected connection", why)
	case <-time.After(d):
	}
}

// wantUplink waits up to an hour of fake time for a NAS message of type M.
func wantUplink[M nas.Message](c *testConn, why string) M {
	c.n.t.Helper()
	var zero M
	select {
	case pdu := <-c.up:
		m, ok := c.decode(pdu).(M)
		if !ok {
			c.n.t.Fatalf("%s: got %T, want %T", why, c.decodeAgain(pdu), zero)
		}
		return m
	case <-time.After(time.Hour):
		c.n.t.Fatalf("%s: no %T", why, zero)
	}
	return zero
}

func (c *testConn) decodeAgain(pdu []byte) nas.Message {
	p := pdu
	if h, _ := nas.PeekSecurityHeader(pdu); h != nas.HeaderPlain {
		p, _ = nas.PeekPlain(pdu)
	}
	m, _ := nas.Decode(p)
	return m
}

// wantSilence says that the UE sends nothing within d.
func (c *testConn) wantSilence(why string, d time.Duration) {
	c.n.t.Helper()
	select {
	case pdu := <-c.up:
		c.n.t.Fatalf("%s: unexpected uplink message %x", why, pdu)
	case <-time.After(d):
	}
}

func (c *testConn) decode(pdu []byte) nas.Message {
	c.n.t.Helper()
	h, err := nas.PeekSecurityHeader(pdu)
	if err != nil {
		c.n.t.Fatalf("uplink header: %v", err)
	}
	plain := pdu
	if h != nas.HeaderPlain {
		if c.sec == nil {
			if plain, err = nas.PeekPlain(pdu); err != nil {
				c.n.t.Fatalf("uplink is protected, the network has no context: %v", err)
			}
		} else if plain, _, err = c.sec.Unprotect(pdu); err != nil {
			c.n.t.Fatalf("uplink protection: %v", err)
		}
	}
	m, err := nas.Decode(plain)
	if err != nil {
		c.n.t.Fatalf("uplink message: %v", err)
	}
	return m
}

// plain sends an unprotected downlink message.
func (c *testConn) plain(m nas.Message) {
	c.n.t.Helper()
	b, err := nas.Encode(m)
	if err != nil {
		c.n.t.Fatal(err)
	}
	c.events <- DownlinkNAS{b}
	synctest.Wait()
}

// send sends a protected downlink message.
func (c *testConn) send(m nas.Message) {
	c.n.t.Helper()
	c.protected(m, nas.HeaderIntegrityCiphered)
}

func (c *testConn) protected(m nas.Message, h nas.SecurityHeader) {
	c.n.t.Helper()
	b, err := nas.Encode(m)
	if err == nil {
		b, err = c.sec.Protect(b, h)
	}
	if err != nil {
		c.n.t.Fatal(err)
	}
	c.events <- DownlinkNAS{b}
	synctest.Wait()
}

// sm sends a 5GSM message.
func (c *testConn) sm(m nas.Message, id ident.PDUSessionID) {
	c.n.t.Helper()
	b, err := nas.Encode(m)
	if err != nil {
		c.n.t.Fatal(err)
	}
	c.send(&nas.DLNASTransport{PayloadType: nas.PayloadN1SM, Payload: b, PDUSessionID: id})
}

// wantSM waits for a 5GSM message.
func wantSM[M nas.Message](c *testConn, why string) (M, *nas.ULNASTransport) {
	c.n.t.Helper()
	tr := wantUplink[*nas.ULNASTransport](c, why)
	m, err := nas.Decode(tr.Payload)
	if err != nil {
		c.n.t.Fatalf("%s: %v", why, err)
	}
	v, ok := m.(M)
	if !ok {
		c.n.t.Fatalf("%s: got %T, want %T", why, m, v)
	}
	return v, tr
}

// challenge makes an authentication request with the network's next SQN and returns
// it with KAMF and the RES* expected.
func (n *testNet) challenge(ksi nas.NGKSI) (*nas.AuthenticationRequest, [32]byte, [16]byte) {
	n.sqn += 1 << 5
	return n.challengeWith(ksi, n.sqn, [2]byte{0x80, 0})
}

func (n *testNet) challengeWith(ksi nas.NGKSI, sqn uint64, amf [2]byte) (*nas.AuthenticationRequest, [32]byte, [16]byte) {
	rand := [16]byte{byte(sqn), byte(sqn >> 8), 7}
	res, ck, ik, ak := n.milen.F2345(rand)
	x := aka.XorSQN(sqn, ak)
	snn := testPLMN.ServingNetworkName()
	kamf := aka.KAMF(aka.KSEAF(aka.KAUSF(ck, ik, snn, x), snn), testSUPI, testABBA)
	return &nas.AuthenticationRequest{
		NGKSI: ksi, ABBA: testABBA, RAND: rand, AUTN: aka.BuildAUTN(x, amf, n.milen.F1(rand, sqn, amf)),
	}, kamf, aka.RESStar(ck, ik, snn, rand, res[:])
}

// authenticate runs 5G AKA to its good end and returns KAMF.
func (c *testConn) authenticate(ksi nas.NGKSI) [32]byte {
	c.n.t.Helper()
	req, kamf, want := c.n.challenge(ksi)
	c.plain(req)
	r := wantUplink[*nas.AuthenticationResponse](c, "a right challenge is answered")
	if [16]byte(r.RESStar) != want {
		c.n.t.Fatalf("RES* %x, want %x", r.RESStar, want)
	}
	return kamf
}

// secure runs the security mode procedure and returns the complete message.
func (c *testConn) secure(kamf [32]byte, ksi nas.NGKSI, nea, nia uint8) *nas.SecurityModeComplete {
	c.n.t.Helper()
	enc, integ := aka.NASKeys(kamf, nea, nia)
	c.sec = nas.NewSecurityContext(ksi, nea, nia, enc, integ, true)
	c.protected(&nas.SecurityModeCommand{
		Ciphering: nea, Integrity: nia, NGKSI: ksi, Replayed: nas.SecurityCapability{EA: 0xf, IA: 0xe},
		IMEISVRequested: true,
	}, nas.HeaderIntegrityNew)
	return wantUplink[*nas.SecurityModeComplete](c, "an acceptable command is completed")
}

func testAccept() *nas.RegistrationAccept {
	g := testGUTI
	return &nas.RegistrationAccept{
		GUTI: &g, TAIList: []ident.TAI{{PLMN: testPLMN, TAC: 1}}, AllowedNSSAI: []ident.SNSSAI{{SST: 1}},
		T3512: 30 * time.Minute,
	}
}

// registered registers the UE at gNB "a" and returns the connection.
func (n *testNet) registered() *testConn {
	n.t.Helper()
	done := n.register("")
	c := n.wantConn("registration needs a connection")
	c.admit()
	if err := n.result("register", done); err != nil {
		n.t.Fatal(err)
	}
	return c
}

// admit answers a registration request, that is still to be read, up to the end.
func (c *testConn) admit() *nas.RegistrationRequest {
	c.n.t.Helper()
	req := wantUplink[*nas.RegistrationRequest](c, "the first message is a registration request")
	kamf := c.authenticate(1)
	c.secure(kamf, 1, 2, 2)
	c.send(testAccept())
	wantUplink[*nas.RegistrationComplete](c, "an accept with GUTI is acknowledged")
	return req
}

func acceptSession(req *nas.PDUSessionEstablishmentRequest) *nas.PDUSessionEstablishmentAccept {
	return &nas.PDUSessionEstablishmentAccept{
		SMHeader: req.SMHeader, SessionType: ident.IPv4, SSCMode: 1,
		Rules:   []nas.QoSRule{{ID: 1, Default: true, Precedence: 255, QFI: 5}},
		AMBR:    ident.AMBR{Uplink: 1e9, Downlink: 1e9},
		Address: ident.UEAddress{V4: netip.MustParseAddr("10.45.0.2")},
		DNN:     "internet", Flows: []nas.QoSFlow{{QFI: 5, FiveQI: 9}},
	}
}

// established establishes PDU session 1 with a bearer.
func (c *testConn) established() {
	c.n.t.Helper()
	done := start(func() error {
		_, err := c.n.u.EstablishSession(c.n.t.Context(), SessionConfig{ID: 1, DNN: "internet"})
		return err
	})
	c.acceptNext()
	if err := c.n.result("establish", done); err != nil {
		c.n.t.Fatal(err)
	}
}

func (c *testConn) acceptNext() {
	c.n.t.Helper()
	req, _ := wantSM[*nas.PDUSessionEstablishmentRequest](c, "the session is requested")
	c.events <- BearerUp{Session: req.PDUSessionID, QFIs: []ident.QFI{5}}
	c.sm(acceptSession(req), req.PDUSessionID)
}
