package inner

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
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
	// rememberedFor is the longest time for which a ticket must be known as used.
	rememberedFor = ticketLifetime + 2*clockLeeway
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
	id      string
	parser  *jwt.Parser
	form    atomic.Pointer[form] // of the last good ticket; nil: there was none

	mu sync.Mutex // guards the rest
	// used has the tickets that were used, by the second after which they are not
	// valid anyway: all of a second are forgotten at once. A ticket's second is part
	// of what is signed, so that it can be in one set only.
	used  map[int64]map[ticketKey]struct{}
	count int // in all sets
	limit int
}

// ticketKey stands for a ticket's ID: the beginning of its SHA-256.
type ticketKey [16]byte

// newVerifier remembers what rate tickets a second need.
func newVerifier(id string, c Control, rate int) *verifier {
	return &verifier{
		control: c, id: id, used: map[int64]map[ticketKey]struct{}{}, limit: rate * int(rememberedFor/time.Second),
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
			jwt.WithIssuer(ticketIssuer), jwt.WithAudience(id),
			jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(clockLeeway)),
	}
}

// verify returns what the ticket of a request allows, once: made by the manager,
// for this relay and this process of it, for the device asked for, not expired and
// not used before. Errors wrap errTicket, or are errTooMany.
func (v *verifier) verify(req relay.Request, now time.Time) (ticket, error) {
	t, err := v.signed(req.Ticket, now)
	if err != nil {
		return ticket{}, fmt.Errorf("%w: %w", errTicket, err)
	}
	device, err := netip.ParseAddrPort(t.device)
	switch {
	case err != nil || device != req.Target:
		return ticket{}, fmt.Errorf("%w: for another device", errTicket)
	case t.instance != v.control.Instance():
		return ticket{}, fmt.Errorf("%w: for another instance", errTicket)
	case t.id == "" || len(t.id) > 64:
		return ticket{}, fmt.Errorf("%w: without id", errTicket)
	case t.expires.Sub(t.issued) > ticketLifetime:
		return ticket{}, fmt.Errorf("%w: lives too long", errTicket)
	}
	if err := v.use(t.id, t.expires.Add(clockLeeway), now); err != nil {
		return ticket{}, err
	}
	return ticket{Entry: t.entry, Connection: t.connection, Device: device}, nil
}

// signed returns the claims of a ticket whose signature, type, issuer, audience and times
// are right. What is not in the manager's own form is left to the library.
func (v *verifier) signed(token string, now time.Time) (statement, error) {
	if t, ok := v.plain(token, now); ok {
		return t, nil
	}
	var c claims
	var form *form
	tok, err := v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		id, _ := t.Header["kid"].(string)
		key, ok := v.control.TicketKey(id)
		if !ok || len(key) != sha256.Size {
			return nil, fmt.Errorf("unknown key %.32q", id)
		}
		form = newForm(token, id, key)
		return key, nil
	})
	switch {
	case err != nil:
		return statement{}, err
	case tok.Header["typ"] != ticketType:
		return statement{}, errors.New("another type")
	case c.IssuedAt == nil:
		return statement{}, errors.New("without time")
	}
	v.form.Store(form) // its header is good: the next ones have the same
	return statement{
		instance: c.Instance, connection: c.Connection, device: c.Device, entry: c.Subject, id: c.ID, expires: c.ExpiresAt.Time, issued: c.IssuedAt.Time,
	}, nil
}

// use marks a ticket as used until it can no longer be valid.
func (v *verifier) use(id string, until, now time.Time) error {
	sum := sha256.Sum256([]byte(id))
	key, second := ticketKey(sum[:]), until.Unix()
	v.mu.Lock()
	defer v.mu.Unlock()
	set, ok := v.used[second]
	if _, used := set[key]; used {
		return errUsed
	}
	if !ok {
		v.forget(now.Unix())
		set = map[ticketKey]struct{}{}
		v.used[second] = set
	}
	if v.count >= v.limit {
		if v.forget(now.Unix()); v.count >= v.limit {
			return errTooMany
		}
	}
	set[key] = struct{}{}
	v.count++
	return nil
}

// forget drops the sets of seconds before now. There are some rememberedFor of them.
func (v *verifier) forget(now int64) {
	for second, set := range v.used {
		if second < now {
			v.count -= len(set)
			delete(v.used, second)
		}
	}
}
