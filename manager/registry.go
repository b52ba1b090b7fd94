package manager

import "github.com/simreach/simreach/internal/ident"

// registry is who and what the configuration names: operators and subscribers.
// It never changes after New, but for what proven remembers.
type registry struct {
	passwords map[string]credential // by email
	authKeys  map[string]credential // by key ID
	proven    prover
	byIMSI    map[ident.IMSI]Subscriber
	bySIM     map[string]Subscriber
	innerOf   map[string]RelayID // by UPF
	// decoy is compared against when there is no such user, so that the time
	// taken does not tell which users exist.
	decoy secretHash
}

type credential struct {
	operator OperatorID
	hash     secretHash
}

// newRegistry builds the registry of a valid configuration.
func newRegistry(c Config) (*registry, error) {
	r := &registry{
		passwords: map[string]credential{},
		authKeys:  map[string]credential{},
		byIMSI:    map[ident.IMSI]Subscriber{},
		bySIM:     map[string]Subscriber{},
		innerOf:   map[string]RelayID{},
		proven:    newProver(),
	}
	hash := func(given, secret string) (secretHash, error) {
		if given == "" {
			given = HashSecret(secret)
		}
		return parseHash(given)
	}
	var err error
	if r.decoy, err = hash("", ""); err != nil {
		return nil, err
	}
	for _, o := range c.Operators {
		if o.Email != "" {
			h, err := hash(o.PasswordHash, o.Password)
			if err != nil {
				return nil, err
			}
			r.passwords[o.Email] = credential{o.ID, h}
		}
		for _, k := range o.AuthKeys {
			h, err := hash(k.Hash, k.Key)
			if err != nil {
				return nil, err
			}
			r.authKeys[k.ID] = credential{o.ID, h}
			r.proven.add(k.ID)
		}
	}
	for _, s := range c.Subscribers {
		imsi, err := ident.ParseIMSI(s.IMSI)
		if err != nil {
			return nil, err
		}
		sub := Subscriber{IMSI: imsi, SIMID: s.SIMID, OperatorID: s.OperatorID}
		r.byIMSI[imsi] = sub
		if s.SIMID != "" {
			r.bySIM[s.SIMID] = sub
		}
	}
	for _, in := range c.InnerRelays {
		for _, u := range in.UPFs {
			r.innerOf[u] = in.ID
		}
	}
	return r, nil
}
