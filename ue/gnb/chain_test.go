package gnb

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/sctp"
	"github.com/simreach/simreach/internal/tun"
	"github.com/simreach/simreach/internal/tun/tuntest"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/ue"
)

// miniAMF registers every UE and gives each a session: just enough core for the
// UE, the gNB and the wire formats between them to meet.
type miniAMF struct {
	t    *testing.T
	conn sctp.Conn
	mil  *aka.Milenage
	ues  map[uint32]*miniUE

	mu    sync.Mutex
	teids map[ident.SUPI]ident.TEID // the gNB's, by UE
}

type miniUE struct {
	ids  ngap.UEIDs
	supi ident.SUPI
	kamf [32]byte
	sec  *nas.SecurityContext
}

func (a *miniAMF) run(ctx context.Context) {
	for {
		m, err := a.conn.Recv(ctx)
		if err != nil {
			return
		}
		msg, err := ngap.Decode(m.Data)
		if err != nil {
			a.t.Errorf("AMF: %v", err)
			return
		}
		switch msg := msg.(type) {
		case *ngap.NGSetupRequest:
			a.send(ctx, &ngap.NGSetupResponse{AMFName: "mini", GUAMIs: []ident.GUAMI{{PLMN: testPLMN}},
				PLMNs: []ngap.BroadcastPLMN{{PLMN: testPLMN, Slices: []ident.SNSSAI{{SST: 1}}}}})
		case *ngap.InitialUEMessage:
			u := &miniUE{ids: ngap.UEIDs{AMF: int64(msg.RAN) + 1000, RAN: msg.RAN}}
			a.ues[msg.RAN] = u
			a.nas(ctx, u, msg.NAS)
		case *ngap.UplinkNASTransport:
			a.nas(ctx, a.ues[msg.IDs.RAN], msg.NAS)
		case *ngap.InitialContextSetupResponse:
			if len(msg.Sessions) != 1 {
				a.t.Errorf("AMF: context %+v", msg)
				return
			}
			tr, err := ngap.DecodeSetupResponseTransfer(msg.Sessions[0].Transfer)
			if err != nil {
				a.t.Errorf("AMF: %v", err)
				return
			}
			a.mu.Lock()
			a.teids[a.ues[msg.IDs.RAN].supi] = tr.Downlink.TEID
			a.mu.Unlock()
		case *ngap.UEContextReleaseRequest:
			a.send(ctx, &ngap.UEContextReleaseCommand{IDs: msg.IDs, HasRAN: true, Cause: msg.Cause})
		}
	}
}

func (a *miniAMF) send(ctx context.Context, m ngap.Message) {
	b, err := ngap.Encode(m)
	if err == nil {
		err = a.conn.Send(ctx, sctp.Message{PPID: sctp.PPIDNGAP, Data: b})
	}
	if err != nil && ctx.Err() == nil {
		a.t.Errorf("AMF: %T: %v", m, err)
	}
}

func (a *miniAMF) down(u *miniUE, m nas.Message, h nas.SecurityHeader) []byte {
	b, err := nas.Encode(m)
	if err == nil && h != nas.HeaderPlain {
		b, err = u.sec.Protect(b, h)
	}
	if err != nil {
		a.t.Errorf("AMF: %T: %v", m, err)
	}
	return b
}

