package api

import (
	"net/http"

	"github.com/simreach/simreach/manager"
)

const (
	usersPath = "/v1/operators/{operator_id}/users"
	userPath  = usersPath + "/{user_name}"
)

var userRoutes = []route{
	{"GET", "/v1/operators/{operator_id}", "Operator:getOperator", permitted, (*handler).getOperator},
	{"POST", "/v1/operators/{operator_id}/password", "Operator:updateOperatorPassword", permitted, (*handler).updateOperatorPassword},
	{"GET", "/v1/operators/{operator_id}/auth_keys", "Operator:listOperatorAuthKeys", permitted, (*handler).listAuthKeys},
	{"POST", "/v1/operators/{operator_id}/auth_keys", "Operator:generateOperatorAuthKey", permitted, (*handler).createOperatorAuthKey},
	{"DELETE", "/v1/operators/{operator_id}/auth_keys/{auth_key_id}", "Operator:deleteOperatorAuthKey", permitted, (*handler).deleteAuthKey},

	{"GET", usersPath, "User:listUsers", permitted, (*handler).listUsers},
	{"GET", usersPath + "/default_permissions", "User:getDefaultPermissions", permitted, (*handler).getDefaultPermissions},
	{"PUT", usersPath + "/default_permissions", "User:updateDefaultPermissions", permitted, (*handler).updateDefaultPermissions},
	{"DELETE", usersPath + "/default_permissions", "User:deleteDefaultPermissions", permitted, (*handler).deleteDefaultPermissions},
	{"GET", userPath, "User:getUser", permitted, (*handler).getUser},
	{"POST", userPath, "User:createUser", permitted, (*handler).createUser},
	{"PUT", userPath, "User:updateUser", permitted, (*handler).updateUser},
	{"DELETE", userPath, "User:deleteUser", permitted, (*handler).deleteUser},
	{"GET", userPath + "/auth_keys", "User:listUserAuthKeys", permitted, (*handler).listAuthKeys},
	{"POST", userPath + "/auth_keys", "User:generateUserAuthKey", permitted, (*handler).createUserAuthKey},
	{"GET", userPath + "/auth_keys/{auth_key_id}", "User:getUserAuthKey", permitted, (*handler).getAuthKey},
	{"DELETE", userPath + "/auth_keys/{auth_key_id}", "User:deleteUserAuthKey", permitted, (*handler).deleteAuthKey},
	{"GET", userPath + "/password", "User:hasUserPassword", permitted, (*handler).hasPassword},
	{"POST", userPath + "/password", "User:createUserPassword", permitted, (*handler).createPassword},
	{"PUT", userPath + "/password", "User:updateUserPassword", permitted, (*handler).updatePassword},
	{"DELETE", userPath + "/password", "User:deleteUserPassword", permitted, (*handler).deletePassword},
	{"GET", userPath + "/permission", "User:getUserPermission", permitted, (*handler).getPermission},
	{"PUT", userPath + "/permission", "User:updateUserPermission", permitted, (*handler).updatePermission},
	{"DELETE", userPath + "/permission", "User:deleteUserPermission", permitted, (*handler).deletePermission},
	{"GET", userPath + "/trust_policy", "User:getUserTrustPolicy", permitted, (*handler).getTrustPolicy},
	{"PUT", userPath + "/trust_policy", "User:updateUserTrustPolicy", permitted, (*handler).updateTrustPolicy},
	{"DELETE", userPath + "/trust_policy", "User:deleteUserTrustPolicy", permitted, (*handler).deleteTrustPolicy},
}

// user returns whom the path names: its user_name or, without one, the root user, of the
// caller's operator.
func (r *request) user() manager.Principal {
	return manager.Principal{OperatorID: r.principal.OperatorID, UserName: r.PathValue("user_name")}
}

// Operator is the answer of GET /v1/operators/{operator_id}.
type Operator struct {
	OperatorID     string `json:"operatorId"`
	RootOperatorID string `json:"rootOperatorId"`
	Email          string `json:"email,omitempty"`
	Description    string `json:"description"`
	CreateDate     string `json:"createDate"` // RFC 3339
	UpdateDate     string `json:"updateDate"`
}

func (h *handler) getOperator(r *request) (int, any, error) {
	a, err := h.manager.Account(r.Context(), manager.Principal{OperatorID: r.principal.OperatorID})
	if err != nil {
		return 0, nil, err
	}
	const form = "2006-01-02T15:04:05.000Z"
	return http.StatusOK, Operator{
		OperatorID: string(a.OperatorID), RootOperatorID: string(a.OperatorID), Email: a.Email, Description: a.Description,
		CreateDate: a.Created.Format(form), UpdateDate: a.Updated.Format(form),
	}, nil
}

