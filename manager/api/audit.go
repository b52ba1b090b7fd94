package api

import (
	"encoding/json"
	"net/http"
	"net/netip"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
)

var auditRoutes = []route{
	{"GET", "/v1/audit_logs/napter", "AuditLog:getNapterAuditLogs", rootOnly, (*handler).auditLog},
	{"GET", "/v1/stats/napter/audit_logs", "Stats:getNapterAuditLogsExportedDataStats", permitted, (*handler).auditExports},
	{"GET", "/v1/logs", "Log:getLogs", permitted, (*handler).errorLog},
	{"POST", "/v1/operators/{operator_id}/contracts", "Operator:addOperatorContract", permitted, (*handler).addContract},
	{"DELETE", "/v1/operators/{operator_id}/contracts/{contract_name}", "Operator:deleteOperatorContract", permitted, (*handler).deleteContract},
}

// usualRecords is how many records a page has unless more are asked for.
const usualRecords = 100

// AuditRecord is a line of the audit log of port mappings (N7).
type AuditRecord struct {
	ConnectionID string     `json:"connectionId"` // empty for the life of a port mapping
	CreatedAt    int64      `json:"createdAt"`    // milliseconds since 1970
	Direction    *Direction `json:"direction"`    // null for the life of a port mapping
	IMSI         string     `json:"imsi"`
	OperatorID   string     `json:"operatorId"`
	TLS          bool       `json:"tls"`
	Type         string     `json:"type"`
}

// Direction is the two ends of a connection. The destination's address is empty while it
// is not known.
type Direction struct {
	SourceIPAddress      string `json:"sourceIPAddress"`
	SourcePort           int    `json:"sourcePort"`
	DestinationIPAddress string `json:"destinationIPAddress"`
	DestinationPort      int    `json:"destinationPort"`
}

// LogEntry is a line of the error log (N9).
type LogEntry struct {
	Body         LogBody `json:"body"`
	LogLevel     string  `json:"logLevel"` // error: the device was not reached; warning: it was
	OperatorID   string  `json:"operatorId"`
	ResourceID   string  `json:"resourceId"` // the IMSI
	ResourceType string  `json:"resourceType"`
	Service      string  `json:"service"`
	Time         int64   `json:"time"` // milliseconds since 1970
}

// LogBody says what failed and why.
type LogBody struct {
	Code         string     `json:"code"`
	Message      string     `json:"message"`
	Cause        string     `json:"cause"`
	Type         string     `json:"type"` // of the audit record
	ConnectionID string     `json:"connectionId"`
	Direction    *Direction `json:"direction"`
}

func (h *handler) auditLog(r *request) (int, any, error) {
	p, q, err := r.auditQuery()
	if err != nil {
		return 0, nil, err
	}
	rs, err := h.manager.Audit(r.Context(), q)
	if err != nil {
		return 0, nil, err
	}
	rs = cut(r, p, rs, manager.AuditKey)
	out := make([]AuditRecord, len(rs))
	for i, a := range rs {
		out[i] = AuditRecord{
			ConnectionID: a.ConnectionID, CreatedAt: a.At.UnixMilli(), Direction: direction(a), IMSI: string(a.IMSI),
			OperatorID: string(a.OperatorID), TLS: a.TLS, Type: string(a.Type),
		}
	}
	text, err := json.Marshal(out)
	if err != nil {
		return 0, nil, err
	}
	if len(out) > 0 {
		if err := h.manager.CountAuditExport(r.Context(), q.OperatorID, int64(len(text))); err != nil {
			return 0, nil, err
		}
	}
	return http.StatusOK, json.RawMessage(text), nil
}

