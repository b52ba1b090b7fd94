package api

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Logout ends the credentials.
func (c Client) Logout(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodPost, "/v1/auth/logout", nil, nil)
	return err
}

// CreateExtended makes a port mapping for each request (R9a), all or none.
func (c Client) CreateExtended(ctx context.Context, rs ...ExtendedRequest) ([]ExtendedMapping, error) {
	body := struct {
		Requests []ExtendedRequest `json:"requests"`
	}{rs}
	var ms []ExtendedMapping
	_, err := c.do(ctx, http.MethodPost, "/v1/simreach/port_mappings", body, &ms)
	return ms, err
}

// ListExtended returns all port mappings with all that the manager knows of them.
func (c Client) ListExtended(ctx context.Context) ([]ExtendedMapping, error) {
	return all[ExtendedMapping](ctx, c, "/v1/simreach/port_mappings")
}

// LogQuery selects entries of the logs, newest first.
type LogQuery struct {
	IMSI string // empty: any
	// From and To are inclusive, of millisecond precision. Zero: unbounded.
	From, To time.Time
	Limit    int    // the most on a page; 0: left to the server
	After    string // the key of the page; empty: the first
}

func (q LogQuery) values() url.Values {
	v := url.Values{}
	if q.IMSI != "" {
		v.Set("resource_type", "Subscriber")
		v.Set("resource_id", q.IMSI)
	}
	for name, t := range map[string]time.Time{"from": q.From, "to": q.To} {
		if !t.IsZero() {
			v.Set(name, strconv.FormatInt(t.UnixMilli(), 10))
		}
	}
	return v
}

// AuditLog returns one page of the audit log (N7) and the key of the next one, empty on
// the last. For the root user only.
func (c Client) AuditLog(ctx context.Context, q LogQuery) (page []AuditRecord, next string, err error) {
	return onePage[AuditRecord](ctx, c, "/v1/audit_logs/napter", q.values(), q.Limit, q.After)
}

// ErrorLog is AuditLog of the error log (N9), which any user may read that is permitted
// to.
func (c Client) ErrorLog(ctx context.Context, q LogQuery) (page []LogEntry, next string, err error) {
	v := q.values()
	v.Set("service", "Napter")
	return onePage[LogEntry](ctx, c, "/v1/logs", v, q.Limit, q.After)
}

// RegisterCredential registers what client certificates are checked with (R1, R2).
func (c Client) RegisterCredential(ctx context.Context, r CreateCredential) (Credential, error) {
	var made Credential
	_, err := c.do(ctx, http.MethodPost, "/v1/simreach/credentials", r, &made)
	return made, err
}

// ListCredentials returns all credentials, revoked ones too.
func (c Client) ListCredentials(ctx context.Context) ([]Credential, error) {
	return all[Credential](ctx, c, "/v1/simreach/credentials")
}

// Credential returns the credential with an ID.
func (c Client) Credential(ctx context.Context, id string) (Credential, error) {
	var got Credential
	_, err := c.do(ctx, http.MethodGet, "/v1/simreach/credentials/"+url.PathEscape(id), nil, &got)
	return got, err
}

// RevokeCredential ends a credential for good.
func (c Client) RevokeCredential(ctx context.Context, id string) error {
	_, err := c.do(ctx, http.MethodDelete, "/v1/simreach/credentials/"+url.PathEscape(id), nil, nil)
	return err
}

// SetRevokedSerials replaces the serial numbers that a credential lets in no more.
func (c Client) SetRevokedSerials(ctx context.Context, id string, serials []string) (Credential, error) {
	var got Credential
	_, err := c.do(ctx, http.MethodPut, "/v1/simreach/credentials/"+url.PathEscape(id)+"/revoked_serials", RevokedSerials{serials}, &got)
	return got, err
}

// onePage gets one page of a list.
func onePage[T any](ctx context.Context, c Client, path string, q url.Values, limit int, after string) (page []T, next string, err error) {
	q = maps.Clone(q)
	if q == nil {
		q = url.Values{}
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	if after != "" {
		q.Set("last_evaluated_key", after)
	}
	header, err := c.do(ctx, http.MethodGet, path+"?"+q.Encode(), nil, &page)
	if err != nil {
		return nil, "", err
	}
	return page, header.Get(HeaderNextKey), nil
}

// all gets every page of a list.
func all[T any](ctx context.Context, c Client, path string) ([]T, error) {
	var list []T
	for after := ""; ; {
		page, next, err := onePage[T](ctx, c, path, nil, maxPage, after)
		if err != nil {
			return nil, err
		}
		list = append(list, page...)
		if next == "" || next == after {
			return list, nil
		}
		after = next
	}
}
