package manager

import (
	"context"
	"time"
)

// Account is an operator's root user or one of its SAM users.
type Account struct {
	OperatorID  OperatorID
	UserName    string // empty: the root user
	Email       string // of a root user; empty: it has no password either
	Description string
	Password    string // argon2id hash in PHC form; empty: none
	Permission  string // JSON; empty: none. Of the root user: the default of all SAM users
	TrustPolicy string // JSON; empty: nobody may switch to the user
	MFA         MFA
	// Generation is in every token of the user; those of an earlier one are void. It
	// never falls, not even when a user is deleted and made again.
	Generation int64
	Created    time.Time // millisecond precision, UTC
	Updated    time.Time
}

// Principal returns whose account it is.
func (a Account) Principal() Principal { return Principal{a.OperatorID, a.UserName} }

// MFAStatus is how far an account is on its way to a second factor.
type MFAStatus string

// States of the second factor.
const (
	MFAInactive    MFAStatus = "INACTIVE"
	MFAUnconfirmed MFAStatus = "UNCONFIRMED" // a secret was given out, but no code of it seen
	MFAActive      MFAStatus = "ACTIVE"      // a login by password needs a code
)

// MFA is an account's second factor: one-time passwords by time (RFC 6238).
type MFA struct {
	Status  MFAStatus // empty: inactive
	Secret  string    // base32; secret
	Backups []string  // SHA-256 of the backup codes that are left, hexadecimal
	// Step is the time step of the last code that was taken: no code is taken twice.
	Step int64
}

// AuthKey is an API credential of an account.
type AuthKey struct {
	ID       string // "keyId-..."
	Owner    Principal
	Hash     string    // argon2id, PHC form
	Created  time.Time // millisecond precision, UTC
	LastUsed time.Time // zero: never
}

// Role is a permission that an operator's users share.
type Role struct {
	OperatorID       OperatorID
	ID               string
	Description      string
	Permission       string // JSON
	Created, Updated time.Time
}

// Identity is what a token of a user is worth now.
type Identity struct {
	Account Account
	// Permissions are all that apply to the user: its own, its roles' and the default
	// of the operator's users. None for a root user.
	Permissions []string
	// Revoked are the IDs of the user's tokens that were given back before they ended.
	Revoked []string
}

// Message is what would be a mail if the testbed had any.
type Message struct {
	ID         string // ULID
	OperatorID OperatorID
	To         string // the address
	Kind       string // "passwordReset"
	Token      string // secret
	Digest     string // SHA-256 of Token, hexadecimal: what it is found by
	Created    time.Time
	Expires    time.Time // of the token
}

// APICall is a line of the API audit log.
type APICall struct {
	ID        string // ULID; sorts by time
	Principal Principal
	API       string // the permission's name
	Path      string
	Status    int
	Source    string // the caller's address
	At        time.Time
}

// APICallQuery selects calls of one operator, newest first.
type APICallQuery struct {
	OperatorID OperatorID
	API        string    // empty: any. One that ends in * selects by what is before it
	From, To   time.Time // From inclusive, To exclusive; zero: unbounded
	Before     string    // only those with smaller IDs; empty: from the newest
	Limit      int
}

