package inner

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/simreach/simreach/relay"
)

const (
	ticketType     = "simreach-ticket+jwt"
	ticketIssuer   = "simreach-manager"
	ticketLifetime = 30 * time.Second // the longest that is accepted
	// clockLeeway is how far the manager's clock may be off.
	clockLeeway = 2 * time.Second
	// maxUsed bounds the tickets remembered as used. At the longest lifetime that
	// is 2,000 connections a second for as long as one likes.
	maxUsed = 1 << 16
)

var (
	errTicket  = errors.New("ticket not valid")
	errUsed    = fmt.Errorf("%w: used before", errTicket)
	errTooMany = errors.New("too many tickets to remember")
)

// claims are the claims of the manager's tickets: manager/ticket.go has the list.
type claims struct {
	Instance   string `json:"inst"`
	Connection string `json:"cid"`
	Device     string `json:"dev"`
	jwt.RegisteredClaims
}

// ticket is a verified one.
type ticket struct {
	Entry, Connection string
	Device            netip.AddrPort
}

// verifier checks tickets and remembers which were used. Any goroutine may call
// verify.
type verifier struct {
	control Control
	parser  *jwt.Parser

	mu    sync.Mutex // guards the rest
	used  map[string]struct{}
	queue []usedTicket // in the order of use, which is nearly that of expiry
}

type usedTicket struct {
	id    string
	until time.Time
}

func newVerifier(id string, c Control) *verifier {
	return &verifier{
		control: c, used: map[string]struct{}{},
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
			jwt.WithIssuer(ticketIssuer), jwt.WithAudience(id),
			jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(clockLeeway)),
	}
}

// verify returns what the ticket of a request allows, once: signed by the manager,
// for this relay and this process of it, for the device asked for, not expired and
// not used before. Errors wrap errTicket, or are errTooMany.
func (v *verifier) verify(req relay.Request, now time.Time) (ticket, error) {
	var c claims
	tok, err := v.parser.ParseWithClaims(req.Ticket, &c, func(t *jwt.Token) (any, error) {
		id, _ := t.Header["kid"].(string)
		key, ok := v.control.VerificationKey(id)
		if !ok || len(key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("unknown key %.32q", id)
		}
		return ed25519.PublicKey(key), nil
	})
	if err != nil {
		return ticket{}, fmt.Errorf("%w: %w", errTicket, err)
	}
	device, err := netip.ParseAddrPort(c.Device)
	switch {
	case err != nil || device != req.Target:
		return ticket{}, fmt.Errorf("%w: for another device", errTicket)
	case tok.Header["typ"] != ticketType:
		return ticket{}, fmt.Errorf("%w: another type", errTicket)
	case c.Instance != v.control.Instance():
		return ticket{}, fmt.Errorf("%w: for another instance", errTicket)
	case c.ID == "" || len(c.ID) > 64 || c.IssuedAt == nil:
		return ticket{}, fmt.Errorf("%w: without id or time", errTicket)
	case c.ExpiresAt.Sub(c.IssuedAt.Time) > ticketLifetime:
		return ticket{}, fmt.Errorf("%w: lives too long", errTicket)
	}
	if err := v.use(c.ID, c.ExpiresAt.Add(clockLeeway), now); err != nil {
		return ticket{}, err
	}
	return ticket{Entry: c.Subject, Connection: c.Connection, Device: device}, nil
}

// use marks a ticket as used until it can no longer be valid.
func (v *verifier) use(id string, until, now time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := 0
	for n < len(v.queue) && v.queue[n].until.Before(now) {
		delete(v.used, v.queue[n].id)
		n++
	}
	v.queue = v.queue[n:]
	if _, ok := v.used[id]; ok {
		return errUsed
	}
	if len(v.used) >= maxUsed {
		return errTooMany
	}
	v.used[id] = struct{}{}
	v.queue = append(v.queue, usedTicket{id, until})
	return nil
}
