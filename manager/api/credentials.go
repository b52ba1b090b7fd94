package api

import (
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"strings"

	"github.com/simreach/simreach/manager"
)

var credentialRoutes = []route{
	{"GET", "/v1/simreach/credentials", "Simreach:listCredentials", permitted, (*handler).credentials},
	{"POST", "/v1/simreach/credentials", "Simreach:createCredential", permitted, (*handler).createCredential},
	{"GET", "/v1/simreach/credentials/{credential_id}", "Simreach:getCredential", permitted, (*handler).credential},
	{"DELETE", "/v1/simreach/credentials/{credential_id}", "Simreach:revokeCredential", permitted, (*handler).revokeCredential},
	{"PUT", "/v1/simreach/credentials/{credential_id}/revoked_serials", "Simreach:setRevokedSerials", permitted, (*handler).setRevokedSerials},
}

// Credential is what client certificates are checked with (R1).
type Credential struct {
	CredentialID   string   `json:"credentialId"`
	Name           string   `json:"name"`
	CACertificate  string   `json:"caCertificate"` // PEM
	PublicKey      string   `json:"publicKey"`     // PEM
	CreatedAt      int64    `json:"createdAt"`     // milliseconds since 1970
	RevokedAt      *int64   `json:"revokedAt"`     // null: in force
	RevokedSerials []string `json:"revokedSerials"`
}

// CreateCredential is a request for a Credential: certificate and key are PEM, or DER in
// base64. Without a key the certificate's is taken.
type CreateCredential struct {
	Name          string `json:"name"`
	CACertificate string `json:"caCertificate"`
	PublicKey     string `json:"publicKey"`
}

// RevokedSerials are serial numbers of client certificates, in hexadecimal.
type RevokedSerials struct {
	Serials []string `json:"serials"`
}

func credentialView(c manager.Credential) Credential {
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	out := Credential{
		CredentialID: string(c.ID), Name: c.Name, CACertificate: encode("CERTIFICATE", c.CA), PublicKey: encode("PUBLIC KEY", c.PublicKey),
		CreatedAt: c.Created.UnixMilli(), RevokedAt: millis(c.Revoked), RevokedSerials: c.RevokedSerials,
	}
	if out.RevokedSerials == nil {
		out.RevokedSerials = []string{}
	}
	return out
}

func (h *handler) credentials(r *request) (int, any, error) {
	p, err := r.page(usualRecords, maxPage)
	if err != nil {
		return 0, nil, err
	}
	cs, err := h.manager.Credentials(r.Context(), manager.CredentialQuery{OperatorID: r.principal.OperatorID, After: manager.CredentialID(p.After), Limit: p.Limit})
	if err != nil {
		return 0, nil, err
	}
	cs = cut(r, p, cs, func(c manager.Credential) string { return string(c.ID) })
	out := make([]Credential, len(cs))
	for i, c := range cs {
		out[i] = credentialView(c)
	}
	return http.StatusOK, out, nil
}

func (h *handler) createCredential(r *request) (int, any, error) {
	var c CreateCredential
	if err := decode(r, &c); err != nil {
		return 0, nil, err
	}
	n := manager.NewCredential{Name: c.Name}
	var err error
	if n.CA, err = pemOrBase64("caCertificate", c.CACertificate); err != nil {
		return 0, nil, err
	}
	if n.PublicKey, err = pemOrBase64("publicKey", c.PublicKey); err != nil {
		return 0, nil, err
	}
	made, err := h.manager.RegisterCredential(r.Context(), r.principal.OperatorID, n)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, credentialView(made), nil
}

func pemOrBase64(name, s string) ([]byte, error) {
	if s == "" || strings.Contains(s, "-----BEGIN ") {
		return []byte(s), nil
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
	if err != nil {
		return nil, &manager.Error{Code: manager.CodeBadCredential, Args: []any{manager.DetailNotPEM.Of(name)}, Err: err}
	}
	return b, nil
}

func (h *handler) credential(r *request) (int, any, error) {
	c, err := h.manager.OperatorCredential(r.Context(), r.principal.OperatorID, manager.CredentialID(r.PathValue("credential_id")))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, credentialView(c), nil
}

func (h *handler) revokeCredential(r *request) (int, any, error) {
	if err := h.manager.RevokeCredential(r.Context(), r.principal.OperatorID, manager.CredentialID(r.PathValue("credential_id"))); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, nil
}

func (h *handler) setRevokedSerials(r *request) (int, any, error) {
	var s RevokedSerials
	if err := decode(r, &s); err != nil {
		return 0, nil, err
	}
	c, err := h.manager.SetRevokedSerials(r.Context(), r.principal.OperatorID, manager.CredentialID(r.PathValue("credential_id")), s.Serials)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, credentialView(c), nil
}
