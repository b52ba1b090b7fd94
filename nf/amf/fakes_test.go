package amf

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/nf/sbi"
)

// subscriber is a USIM and its twin in the fake AUSF.
type subscriber struct {
	supi ident.SUPI
	m    *aka.Milenage
}

func newSubscriber(imsi ident.IMSI) *subscriber {
	var k, opc [16]byte
	copy(k[:], imsi)
	copy(opc[:], "operator"+imsi[7:])
	return &subscriber{supi: imsi.SUPI(), m: aka.NewMilenage(k, opc)}
}

// suci is the null-scheme SUCI.
func (s *subscriber) suci() *nas.SUCI {
	msin, err := aka.MSINToBCD(string(s.supi.IMSI()[5:]))
	if err != nil {
		panic(err)
	}
	return &nas.SUCI{PLMN: ident.PLMN{MCC: "001", MNC: "01"}, RoutingIndicator: "0", SchemeOutput: msin}
}

// keys returns RES* and K_SEAF for a challenge.
func (s *subscriber) keys(snn string, rnd, autn [16]byte) (resStar [16]byte, kseaf [32]byte) {
	res, ck, ik, _ := s.m.F2345(rnd)
	sqn, _, _ := aka.SplitAUTN(autn)
	return aka.RESStar(ck, ik, snn, rnd, res[:]), aka.KSEAF(aka.KAUSF(ck, ik, snn, sqn), snn)
}

// core is the fake AUSF, UDM and SMF. Each hook, if set, replaces an answer; a
// hook may block, as a slow network function does.
type core struct {
	mu          sync.Mutex
	subscribers map[string]*subscriber // by SUPI and by SUCI
	sqn         uint64
	contexts    map[string]sbi.Confirmation
	expected    map[string][16]byte
	data        sbi.AccessMobilityData
	log         []string // calls in order, one line each
	created     []sbi.CreateSMContext
	updates     []sbi.UpdateSMContext
	requests    []sbi.AuthenticationRequest
	refs        int

	onAuthenticate func(sbi.AuthenticationRequest) error
	onConfirm      func() error
	onEquipment    func(ident.PEI) (sbi.EquipmentStatus, error) // nil: there is no EIR
	onRegisterAMF  func() error
	onDeregister   func(context.Context) error
	onSubscription func(context.Context) error
	onCreate       func(context.Context, sbi.CreateSMContext) error
	onUpdate       func(context.Context, sbi.SMContextRef, sbi.UpdateSMContext) (sbi.UpdatedSMContext, error)
}

func newCore(subs ...*subscriber) *core {
	c := &core{
		subscribers: map[string]*subscriber{}, contexts: map[string]sbi.Confirmation{}, expected: map[string][16]byte{},
		data: sbi.AccessMobilityData{
			AMBR:          ident.AMBR{Uplink: 1e9, Downlink: 2e9},
			DefaultSlices: []ident.SNSSAI{{SST: 1}},
			Slices:        []ident.SNSSAI{{SST: 1}, {SST: 2, SD: "010203"}, {SST: 9}},
		},
	}
	for _, s := range subs {
		c.subscribers[string(s.supi)] = s
		c.subscribers[s.suci().String()] = s
	}
	return c
}

func (c *core) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, fmt.Sprintf(format, args...))
}

// calls returns and clears the log.
func (c *core) calls() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.log
	c.log = nil
	return l
}