// User is a SAM user in an answer. Keys and roles are in the answer about one only.
type User struct {
	UserName       string    `json:"userName"`
	Description    string    `json:"description"`
	CreateDateTime int64     `json:"createDateTime"` // seconds since 1970
	UpdateDateTime int64     `json:"updateDateTime"`
	HasPassword    bool      `json:"hasPassword"`
	Permission     string    `json:"permission"`
	AuthKeyList    []AuthKey `json:"authKeyList,omitzero"` // nil: absent
	RoleList       []Role    `json:"roleList,omitzero"`
}

func user(a manager.Account) User {
	return User{
		UserName: a.UserName, Description: a.Description, CreateDateTime: a.Created.Unix(), UpdateDateTime: a.Updated.Unix(),
		HasPassword: a.Password != "", Permission: a.Permission,
	}
}

func (h *handler) listUsers(r *request) (int, any, error) {
	as, err := h.manager.Users(r.Context(), r.principal.OperatorID, "", manager.MaxUsers*2)
	return http.StatusOK, users(as), err
}

func users(as []manager.Account) []User {
	out := make([]User, len(as))
	for i, a := range as {
		out[i] = user(a)
	}
	return out
}

func (h *handler) getUser(r *request) (int, any, error) {
	a, err := h.manager.Account(r.Context(), r.user())
	if err != nil {
		return 0, nil, err
	}
	keys, err := h.manager.AuthKeys(r.Context(), r.user())
	if err != nil {
		return 0, nil, err
	}
	roles, err := h.manager.UserRoles(r.Context(), r.user())
	if err != nil {
		return 0, nil, err
	}
	out := user(a)
	out.AuthKeyList, out.RoleList = authKeys(keys), rolesOf(roles)
	return http.StatusOK, out, nil
}

// DescriptionRequest creates or changes what has a description.
type DescriptionRequest struct {
	Description string `json:"description"`
}

func (h *handler) createUser(r *request) (int, any, error) {
	var in DescriptionRequest
	if err := decodeOptional(r, &in); err != nil {
		return 0, nil, err
	}
	_, err := h.manager.CreateUser(r.Context(), r.user(), in.Description)
	return http.StatusCreated, nil, err
}

func (h *handler) updateUser(r *request) (int, any, error) {
	var in DescriptionRequest
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, nil, h.manager.UpdateUser(r.Context(), r.user(), in.Description)
}

func (h *handler) deleteUser(r *request) (int, any, error) {
	return http.StatusNoContent, nil, h.manager.DeleteUser(r.Context(), r.user())
}

// AuthKey is an authentication key in an answer.
type AuthKey struct {
	AuthKeyID        string `json:"authKeyId"`
	CreateDateTime   int64  `json:"createDateTime"`   // seconds since 1970
	LastUsedDateTime *int64 `json:"lastUsedDateTime"` // null: never
}

func authKeys(keys []manager.AuthKey) []AuthKey {
	out := make([]AuthKey, len(keys))
	for i, k := range keys {
		out[i] = AuthKey{AuthKeyID: k.ID, CreateDateTime: k.Created.Unix()}
		if !k.LastUsed.IsZero() {
			used := k.LastUsed.Unix()
			out[i].LastUsedDateTime = &used
		}
	}
	return out
}

func (h *handler) listAuthKeys(r *request) (int, any, error) {
	keys, err := h.manager.AuthKeys(r.Context(), r.user())
	return http.StatusOK, authKeys(keys), err
}

func (h *handler) getAuthKey(r *request) (int, any, error) {
	keys, err := h.manager.AuthKeys(r.Context(), r.user())
	if err != nil {
		return 0, nil, err
	}
	for _, k := range authKeys(keys) {
		if k.AuthKeyID == r.PathValue("auth_key_id") {
			return http.StatusOK, k, nil
		}
	}
	return 0, nil, manager.NewError(manager.CodeUnknownAuthKey, r.PathValue("auth_key_id"))
}

// NewAuthKey is an authentication key with its secret, which is told this once.
type NewAuthKey struct {
	AuthKeyID string `json:"authKeyId"`
	AuthKey   string `json:"authKey"`
}

func (h *handler) createAuthKey(r *request, status int) (int, any, error) {
	k, secret, err := h.manager.CreateAuthKey(r.Context(), r.user())
	return status, NewAuthKey{k.ID, secret}, err
}

func (h *handler) createOperatorAuthKey(r *request) (int, any, error) {
	return h.createAuthKey(r, http.StatusCreated)
}

// The SORACOM API answers this one with 200, not 201.
func (h *handler) createUserAuthKey(r *request) (int, any, error) {
	return h.createAuthKey(r, http.StatusOK)
}

