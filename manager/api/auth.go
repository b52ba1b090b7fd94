package api

import (
	"net/http"
	"time"

	"github.com/simreach/simreach/manager"
)

var authRoutes = []route{
	{"POST", "/v1/auth", "Auth:auth", open, (*handler).auth},
	{"POST", "/v1/auth/logout", "Auth:logout", anyUser, (*handler).logout},
	{"POST", "/v1/auth/switch_user", "Auth:switchUser", permitted, (*handler).switchUser},
	{"POST", "/v1/auth/password_reset_token/issue", "Auth:issuePasswordResetToken", open, (*handler).issueReset},
	{"POST", "/v1/auth/password_reset_token/verify", "Auth:verifyPasswordResetToken", open, (*handler).verifyReset},
	{"POST", "/v1/operators/{operator_id}/token", "Operator:generateAuthToken", permitted, (*handler).renewToken},
	{"DELETE", "/v1/operators/{operator_id}/tokens", "Operator:revokeOperatorAuthTokens", permitted, (*handler).revokeOperatorTokens},
	{"DELETE", "/v1/operators/{operator_id}/users/{user_name}/tokens", "User:revokeUserAuthTokens", permitted, (*handler).revokeUserTokens},
	{"GET", "/v1/simreach/outbox", "Simreach:listOutbox", rootOnly, (*handler).outbox},
}

// AuthRequest is the body of POST /v1/auth: email and password, or operatorId, userName
// and password, or authKeyId and authKey.
type AuthRequest struct {
	Email               string `json:"email,omitempty"`
	Password            string `json:"password,omitempty"`
	AuthKeyID           string `json:"authKeyId,omitempty"`
	AuthKey             string `json:"authKey,omitempty"`
	OperatorID          string `json:"operatorId,omitempty"`
	UserName            string `json:"userName,omitempty"`
	MFAOTPCode          string `json:"mfaOTPCode,omitempty"`
	TokenTimeoutSeconds *int64 `json:"tokenTimeoutSeconds,omitempty"` // 1 to 172800; absent: 86400
}

// AuthResponse is what a login gives.
type AuthResponse struct {
	APIKey     string `json:"apiKey"`
	Token      string `json:"token"`
	OperatorID string `json:"operatorId"`
	UserName   string `json:"userName,omitempty"` // of a SAM user
}

func authResponse(c manager.Credentials) AuthResponse {
	return AuthResponse{APIKey: c.APIKey, Token: c.Token, OperatorID: string(c.OperatorID), UserName: c.UserName}
}

// seconds returns a duration of a request; nil if there is none. It is bounded before it
// is multiplied.
func seconds(n *int64) *time.Duration {
	if n == nil {
		return nil
	}
	d := time.Duration(min(max(*n, 0), 1<<31)) * time.Second
	return &d
}

func (h *handler) auth(r *request) (int, any, error) {
	var a AuthRequest
	if err := decode(r, &a); err != nil {
		return 0, nil, err
	}
	c, err := h.manager.Authenticate(r.Context(), manager.Login{
		Email: a.Email, Password: a.Password, AuthKeyID: a.AuthKeyID, AuthKey: a.AuthKey,
		OperatorID: manager.OperatorID(a.OperatorID), UserName: a.UserName, OTP: a.MFAOTPCode,
		Timeout: seconds(a.TokenTimeoutSeconds), Source: caller(r.Request),
	})
	r.principal = c.Principal
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, authResponse(c), nil
}

func (h *handler) logout(r *request) (int, any, error) {
	return http.StatusNoContent, nil, h.manager.Logout(r.Context(), r.Header.Get(HeaderAPIKey), r.Header.Get(HeaderToken))
}

// SwitchUserRequest is the body of POST /v1/auth/switch_user.
type SwitchUserRequest struct {
	OperatorID          string `json:"operatorId"`
	UserName            string `json:"userName"`
	TokenTimeoutSeconds *int64 `json:"tokenTimeoutSeconds,omitempty"` // 180 to 3600; absent: 3600
}

func (h *handler) switchUser(r *request) (int, any, error) {
	var in SwitchUserRequest
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	from := manager.Access{Principal: r.principal, API: "Auth:switchUser", Source: caller(r.Request), At: time.Now()}
	to := manager.Principal{OperatorID: manager.OperatorID(in.OperatorID), UserName: in.UserName}
	c, err := h.manager.SwitchUser(r.Context(), from, to, seconds(in.TokenTimeoutSeconds))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, authResponse(c), nil
}

func (h *handler) issueReset(r *request) (int, any, error) {
	var in struct {
		Email string `json:"email"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, nil, h.manager.IssuePasswordReset(r.Context(), in.Email)
}

func (h *handler) verifyReset(r *request) (int, any, error) {
	var in struct {
		Token    string `json:"token"`
		Password string `json:"password"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, nil, h.manager.VerifyPasswordReset(r.Context(), in.Token, in.Password)
}

func (h *handler) renewToken(r *request) (int, any, error) {
	var in struct {
		TokenTimeoutSeconds *int64 `json:"tokenTimeoutSeconds"`
	}
	if err := decodeOptional(r, &in); err != nil {
		return 0, nil, err
	}
	c, err := h.manager.RenewToken(r.Context(), r.Header.Get(HeaderAPIKey), r.Header.Get(HeaderToken), seconds(in.TokenTimeoutSeconds))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, struct {
		Token string `json:"token"`
	}{c.Token}, nil
}

func (h *handler) revokeOperatorTokens(r *request) (int, any, error) {
	return http.StatusNoContent, nil, h.manager.RevokeTokens(r.Context(), manager.Principal{OperatorID: r.principal.OperatorID}, true)
}

func (h *handler) revokeUserTokens(r *request) (int, any, error) {
	return http.StatusNoContent, nil, h.manager.RevokeTokens(r.Context(), r.user(), false)
}

// Message is what would be a mail if the testbed had any.
type Message struct {
	ID          string `json:"id"`
	To          string `json:"to"`
	Kind        string `json:"kind"` // "passwordReset"
	Token       string `json:"token"`
	CreatedTime int64  `json:"createdTime"` // milliseconds since 1970
	ExpiredTime int64  `json:"expiredTime"` // of the token
}

func (h *handler) outbox(r *request) (int, any, error) {
	ms, err := h.manager.Outbox(r.Context(), r.principal.OperatorID)
	if err != nil {
		return 0, nil, err
	}
	out := make([]Message, len(ms))
	for i, m := range ms {
		out[i] = Message{ID: m.ID, To: m.To, Kind: m.Kind, Token: m.Token, CreatedTime: m.Created.UnixMilli(), ExpiredTime: m.Expires.UnixMilli()}
	}
	return http.StatusOK, out, nil
}
