package manager

import (
	"context"
	"time"
)

// CredentialID names a credential: a ULID.
type CredentialID string

// Credential is what clients' certificates are checked with (R1, R2): a certificate is
// let in when the CA's certificate issued it, its signature verifies with PublicKey, it
// is in force, and neither it nor the credential is revoked.
type Credential struct {
	ID         CredentialID
	OperatorID OperatorID
	Name       string    // for people; may be empty
	CA         []byte    // the issuing CA's certificate, DER (RFC 5280)
	PublicKey  []byte    // the key that checks signatures of certificates, SubjectPublicKeyInfo, DER
	Created    time.Time // millisecond precision, UTC
	Revoked    time.Time // zero: in force
	// RevokedSerials are serial numbers of client certificates that are let in no more,
	// in lower-case hexadecimal without leading zeros.
	RevokedSerials []string
}

// CredentialQuery selects credentials of one operator in the order of their IDs.
type CredentialQuery struct {
	OperatorID OperatorID
	After      CredentialID // only those behind this one; empty: from the first
	Limit      int          // at most this many; 0: all
}

// CredentialLimits are how many credentials an operator may have.
type CredentialLimits struct {
	InForce, Revoked int
	Forget           time.Time // those that were revoked earlier are removed
}

// CredentialStore is the part of Store about credentials.
type CredentialStore interface {
	// AddCredential adds c unless its operator has as many as it may: ErrTooMany.
	AddCredential(ctx context.Context, c Credential, most CredentialLimits) error
	// Credential returns one, of any operator. ErrNotFound.
	Credential(ctx context.Context, id CredentialID) (Credential, error)
	// Credentials lists what q selects.
	Credentials(ctx context.Context, q CredentialQuery) ([]Credential, error)
	// UpdateCredential changes the name, the revocation and the revoked serial numbers
	// of one, and returns it; ChangeCredential follows. change may run several times; an
	// error of it is returned and nothing is changed. ErrNotFound.
	UpdateCredential(ctx context.Context, id CredentialID, change func(*Credential) error) (Credential, error)
}