func (a *miniAMF) nas(ctx context.Context, u *miniUE, pdu []byte) {
	plain, err := pdu, error(nil)
	if u.sec != nil {
		plain, _, err = u.sec.Unprotect(pdu)
	}
	var msg nas.Message
	if err == nil {
		msg, err = nas.Decode(plain)
	}
	if err != nil {
		a.t.Errorf("AMF: uplink NAS: %v", err)
		return
	}
	var answer []byte
	switch m := msg.(type) {
	case *nas.RegistrationRequest:
		msin, err := aka.MSINFromBCD(m.Identity.SUCI.SchemeOutput)
		if err != nil {
			a.t.Errorf("AMF: %v", err)
		}
		u.supi = ident.SUPI("imsi-00101" + msin)
		rnd := [16]byte{byte(u.ids.RAN)}
		sqn, amf := uint64(1<<5), [2]byte{0x80, 0}
		_, ck, ik, ak := a.mil.F2345(rnd)
		x := aka.XorSQN(sqn, ak)
		snn := testPLMN.ServingNetworkName()
		u.kamf = aka.KAMF(aka.KSEAF(aka.KAUSF(ck, ik, snn, x), snn), u.supi, []byte{0, 0})
		answer = a.down(u, &nas.AuthenticationRequest{NGKSI: 1, ABBA: []byte{0, 0}, RAND: rnd,
			AUTN: aka.BuildAUTN(x, amf, a.mil.F1(rnd, sqn, amf))}, nas.HeaderPlain)
	case *nas.AuthenticationResponse:
		enc, integ := aka.NASKeys(u.kamf, 2, 2)
		u.sec = nas.NewSecurityContext(1, 2, 2, enc, integ, true)
		answer = a.down(u, &nas.SecurityModeCommand{Ciphering: 2, Integrity: 2, NGKSI: 1,
			Replayed: nas.SecurityCapability{EA: 0xf, IA: 0xe}}, nas.HeaderIntegrityNew)
	case *nas.SecurityModeComplete:
		g := ident.GUTI{GUAMI: ident.GUAMI{PLMN: testPLMN}, TMSI: u.ids.RAN}
		answer = a.down(u, &nas.RegistrationAccept{GUTI: &g, TAIList: []ident.TAI{{PLMN: testPLMN, TAC: 7}},
			AllowedNSSAI: []ident.SNSSAI{{SST: 1}}}, nas.HeaderIntegrityCiphered)
	case *nas.ULNASTransport:
		req, err := nas.Decode(m.Payload)
		if err != nil {
			a.t.Errorf("AMF: %v", err)
			return
		}
		r := req.(*nas.PDUSessionEstablishmentRequest)
		n1, err := nas.Encode(&nas.PDUSessionEstablishmentAccept{
			SMHeader: r.SMHeader, SessionType: ident.IPv4, SSCMode: 1,
			Rules: []nas.QoSRule{{ID: 1, Default: true, Precedence: 255, QFI: 5}}, AMBR: ident.AMBR{Uplink: 1e9, Downlink: 1e9},
			Address: ident.UEAddress{V4: netip.AddrFrom4([4]byte{10, 45, 0, byte(u.ids.RAN)})},
			DNN:     "internet", Flows: []nas.QoSFlow{{QFI: 5, FiveQI: 9}},
		})
		if err != nil {
			a.t.Errorf("AMF: %v", err)
			return
		}
		tr, err := ngap.EncodeTransfer(&ngap.SetupRequestTransfer{
			AMBR:   &ident.AMBR{Uplink: 1e9, Downlink: 1e9},
			Uplink: ident.FTEID{Addr: upfAddr.Addr(), TEID: ident.TEID(u.ids.RAN)}, Type: ident.IPv4,
			Flows: []ngap.QoSFlow{{QFI: 5, FiveQI: 9, ARPPriority: 8}},
		})
		if err != nil {
			a.t.Errorf("AMF: %v", err)
			return
		}
		a.send(ctx, &ngap.InitialContextSetupRequest{
			IDs: u.ids, GUAMI: ident.GUAMI{PLMN: testPLMN}, AllowedNSSAI: []ident.SNSSAI{{SST: 1}},
			AMBR: &ident.AMBR{Uplink: 1e9, Downlink: 1e9}, EA: 0xe, IA: 0xe, SecurityKey: aka.KGNB(u.kamf, u.sec.UplinkCount()),
			Sessions: []ngap.SessionSetup{{ID: r.PDUSessionID, SNSSAI: ident.SNSSAI{SST: 1}, Transfer: tr,
				NAS: a.down(u, &nas.DLNASTransport{PayloadType: nas.PayloadN1SM, Payload: n1, PDUSessionID: r.PDUSessionID},
					nas.HeaderIntegrityCiphered)}},
		})
	}
	if answer != nil {
		a.send(ctx, &ngap.DownlinkNASTransport{IDs: u.ids, NAS: answer})
	}
}

