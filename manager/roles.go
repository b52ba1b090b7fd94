package manager

import (
	"context"
	"errors"
	"unicode/utf8"
)

// roleError gives an error of the store about a role its code.
func roleError(ctx context.Context, id, what string, err error) error {
	if errors.Is(err, ErrNotFound) {
		return NewError(CodeUnknownRole, id)
	}
	return faultIn(ctx, what, err)
}

// Roles lists an operator's roles by ID.
func (s *Service) Roles(ctx context.Context, op OperatorID) ([]Role, error) {
	rs, err := s.store.Roles(ctx, op)
	return rs, faultIn(ctx, "roles", err)
}

// Role returns a role. Errors: CodeUnknownRole, CodeInternal.
func (s *Service) Role(ctx context.Context, op OperatorID, id string) (Role, error) {
	r, err := s.store.Role(ctx, op, id)
	return r, roleError(ctx, id, "role", err)
}

func checkRole(r Role) error {
	if !validName(r.ID) {
		return NewError(CodeBadRoleID)
	}
	if utf8.RuneCountInString(r.Description) > maxDescription {
		return NewError(CodeBadDescription, maxDescription)
	}
	if _, err := parsePermission(r.Permission); err != nil {
		return NewError(CodeBadPermission, err)
	}
	return nil
}

// CreateRole adds a role. Errors: CodeBadRoleID, CodeBadDescription, CodeBadPermission,
// CodeRoleExists, CodeTooManyAccounts, CodeInternal.
func (s *Service) CreateRole(ctx context.Context, r Role) error {
	if err := checkRole(r); err != nil {
		return err
	}
	r.Created = now()
	r.Updated = r.Created
	err := s.store.AddRole(ctx, r, MaxRoles)
	switch {
	case errors.Is(err, ErrExists):
		return NewError(CodeRoleExists, r.ID)
	case errors.Is(err, ErrTooMany):
		return NewError(CodeTooManyAccounts, MaxRoles)
	}
	return faultIn(ctx, "create role", err)
}

// UpdateRole replaces a role's permission and description; the users that have it are
// under the new one from now on. Errors: CodeUnknownRole, CodeBadDescription,
// CodeBadPermission, CodeInternal.
func (s *Service) UpdateRole(ctx context.Context, r Role) error {
	if !validName(r.ID) {
		return NewError(CodeUnknownRole, r.ID)
	}
	if err := checkRole(r); err != nil {
		return err
	}
	r.Updated = now()
	err := s.store.UpdateRole(ctx, r)
	s.accounts.forget(r.OperatorID)
	return roleError(ctx, r.ID, "update role", err)
}

// DeleteRole removes a role that no user has. Errors: CodeUnknownRole, CodeRoleInUse,
// CodeInternal.
func (s *Service) DeleteRole(ctx context.Context, op OperatorID, id string) error {
	err := s.store.DeleteRole(ctx, op, id)
	if errors.Is(err, ErrExists) {
		return NewError(CodeRoleInUse, id)
	}
	return roleError(ctx, id, "delete role", err)
}

// RoleUsers lists the users that have a role. Errors: CodeUnknownRole, CodeInternal.
func (s *Service) RoleUsers(ctx context.Context, op OperatorID, id string) ([]Account, error) {
	as, err := s.store.RoleUsers(ctx, op, id)
	return as, roleError(ctx, id, "users of role", err)
}

// UserRoles lists a user's roles. Errors: CodeUnknownUser, CodeInternal.
func (s *Service) UserRoles(ctx context.Context, p Principal) ([]Role, error) {
	rs, err := s.store.UserRoles(ctx, p)
	return rs, userError(ctx, p, "roles of user", err)
}

// AttachRole gives a user a role; once more changes nothing. Errors: CodeBadRoleID,
// CodeUnknownUser, CodeUnknownRole, CodeInternal.
func (s *Service) AttachRole(ctx context.Context, p Principal, id string) error {
	if !validName(id) {
		return NewError(CodeBadRoleID)
	}
	err := s.store.AttachRole(ctx, p, id)
	s.accounts.forget(p.OperatorID)
	if errors.Is(err, ErrNotFound) { // which of the two is not there?
		if _, err := s.Account(ctx, p); err != nil {
			return err
		}
		return NewError(CodeUnknownRole, id)
	}
	return faultIn(ctx, "attach role", err)
}

// DetachRole takes a role from a user. Errors: CodeUnknownUser, CodeRoleNotAttached,
// CodeInternal.
func (s *Service) DetachRole(ctx context.Context, p Principal, id string) error {
	err := s.store.DetachRole(ctx, p, id)
	s.accounts.forget(p.OperatorID)
	if errors.Is(err, ErrNotFound) {
		if _, err := s.Account(ctx, p); err != nil {
			return err
		}
		return NewError(CodeRoleNotAttached, id)
	}
	return faultIn(ctx, "detach role", err)
}