func (c *core) Authenticate(_ context.Context, req sbi.AuthenticationRequest) (sbi.AuthenticationContext, error) {
	c.note("authenticate %s", req.SUPIOrSUCI)
	if c.onAuthenticate != nil {
		if err := c.onAuthenticate(req); err != nil {
			return sbi.AuthenticationContext{}, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, req)
	s := c.subscribers[req.SUPIOrSUCI]
	if s == nil {
		return sbi.AuthenticationContext{}, &sbi.Problem{Status: 404, Cause: sbi.CauseUserNotFound}
	}
	c.sqn += 32
	var rnd [16]byte
	binary.BigEndian.PutUint64(rnd[:], c.sqn)
	_, _, _, ak := s.m.F2345(rnd)
	amf := [2]byte{0x80, 0}
	autn := aka.BuildAUTN(aka.XorSQN(c.sqn, ak), amf, s.m.F1(rnd, c.sqn, amf))
	resStar, kseaf := s.keys(req.ServingNetworkName, rnd, autn)
	id := fmt.Sprint("auth-", c.sqn)
	c.contexts[id] = sbi.Confirmation{Success: true, SUPI: s.supi, KSEAF: kseaf}
	c.expected[id] = resStar
	return sbi.AuthenticationContext{ID: id, RAND: rnd, AUTN: autn, HXRESStar: aka.HXRESStar(rnd, resStar)}, nil
}

func (c *core) Confirm(_ context.Context, id string, res []byte) (sbi.Confirmation, error) {
	if c.onConfirm != nil {
		if err := c.onConfirm(); err != nil {
			return sbi.Confirmation{}, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	want := c.expected[id]
	if !slices.Equal(want[:], res) {
		return sbi.Confirmation{}, nil
	}
	return c.contexts[id], nil
}

func (c *core) AccessMobility(ctx context.Context, supi ident.SUPI) (sbi.AccessMobilityData, error) {
	if c.onSubscription != nil {
		if err := c.onSubscription(ctx); err != nil {
			return sbi.AccessMobilityData{}, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.data, nil
}

func (c *core) SessionManagement(context.Context, ident.SUPI, ident.SNSSAI, ident.DNN) (sbi.SessionData, error) {
	return sbi.SessionData{}, nil
}

func (c *core) RegisterAMF(_ context.Context, supi ident.SUPI, r sbi.AMFRegistration) error {
	c.note("register %s %s %s", supi, r.AMF, r.PEI)
	if c.onRegisterAMF != nil {
		return c.onRegisterAMF()
	}
	return nil
}

func (c *core) CheckEquipment(_ context.Context, supi ident.SUPI, pei ident.PEI) (sbi.EquipmentStatus, error) {
	c.note("check %s %s", supi, pei)
	return c.onEquipment(pei)
}

func (c *core) DeregisterAMF(ctx context.Context, supi ident.SUPI, amf sbi.NFID) error {
	c.note("deregister %s %s", supi, amf)
	if c.onDeregister != nil {
		return c.onDeregister(ctx)
	}
	return nil
}

func (c *core) RegisterSMF(context.Context, ident.SUPI, sbi.SMFRegistration) error  { return nil }
func (c *core) DeregisterSMF(context.Context, ident.SUPI, ident.PDUSessionID) error { return nil }

func (c *core) CreateSMContext(ctx context.Context, req sbi.CreateSMContext) (sbi.SMContextRef, error) {
	c.note("create %d %s %s", req.Session, req.DNN, req.SNSSAI)
	if c.onCreate != nil {
		if err := c.onCreate(ctx, req); err != nil {
			return "", err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.created = append(c.created, req)
	c.refs++
	return sbi.SMContextRef(fmt.Sprintf("sm-%d", c.refs)), nil
}

func (c *core) UpdateSMContext(ctx context.Context, ref sbi.SMContextRef, req sbi.UpdateSMContext) (sbi.UpdatedSMContext, error) {
	c.note("update %s %s%s n1=%d", ref, req.N2Type, req.UPState, len(req.N1))
	c.mu.Lock()
	c.updates = append(c.updates, req)
	c.mu.Unlock()
	if c.onUpdate != nil {
		return c.onUpdate(ctx, ref, req)
	}
	return sbi.UpdatedSMContext{}, nil
}

func (c *core) ReleaseSMContext(_ context.Context, ref sbi.SMContextRef, cause sbi.ReleaseCause) error {
	c.note("release %s %s", ref, cause)
	return nil
}