// pairs opens channel devices and keeps their far ends.
type pairs struct {
	mu  sync.Mutex
	far map[ident.SUPI]tun.Device
}

func (p *pairs) Up(_ context.Context, s ue.SessionInfo) (tun.Device, error) {
	a, b := tuntest.NewPair(s.MTU)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.far[s.SUPI] = b
	return a, nil
}

func read1(t *testing.T, d tun.Device) string {
	t.Helper()
	got := make(chan string, 1)
	go func() {
		b := [][]byte{make([]byte, 2000)}
		sizes := make([]int, 1)
		if _, err := d.Read(b, sizes, 0); err == nil {
			got <- string(b[0][:sizes[0]])
		}
	}()
	select {
	case s := <-got:
		return s
	case <-time.After(time.Hour):
		t.Fatal("nothing arrives")
		return ""
	}
}

// Two real UEs register through one gNB, get sessions, and packets flow between
// their interfaces and the UPF without mixing.
func TestTwoUEsEndToEnd(t *testing.T) {
	bubble(t, testConfig(), func(t *testing.T, n *testNet) {
		ctx, cancel := context.WithCancel(t.Context())
		k, opc := ue.Key{1}, ue.Key{2}
		amf := &miniAMF{t: t, mil: aka.NewMilenage(k, opc), ues: map[uint32]*miniUE{}, teids: map[ident.SUPI]ident.TEID{}}
		n.accept("association")
		amf.conn = n.n2
		host := &pairs{far: map[ident.SUPI]tun.Device{}}
		var gc ue.GroupConfig
		for i := range 2 {
			gc.UEs = append(gc.UEs, ue.Config{
				SUPI: ident.SUPI(fmt.Sprintf("imsi-00101000000000%d", i+1)), K: k, OPc: opc, GNBs: []string{"gnb1"},
				Sessions: []ue.SessionConfig{{ID: 1, DNN: "internet"}}, Autostart: true,
			})
		}
		group, err := ue.NewGroup(gc, ue.Deps{Host: host, Air: func(string) (ue.Air, error) { return n.g, nil }})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { amf.run(ctx) })
		groupCtx, stopGroup := context.WithCancel(ctx)
		wg.Go(func() {
			if err := group.Run(groupCtx); err != nil {
				t.Errorf("group: %v", err)
			}
		})
		for _, u := range group.UEs() {
			if err := u.Wait(ctx, func(s ue.Status) bool {
				v, _ := s.Session(1)
				return v.State == ue.SMActive && v.Bearer
			}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		for i, u := range group.UEs() {
			far := host.far[u.SUPI()]
			text := fmt.Sprintf("from %d", i)
			if _, err := far.Write([][]byte{[]byte(text)}, 0); err != nil {
				t.Fatal(err)
			}
			h, p := n.wantGTP("uplink")
			s, _ := u.Status().Session(1)
			if string(p) != text || byte(h.TEID) != s.Info.Address.V4.As4()[3] || !h.Uplink || h.QFI != 5 {
				t.Errorf("UE %d: %+v %q", i, h, p)
			}
			text = fmt.Sprintf("to %d", i)
			amf.mu.Lock()
			b := gpdu(amf.teids[u.SUPI()], text)
			amf.mu.Unlock()
			n.gtp(b)
			if got := read1(t, far); got != text {
				t.Errorf("UE %d got %q", i, got)
			}
		}
		if s := n.g.Status(); s.UEs != 2 || s.Sessions != 2 || s.Counters.Malformed+s.Counters.WrongState != 0 {
			t.Errorf("status %+v", s)
		}
		// The UEs go; what they held in the gNB goes with them.
		stopGroup()
		if err := n.g.Wait(ctx, func(s Status) bool { return s.UEs == 0 }); err != nil {
			t.Error(err)
		}
		cancel()
		wg.Wait()
	})
}
