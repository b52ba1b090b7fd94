package manager

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// Principal is who makes a call: an operator's root user or one of its SAM users.
type Principal struct {
	OperatorID OperatorID
	UserName   string // of the SAM user; empty: the root user
}

// Root reports whether p is the operator's root user, who may do everything.
func (p Principal) Root() bool { return p.UserName == "" }

// String returns the name as policies write it, a SORACOM resource name.
func (p Principal) String() string {
	if p.Root() {
		return "srn:soracom:" + string(p.OperatorID) + "::Operator:" + string(p.OperatorID)
	}
	return "srn:soracom:" + string(p.OperatorID) + "::User:" + p.UserName
}

// Access is a call that a principal wants to make, as permissions see it.
type Access struct {
	Principal Principal
	// API is the permission's name: "PortMapping:createPortMapping".
	API string
	// PathVariable returns a variable of the call's path, empty if there is none of
	// the name. nil: the call has none.
	PathVariable func(name string) string
	Source       netip.Addr // who calls; invalid if unknown
	At           time.Time
}

// Authorize reports whether a may go ahead. A root user may do everything; a SAM user
// what its own permission, its roles or the operator's default allow and none of them
// denies.
//
// Errors: CodeNotPermitted, CodeBadToken (there is no such user any more), CodeInternal.
func (s *Service) Authorize(ctx context.Context, a Access) error {
	if a.Principal.Root() {
		return nil
	}
	id, err := s.accounts.identity(ctx, a.Principal)
	if errors.Is(err, ErrNotFound) {
		return NewError(CodeBadToken)
	}
	if err != nil {
		return faultIn(ctx, "permissions", err)
	}
	said := undecided
	for _, p := range id.policies {
		said = max(said, p.decide(a.API, a))
	}
	if said != allowed {
		return NewError(CodeNotPermitted, a.API)
	}
	return nil
}
