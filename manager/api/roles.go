package api

import (
	"net/http"

	"github.com/simreach/simreach/manager"
)

const (
	rolesPath = "/v1/operators/{operator_id}/roles"
	rolePath  = rolesPath + "/{role_id}"
)

var roleRoutes = []route{
	{"GET", rolesPath, "Role:listRoles", permitted, (*handler).listRoles},
	{"GET", rolePath, "Role:getRole", permitted, (*handler).getRole},
	{"POST", rolePath, "Role:createRole", permitted, (*handler).createRole},
	{"PUT", rolePath, "Role:updateRole", permitted, (*handler).updateRole},
	{"DELETE", rolePath, "Role:deleteRole", permitted, (*handler).deleteRole},
	{"GET", rolePath + "/users", "Role:listRoleAttachedUsers", permitted, (*handler).listRoleUsers},
	{"GET", userPath + "/roles", "Role:listUserRoles", permitted, (*handler).listUserRoles},
	{"POST", userPath + "/roles", "Role:attachRole", permitted, (*handler).attachRole},
	{"DELETE", userPath + "/roles/{role_id}", "Role:detachRole", permitted, (*handler).detachRole},
}

// Role is a role in an answer.
type Role struct {
	RoleID         string `json:"roleId"`
	Description    string `json:"description"`
	Permission     string `json:"permission"`
	CreateDateTime int64  `json:"createDateTime"` // seconds since 1970
	UpdateDateTime int64  `json:"updateDateTime"`
}

func roleOf(r manager.Role) Role {
	return Role{RoleID: r.ID, Description: r.Description, Permission: r.Permission, CreateDateTime: r.Created.Unix(), UpdateDateTime: r.Updated.Unix()}
}

func rolesOf(rs []manager.Role) []Role {
	out := make([]Role, len(rs))
	for i, r := range rs {
		out[i] = roleOf(r)
	}
	return out
}

// listRoles knows the operator's own roles only: there are none that the platform owns.
func (h *handler) listRoles(r *request) (int, any, error) {
	switch owner := r.URL.Query().Get("owner"); owner {
	case "", "all", "operator":
		rs, err := h.manager.Roles(r.Context(), r.principal.OperatorID)
		return http.StatusOK, rolesOf(rs), err
	case "soracom":
		return http.StatusOK, []Role{}, nil
	}
	return 0, nil, manager.NewError(manager.CodeBadQuery, "owner")
}

func (h *handler) getRole(r *request) (int, any, error) {
	role, err := h.manager.Role(r.Context(), r.principal.OperatorID, r.PathValue("role_id"))
	return http.StatusOK, roleOf(role), err
}

func (r *request) role() (manager.Role, error) {
	var in Permission
	if err := decode(r, &in); err != nil {
		return manager.Role{}, err
	}
	if in.Permission == "" {
		return manager.Role{}, manager.NewError(manager.CodeBadPermission, manager.DetailRequired.Of("permission"))
	}
	return manager.Role{OperatorID: r.principal.OperatorID, ID: r.PathValue("role_id"), Description: in.Description, Permission: in.Permission}, nil
}

// RoleID names a role.
type RoleID struct {
	RoleID string `json:"roleId"`
}

// createRole answers with 200, as the SORACOM API does.
func (h *handler) createRole(r *request) (int, any, error) {
	role, err := r.role()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, RoleID{role.ID}, h.manager.CreateRole(r.Context(), role)
}

func (h *handler) updateRole(r *request) (int, any, error) {
	role, err := r.role()
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, nil, h.manager.UpdateRole(r.Context(), role)
}

func (h *handler) deleteRole(r *request) (int, any, error) {
	return http.StatusNoContent, nil, h.manager.DeleteRole(r.Context(), r.principal.OperatorID, r.PathValue("role_id"))
}

func (h *handler) listRoleUsers(r *request) (int, any, error) {
	as, err := h.manager.RoleUsers(r.Context(), r.principal.OperatorID, r.PathValue("role_id"))
	return http.StatusOK, users(as), err
}

func (h *handler) listUserRoles(r *request) (int, any, error) {
	rs, err := h.manager.UserRoles(r.Context(), r.user())
	return http.StatusOK, rolesOf(rs), err
}

func (h *handler) attachRole(r *request) (int, any, error) {
	var in RoleID
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, nil, h.manager.AttachRole(r.Context(), r.user(), in.RoleID)
}

func (h *handler) detachRole(r *request) (int, any, error) {
	return http.StatusOK, nil, h.manager.DetachRole(r.Context(), r.user(), r.PathValue("role_id"))
}
