package api

import (
	"net/http"

	"github.com/simreach/simreach/manager"
)

var mfaRoutes = []route{
	{"GET", "/v1/operators/{operator_id}/mfa", "Operator:getMFAStatus", permitted, (*handler).mfaStatus},
	{"POST", "/v1/operators/{operator_id}/mfa", "Operator:enableMFA", permitted, (*handler).enableMFA},
	{"POST", "/v1/operators/{operator_id}/mfa/verify", "Operator:verifyMFA", permitted, (*handler).verifyOperatorMFA},
	{"DELETE", "/v1/operators/{operator_id}/mfa", "Operator:revokeMFA", permitted, (*handler).revokeOperatorMFA},
	{"GET", userPath + "/mfa", "User:getUserMFAStatus", permitted, (*handler).mfaStatus},
	{"POST", userPath + "/mfa", "User:enableUserMFA", permitted, (*handler).enableMFA},
	{"POST", userPath + "/mfa/verify", "User:verifyUserMFA", permitted, (*handler).verifyUserMFA},
	{"DELETE", userPath + "/mfa", "User:revokeUserMFA", permitted, (*handler).revokeUserMFA},
}

// MFAStatus is how far an account is on its way to a second factor.
type MFAStatus struct {
	Status string `json:"status"` // ACTIVE, INACTIVE or UNCONFIRMED
}

func (h *handler) mfaStatus(r *request) (int, any, error) {
	a, err := h.manager.Account(r.Context(), r.user())
	status := a.MFA.Status
	if status == "" {
		status = manager.MFAInactive
	}
	return http.StatusOK, MFAStatus{string(status)}, err
}

// TOTP is a secret for one-time passwords, for an authenticator.
type TOTP struct {
	TOTPURI string `json:"totpUri"`
}

func (h *handler) enableMFA(r *request) (int, any, error) {
	uri, err := h.manager.EnrolMFA(r.Context(), r.user())
	return http.StatusOK, TOTP{uri}, err
}

// BackupCodes stand for a one-time password, each once.
type BackupCodes struct {
	BackupCodes []string `json:"backupCodes"`
}

func (h *handler) verifyMFA(r *request, withCodes bool) ([]string, error) {
	var in struct {
		MFAOTPCode string `json:"mfaOTPCode"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return h.manager.VerifyMFA(r.Context(), r.user(), in.MFAOTPCode, withCodes)
}

func (h *handler) verifyOperatorMFA(r *request) (int, any, error) {
	codes, err := h.verifyMFA(r, true)
	return http.StatusOK, BackupCodes{codes}, err
}

// The SORACOM API gives a SAM user no backup codes: an administrator takes the second
// factor off who lost it.
func (h *handler) verifyUserMFA(r *request) (int, any, error) {
	_, err := h.verifyMFA(r, false)
	return http.StatusNoContent, nil, err
}

func (h *handler) revokeOperatorMFA(r *request) (int, any, error) {
	var in struct {
		Password string `json:"password"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, h.manager.RevokeMFA(r.Context(), r.user(), &in.Password)
}

func (h *handler) revokeUserMFA(r *request) (int, any, error) {
	return http.StatusNoContent, nil, h.manager.RevokeMFA(r.Context(), r.user(), nil)
}
