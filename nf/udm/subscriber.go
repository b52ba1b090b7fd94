package udm

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

// subscriber is what is kept of a Subscriber: about 100 octets. What many have in
// common is in the profile, which they share. All but sqn, pei and what is provisioned
// is immutable.
type subscriber struct {
	k, opc      [16]byte
	amf         [2]byte
	sqn         uint64 // last used; guarded by UDM.mu
	profile     *profile
	static      []staticAddress // usually nil
	pei         ident.PEI       // that registered last; guarded by UDM.mu
	provisioned                 // guarded by UDM.mu
}

type staticAddress struct {
	key  sessionKey
	addr ident.UEAddress
}

// profile is a subscription without anything personal. Immutable but for refs.
type profile struct {
	id       string
	group    string
	refs     int // subscribers that use it; guarded by UDM.mu
	access   sbi.AccessMobilityData
	sessions map[sessionKey]sbi.SessionData
}

// sessionKey has the slice and the DNN in canonical (lower) case.
type sessionKey struct {
	snssai ident.SNSSAI
	dnn    ident.DNN
}

func keyOf(s ident.SNSSAI, d ident.DNN) sessionKey {
	s.SD = strings.ToLower(s.SD)
	return sessionKey{s, ident.DNN(strings.ToLower(string(d)))}
}

// session returns the subscription to a DNN in a slice, or a Problem.
func (s *subscriber) session(supi ident.SUPI, sn ident.SNSSAI, dnn ident.DNN) (sbi.SessionData, error) {
	key := keyOf(sn, dnn)
	d, ok := s.profile.sessions[key]
	if !ok {
		if !slices.Contains(s.profile.access.Slices, key.snssai) {
			return sbi.SessionData{}, problem(http.StatusForbidden, sbi.CauseSNSSAINotAllowed, "%s is not subscribed to slice %s", supi, sn)
		}
		return sbi.SessionData{}, problem(http.StatusForbidden, sbi.CauseDNNNotAllowed, "%s is not subscribed to DNN %q in slice %s", supi, dnn, sn)
	}
	d.Types = slices.Clone(d.Types)
	s.apply(&d)
	for _, a := range s.static {
		if a.key == key {
			d.Static = a.addr
		}
	}
	return d, nil
}

// AddSubscriber provisions s. Errors wrap ErrConfig, or ErrExists when the SUPI is
// there already.
func (u *UDM) AddSubscriber(s Subscriber) error {
	sub, p, err := u.compile(&s)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.subs[s.SUPI]; ok {
		return fmt.Errorf("%w: %s", ErrExists, s.SUPI)
	}
	sub.profile = u.shareLocked(p)
	u.subs[s.SUPI] = sub
	return nil
}

// UpdateSubscriber replaces a subscription. Sessions and registrations that exist
// stay as they are, and so does what was provisioned. The sequence number goes on from where it is if the keys are
// the same, else from s.SQN. Errors wrap ErrConfig or ErrNotFound.
func (u *UDM) UpdateSubscriber(s Subscriber) error {
	sub, p, err := u.compile(&s)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	old, ok := u.subs[s.SUPI]
	if !ok {
		return fmt.Errorf("%w: %s", ErrNotFound, s.SUPI)
	}
	if old.k == sub.k && old.opc == sub.opc {
		sub.sqn = old.sqn
	}
	sub.pei, sub.provisioned = old.pei, old.provisioned
	sub.profile = u.shareLocked(p)
	u.unshareLocked(old.profile)
	u.subs[s.SUPI] = sub
	return nil
}

// RemoveSubscriber withdraws a subscription with its registrations. A challenge
// still open fails. It does not deregister the UE: see Registration for its AMF.
// Errors wrap ErrNotFound.
func (u *UDM) RemoveSubscriber(supi ident.SUPI) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	s, ok := u.subs[supi]
	if !ok {
		return fmt.Errorf("%w: %s", ErrNotFound, supi)
	}
	u.unshareLocked(s.profile)
	delete(u.subs, supi)
	delete(u.amfs, supi)
	delete(u.smfs, supi)
	return nil
}