func (h *handler) errorLog(r *request) (int, any, error) {
	v := r.URL.Query()
	// There are other kinds of resource and other services: nothing of theirs is here.
	if s := v.Get("service"); s != "" && s != "Napter" {
		return http.StatusOK, []LogEntry{}, nil
	}
	if t := v.Get("resource_type"); t != "" && t != "Subscriber" {
		return http.StatusOK, []LogEntry{}, nil
	}
	p, q, err := r.auditQuery()
	if err != nil {
		return 0, nil, err
	}
	fs, err := h.manager.ErrorLog(r.Context(), q)
	if err != nil {
		return 0, nil, err
	}
	fs = cut(r, p, fs, func(f manager.Failure) string { return manager.AuditKey(f.AuditRecord) })
	out := make([]LogEntry, len(fs))
	for i, f := range fs {
		level := "error"
		if f.Type == manager.AuditClosed {
			level = "warning"
		}
		out[i] = LogEntry{
			Body: LogBody{
				Code: string(f.Code), Message: f.Message(language(r.Request)), Cause: string(f.Cause), Type: string(f.Type),
				ConnectionID: f.ConnectionID, Direction: direction(f.AuditRecord),
			},
			LogLevel: level, OperatorID: string(f.OperatorID), ResourceID: string(f.IMSI), ResourceType: "Subscriber", Service: "Napter",
			Time: f.At.UnixMilli(),
		}
	}
	return http.StatusOK, out, nil
}

// auditQuery reads what both logs are asked with: resource_type and resource_id, from
// (inclusive) and to (inclusive, milliseconds), and the page.
func (r *request) auditQuery() (page, manager.AuditQuery, error) {
	q := manager.AuditQuery{OperatorID: r.principal.OperatorID}
	p, err := r.page(usualRecords, maxPage)
	if err != nil {
		return p, q, err
	}
	q.Before, q.Limit = p.After, p.Limit
	v := r.URL.Query()
	if kind, id := v.Get("resource_type"), v.Get("resource_id"); kind != "" || id != "" {
		if kind != "Subscriber" {
			return p, q, manager.NewError(manager.CodeBadResource)
		}
		if q.IMSI, err = ident.ParseIMSI(id); err != nil {
			return p, q, manager.NewError(manager.CodeBadResource)
		}
	}
	if q.From, err = r.millis("from"); err != nil {
		return p, q, err
	}
	if q.To, err = r.millis("to"); err == nil && !q.To.IsZero() {
		q.To = q.To.Add(1e6) // one millisecond: AuditQuery has it exclusive
	}
	return p, q, err
}

func direction(a manager.AuditRecord) *Direction {
	if a.ConnectionID == "" {
		return nil
	}
	d := &Direction{DestinationPort: int(a.DevicePort)}
	if a.Source.IsValid() {
		d.SourceIPAddress, d.SourcePort = a.Source.Addr().String(), int(a.Source.Port())
	}
	if a.Destination != (netip.AddrPort{}) {
		d.DestinationIPAddress, d.DestinationPort = a.Destination.Addr().String(), int(a.Destination.Port())
	}
	return d
}

// AuditExports is how many bytes of audit records an operator has read in a month.
type AuditExports struct {
	ExportedBytes int64  `json:"exportedBytes"`
	YearMonth     string `json:"yearMonth"` // YYYYMM, UTC
}

func (h *handler) auditExports(r *request) (int, any, error) {
	month := r.URL.Query().Get("year_month")
	n, err := h.manager.AuditExport(r.Context(), r.principal.OperatorID, month)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, AuditExports{n, month}, nil
}

// Contract names an option.
type Contract struct {
	ContractName string `json:"contractName"`
}

func (h *handler) addContract(r *request) (int, any, error) {
	var c Contract
	if err := decode(r, &c); err != nil {
		return 0, nil, err
	}
	if err := h.manager.AddContract(r.Context(), r.principal.OperatorID, c.ContractName); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, c, nil
}

func (h *handler) deleteContract(r *request) (int, any, error) {
	if err := h.manager.DeleteContract(r.Context(), r.principal.OperatorID, r.PathValue("contract_name")); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, nil
}