func (h *handler) deleteAuthKey(r *request) (int, any, error) {
	return http.StatusNoContent, nil, h.manager.DeleteAuthKey(r.Context(), r.user(), r.PathValue("auth_key_id"))
}

// UpdatePasswordRequest replaces a password.
type UpdatePasswordRequest struct {
	CurrentPassword string `json:"currentPassword"`
	NewPassword     string `json:"newPassword"`
}

func (h *handler) changePassword(r *request) error {
	var in UpdatePasswordRequest
	if err := decode(r, &in); err != nil {
		return err
	}
	return h.manager.UpdatePassword(r.Context(), r.user(), in.CurrentPassword, in.NewPassword)
}

func (h *handler) updateOperatorPassword(r *request) (int, any, error) {
	return http.StatusOK, nil, h.changePassword(r)
}

func (h *handler) updatePassword(r *request) (int, any, error) {
	return http.StatusOK, nil, h.changePassword(r)
}

func (h *handler) hasPassword(r *request) (int, any, error) {
	a, err := h.manager.Account(r.Context(), r.user())
	return http.StatusOK, struct {
		HasPassword bool `json:"hasPassword"`
	}{a.Password != ""}, err
}

func (h *handler) createPassword(r *request) (int, any, error) {
	var in struct {
		Password string `json:"password"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, nil, h.manager.CreatePassword(r.Context(), r.user(), in.Password)
}

func (h *handler) deletePassword(r *request) (int, any, error) {
	return http.StatusNoContent, nil, h.manager.DeletePassword(r.Context(), r.user())
}

// Permission is a permission as JSON in a string.
type Permission struct {
	Permission  string `json:"permission"`
	Description string `json:"description,omitempty"` // of roles
}

func (h *handler) getPermission(r *request) (int, any, error) {
	a, err := h.manager.Account(r.Context(), r.user())
	return http.StatusOK, Permission{Permission: a.Permission}, err
}

func (h *handler) updatePermission(r *request) (int, any, error) {
	var in Permission
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	if in.Permission == "" {
		return 0, nil, manager.NewError(manager.CodeBadPermission, manager.DetailRequired.Of("permission"))
	}
	return http.StatusOK, nil, h.manager.SetPermission(r.Context(), r.user(), in.Permission)
}

func (h *handler) deletePermission(r *request) (int, any, error) {
	return http.StatusNoContent, nil, h.manager.SetPermission(r.Context(), r.user(), "")
}

// DefaultPermissions is the permission of all SAM users of an operator.
type DefaultPermissions struct {
	Permissions string `json:"permissions"`
}

func (h *handler) defaultPermissions(r *request) (string, error) {
	a, err := h.manager.Account(r.Context(), manager.Principal{OperatorID: r.principal.OperatorID})
	if err == nil && a.Permission == "" {
		err = manager.NewError(manager.CodeNoPermission)
	}
	return a.Permission, err
}

func (h *handler) getDefaultPermissions(r *request) (int, any, error) {
	text, err := h.defaultPermissions(r)
	return http.StatusOK, DefaultPermissions{text}, err
}

func (h *handler) updateDefaultPermissions(r *request) (int, any, error) {
	var in DefaultPermissions
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	if in.Permissions == "" {
		return 0, nil, manager.NewError(manager.CodeBadPermission, manager.DetailRequired.Of("permissions"))
	}
	return http.StatusAccepted, nil, h.manager.SetPermission(r.Context(), manager.Principal{OperatorID: r.principal.OperatorID}, in.Permissions)
}

func (h *handler) deleteDefaultPermissions(r *request) (int, any, error) {
	if _, err := h.defaultPermissions(r); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, h.manager.SetPermission(r.Context(), manager.Principal{OperatorID: r.principal.OperatorID}, "")
}

// TrustPolicy is a trust policy as JSON in a string.
type TrustPolicy struct {
	TrustPolicy string `json:"trustPolicy"`
}

func (h *handler) getTrustPolicy(r *request) (int, any, error) {
	a, err := h.manager.Account(r.Context(), r.user())
	if err == nil && a.TrustPolicy == "" {
		err = manager.NewError(manager.CodeNoTrustPolicy)
	}
	return http.StatusOK, TrustPolicy{a.TrustPolicy}, err
}

func (h *handler) updateTrustPolicy(r *request) (int, any, error) {
	var in TrustPolicy
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	if in.TrustPolicy == "" {
		return 0, nil, manager.NewError(manager.CodeBadTrustPolicy, manager.DetailRequired.Of("trustPolicy"))
	}
	return http.StatusNoContent, nil, h.manager.SetTrustPolicy(r.Context(), r.user(), in.TrustPolicy)
}

func (h *handler) deleteTrustPolicy(r *request) (int, any, error) {
	return http.StatusNoContent, nil, h.manager.SetTrustPolicy(r.Context(), r.user(), "")
}
