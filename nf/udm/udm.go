// Package udm is the home network's knowledge of its subscribers: AUSF, UDM, UDR and
// EIR folded into one (TS 29.509, TS 29.503, TS 29.511, Release 17). It answers
// sbi.Authentication (5G AKA with Milenage), sbi.SubscriberData, sbi.UEContext,
// sbi.EquipmentIdentity and, for the operator, sbi.Provisioning, in process or behind
// sbi.NewHandler, and reveals SUCIs.
//
// It starts no goroutine and opens nothing: every method does its work on the
// caller's goroutine and never blocks on anything but a mutex held for
// microseconds. Everything is in memory. After a restart the sequence numbers are
// the configured ones again; a USIM that is ahead says so, and the
// resynchronisation of TS 33.102 clause 6.3.5 puts it right without anyone's help. What
// was provisioned is gone then, and the operator has to provision it again.
// EAP-AKA', SDM subscriptions and UE policies are not here.
package udm

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

var (
	_ sbi.Authentication = (*UDM)(nil)
	_ sbi.SubscriberData = (*UDM)(nil)
	_ sbi.UEContext      = (*UDM)(nil)
	_ sbi.Provisioning   = (*UDM)(nil)

	_ sbi.EquipmentIdentity = (*UDM)(nil)
)

// Deps is what a UDM needs from outside.
type Deps struct {
	Log  *slog.Logger // nil discards
	Rand io.Reader    // RANDs and context IDs; nil means crypto/rand. Calls are serialised
	// AMF finds the AMF of a registration, to deregister a UE there. nil: a UE that is
	// barred stays until it registers again, and Provision says so.
	AMF func(sbi.AMFRegistration) (sbi.Communication, error)
	// Equipment receives what happens to devices, on the goroutine of the caller whose
	// request showed it; it must not block. nil: nobody wants to know.
	Equipment func(sbi.EquipmentEvent)
}

// UDM is safe for use by any number of goroutines.
type UDM struct {
	cfg      Config // Subscribers and HomeKeys emptied: they live below
	log      *slog.Logger
	networks map[string]bool // serving network names allowed
	homeKeys map[keyName][]byte

	amf       func(sbi.AMFRegistration) (sbi.Communication, error) // may be nil
	equipment func(sbi.EquipmentEvent)                             // may be nil

	mu       sync.Mutex // guards everything below
	rand     io.Reader
	subs     map[ident.SUPI]*subscriber
	profiles map[string]*profile
	auth     authContexts
	amfs     map[ident.SUPI]sbi.AMFRegistration
	smfs     map[ident.SUPI][]sbi.SMFRegistration
	count    Counters
}

// Status is a copy of a UDM's state.
type Status struct {
	Subscribers  int
	AuthContexts int // challenges that may still be confirmed
	AMFs         int // UEs registered in an AMF
	Sessions     int // PDU sessions registered by SMFs
	Counters     Counters
}

// Counters count from New on.
type Counters struct {
	Challenges   uint64 // vectors made
	Confirmed    uint64 // right RES*
	WrongRES     uint64 // wrong RES*
	Resyncs      uint64 // authentic AUTS received
	BadAUTS      uint64 // AUTS with a wrong MAC-S
	BadIdentity  uint64 // SUPI or SUCI that is malformed or cannot be revealed
	UnknownUser  uint64
	WrongNetwork uint64 // serving networks not authorised
	Evicted      uint64 // challenges dropped for lack of room
	Provisioned  uint64 // changes by the operator
	Barred       uint64 // requests for a barred subscriber

	EquipmentRefused uint64 // devices that a lock does not allow
}

// New checks cfg and returns a UDM that is ready at once. Errors wrap ErrConfig.
func New(cfg Config, d Deps) (*UDM, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.AuthContextTTL == 0 {
		cfg.AuthContextTTL = DefaultAuthContextTTL
	}
	if cfg.MaxAuthContexts == 0 {
		cfg.MaxAuthContexts = DefaultMaxAuthContexts
	}
	u := &UDM{
		log: d.Log,
		amf: d.AMF, equipment: d.Equipment,
		rand:     d.Rand,
		networks: make(map[string]bool),
		homeKeys: make(map[keyName][]byte),
		subs:     make(map[ident.SUPI]*subscriber, len(cfg.Subscribers)),
		profiles: make(map[string]*profile),
		auth:     authContexts{byID: make(map[string]*authContext)},
		amfs:     make(map[ident.SUPI]sbi.AMFRegistration),
		smfs:     make(map[ident.SUPI][]sbi.SMFRegistration),
	}
	if u.log == nil {
		u.log = slog.New(slog.DiscardHandler)
	}
	if u.rand == nil {
		u.rand = rand.Reader
	}
	networks := cfg.ServingNetworks
	if len(networks) == 0 {
		networks = []ident.PLMN{cfg.PLMN}
	}
	for _, p := range networks {
		u.networks[p.ServingNetworkName()] = true
	}
	for i, k := range cfg.HomeKeys {
		private, name, err := k.parse(fmt.Sprintf("home_keys[%d]", i))
		if err != nil {
			return nil, err
		}
		u.homeKeys[name] = private
	}
	u.cfg = cfg
	u.cfg.Subscribers, u.cfg.HomeKeys = nil, nil
	for i := range cfg.Subscribers {
		if err := u.AddSubscriber(cfg.Subscribers[i]); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// Status returns a copy of the state.
func (u *UDM) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := Status{Subscribers: len(u.subs), AuthContexts: u.auth.live(), AMFs: len(u.amfs), Counters: u.count}
	for _, r := range u.smfs {
		s.Sessions += len(r)
	}
	return s
}

// known returns the subscriber, or a Problem USER_NOT_FOUND. u.mu is held.
func (u *UDM) knownLocked(supi ident.SUPI) (*subscriber, error) {
	s, ok := u.subs[supi]
	if !ok {
		u.count.UnknownUser++
		return nil, userNotFound(supi)
	}
	return s, nil
}

// AccessMobility implements sbi.SubscriberData.
func (u *UDM) AccessMobility(ctx context.Context, supi ident.SUPI) (sbi.AccessMobilityData, error) {
	if err := ctx.Err(); err != nil {
		return sbi.AccessMobilityData{}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	s, err := u.servedLocked(supi)
	if err != nil {
		return sbi.AccessMobilityData{}, err
	}
	a := s.profile.access
	a.DefaultSlices, a.Slices = slices.Clone(a.DefaultSlices), slices.Clone(a.Slices)
	return a, nil
}

// SessionManagement implements sbi.SubscriberData.
func (u *UDM) SessionManagement(ctx context.Context, supi ident.SUPI, sn ident.SNSSAI, dnn ident.DNN) (sbi.SessionData, error) {
	if err := ctx.Err(); err != nil {
		return sbi.SessionData{}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	s, err := u.servedLocked(supi)
	if err != nil {
		return sbi.SessionData{}, err
	}
	return s.session(supi, sn, dnn)
}