// SQN returns the sequence number last used for supi, 48 bits.
func (u *UDM) SQN(supi ident.SUPI) (sqn uint64, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s, ok := u.subs[supi]
	if !ok {
		return 0, false
	}
	return s.sqn, true
}

// compile turns a description into what is kept; its profile is not shared yet.
func (u *UDM) compile(s *Subscriber) (*subscriber, *profile, error) {
	at := "subscriber " + string(s.SUPI)
	if err := s.validate(at, u.cfg.PLMN); err != nil {
		return nil, nil, err
	}
	k, opc, amf, err := s.keys(at)
	if err != nil {
		return nil, nil, err
	}
	sub := &subscriber{k: k, opc: opc, amf: amf, sqn: s.SQN}
	p := &profile{group: s.UEGroup, sessions: make(map[sessionKey]sbi.SessionData)}
	p.access.AMBR = limited(s.AMBR)
	id := fmt.Sprintf("%v %q", p.access.AMBR, s.UEGroup)
	for _, sl := range s.Slices {
		snssai := keyOf(sl.SNSSAI, "").snssai
		p.access.Slices = append(p.access.Slices, snssai)
		if sl.Default {
			p.access.DefaultSlices = append(p.access.DefaultSlices, snssai)
		}
		id += fmt.Sprintf("|%s %t", snssai, sl.Default)
		for _, d := range sl.DNNs {
			key := keyOf(sl.SNSSAI, d.Name)
			data := d.data(s.UEGroup)
			p.sessions[key] = data
			id += fmt.Sprintf(" %q%v", key.dnn, data)
			if static := (ident.UEAddress{V4: d.StaticIPv4, V6: d.StaticIPv6}); static != (ident.UEAddress{}) {
				sub.static = append(sub.static, staticAddress{key, static})
			}
		}
	}
	if len(p.access.DefaultSlices) == 0 {
		p.access.DefaultSlices = p.access.Slices[:1:1]
	}
	// Defaults first, as the type promises: JSON names them apart.
	slices.SortStableFunc(p.access.Slices, func(a, b ident.SNSSAI) int {
		return order(p.access.DefaultSlices, a) - order(p.access.DefaultSlices, b)
	})
	p.id = id
	return sub, p, nil
}

func order(defaults []ident.SNSSAI, s ident.SNSSAI) int {
	if slices.Contains(defaults, s) {
		return 0
	}
	return 1
}

// data is d with its zeros replaced, without the static address.
func (d *DNN) data(group string) sbi.SessionData {
	out := sbi.SessionData{
		Types:       slices.Clone(d.Types),
		AMBR:        limited(d.AMBR),
		FiveQI:      d.FiveQI,
		ARPPriority: d.ARPPriority,
		UEGroup:     group,
	}
	if len(out.Types) == 0 {
		out.Types = []ident.PDUSessionType{ident.IPv4}
	}
	if out.FiveQI == 0 {
		out.FiveQI = DefaultFiveQI
	}
	if out.ARPPriority == 0 {
		out.ARPPriority = DefaultARPPriority
	}
	return out
}

func limited(a ident.AMBR) ident.AMBR {
	if a.Uplink == 0 {
		a.Uplink = Unlimited
	}
	if a.Downlink == 0 {
		a.Downlink = Unlimited
	}
	return a
}

// shareLocked returns the profile equal to p that is in use, or p itself.
func (u *UDM) shareLocked(p *profile) *profile {
	if old, ok := u.profiles[p.id]; ok {
		p = old
	} else {
		u.profiles[p.id] = p
	}
	p.refs++
	return p
}

func (u *UDM) unshareLocked(p *profile) {
	if p.refs--; p.refs == 0 {
		delete(u.profiles, p.id)
	}
}
