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

// CredentialStore is the part of Store about credentials.
type CredentialStore interface {
	AddCredential(ctx context.Context, c Credential) error
	// Credential returns one, of any operator. ErrNotFound.
	Credential(ctx context.Context, id CredentialID) (Credential, error)
	// Credentials lists an operator's in the order of their IDs.
	Credentials(ctx context.Context, op OperatorID) ([]Credential, error)
	// UpdateCredential replaces one; all managers on the store are told. ErrNotFound.
	UpdateCredential(ctx context.Context, c Credential) error
}