// AccountStore is the part of Store about accounts. Each change is followed by a
// ChangeAccount for its operator.
type AccountStore interface {
	// SeedAccount adds an operator's root user and its keys where there are none yet: a
	// user or key that is known stays as it is, and a key that was deleted stays deleted.
	SeedAccount(ctx context.Context, a Account, keys []AuthKey) error
	// Account returns an account. ErrNotFound.
	Account(ctx context.Context, p Principal) (Account, error)
	// AccountByEmail returns a root user's account. ErrNotFound.
	AccountByEmail(ctx context.Context, email string) (Account, error)
	// Accounts lists an operator's SAM users by name: after a name, at most limit.
	Accounts(ctx context.Context, op OperatorID, after string, limit int) ([]Account, error)
	// AddAccount adds a SAM user unless the operator has most of them. ErrExists,
	// ErrTooMany.
	AddAccount(ctx context.Context, a Account, most int) error
	// ChangeAccount reads an account, has f change it and writes it back, as one. f may
	// run several times. The error of f is returned as it is. ErrNotFound.
	ChangeAccount(ctx context.Context, p Principal, f func(*Account) error) (Account, error)
	// DeleteAccount removes a SAM user with its keys and roles. ErrNotFound.
	DeleteAccount(ctx context.Context, p Principal) error
	// RevokeTokens raises the generation of one account or, with all, of all the
	// operator's. ErrNotFound.
	RevokeTokens(ctx context.Context, p Principal, all bool) error
	// RevokeToken makes one token void until it would have ended.
	RevokeToken(ctx context.Context, p Principal, id string, expires time.Time) error
	// Identity returns what counts for a user's tokens and permissions at now. ErrNotFound.
	Identity(ctx context.Context, p Principal, now time.Time) (Identity, error)

	// AuthKey returns a key. ErrNotFound: it is unknown or deleted.
	AuthKey(ctx context.Context, id string) (AuthKey, error)
	// AuthKeys lists an account's keys in the order in which they were made.
	AuthKeys(ctx context.Context, p Principal) ([]AuthKey, error)
	// AddAuthKey adds a key unless its owner has most of them already: ErrTooMany.
	AddAuthKey(ctx context.Context, k AuthKey, most int) error
	// DeleteAuthKey removes a key of an account. ErrNotFound.
	DeleteAuthKey(ctx context.Context, p Principal, id string) error
	// UseAuthKeys notes when keys were last used. No ChangeAccount follows.
	UseAuthKeys(ctx context.Context, at map[string]time.Time) error

	// Role returns a role. ErrNotFound.
	Role(ctx context.Context, op OperatorID, id string) (Role, error)
	// Roles lists an operator's roles by ID.
	Roles(ctx context.Context, op OperatorID) ([]Role, error)
	// AddRole adds a role unless the operator has most of them. ErrExists, ErrTooMany.
	AddRole(ctx context.Context, r Role, most int) error
	// UpdateRole replaces permission, description and time of change. ErrNotFound.
	UpdateRole(ctx context.Context, r Role) error
	// DeleteRole removes a role that no user has. ErrNotFound, ErrExists: users have it.
	DeleteRole(ctx context.Context, op OperatorID, id string) error
	// UserRoles lists the roles of a user by ID. ErrNotFound: there is no such user.
	UserRoles(ctx context.Context, p Principal) ([]Role, error)
	// RoleUsers lists the users that have a role, by name.
	RoleUsers(ctx context.Context, op OperatorID, id string) ([]Account, error)
	// AttachRole gives a user a role, if it has not got it. ErrNotFound: there is no such
	// user or role.
	AttachRole(ctx context.Context, p Principal, id string) error
	// DetachRole takes a role from a user. ErrNotFound: it has not got it.
	DetachRole(ctx context.Context, p Principal, id string) error

	// AddMessage adds a message and forgets the operator's oldest above most, and those
	// that have expired at its time.
	AddMessage(ctx context.Context, m Message, most int) error
	// Messages lists an operator's messages, newest first.
	Messages(ctx context.Context, op OperatorID) ([]Message, error)
	// TakeMessage removes the message with a token's digest and returns it. ErrNotFound.
	TakeMessage(ctx context.Context, digest string) (Message, error)

	// AddAPICalls keeps calls.
	AddAPICalls(ctx context.Context, calls []APICall) error
	// APICalls lists calls.
	APICalls(ctx context.Context, q APICallQuery) ([]APICall, error)
	// PurgeAPICalls removes an operator's calls from before a time, at most limit of
	// them, and returns how many.
	PurgeAPICalls(ctx context.Context, op OperatorID, before time.Time, limit int) (int, error)
	// Operators lists the operators that have an account.
	Operators(ctx context.Context) ([]OperatorID, error)
}
