package ue

import (
	"strings"

	"github.com/simreach/simreach/internal/wire/nas"
)

// identityRequest answers with the identity asked for, or with "no identity" when
// there is none (TS 24.501 clause 5.4.3.3). Unprotected requests for anything but
// the SUCI were discarded before.
func (m *machine) identityRequest(r *nas.IdentityRequest) {
	var id nas.MobileIdentity
	switch r.IdentityType {
	case nas.IdentitySUCI:
		s, err := m.concealed()
		if err != nil {
			m.log.Error("no SUCI", "error", err)
			return
		}
		id.SUCI = s
	case nas.IdentityGUTI:
		id.GUTI = m.guti
	case nas.IdentityIMEI:
		if strings.HasPrefix(string(m.cfg.PEI), "imei-") {
			id.PEI = m.cfg.PEI
		}
	case nas.IdentityIMEISV:
		if strings.HasPrefix(string(m.cfg.PEI), "imeisv-") {
			id.PEI = m.cfg.PEI
		}
	}
	m.send(&nas.IdentityResponse{Identity: id})
}

// concealed returns the SUCI sent before while T3519 runs, else a fresh one, with
// which T3519 starts (TS 24.501 clauses 5.4.3.3 and 5.5.1.2.2).
func (m *machine) concealed() (*nas.SUCI, error) {
	if m.suci == nil {
		s, err := m.cfg.conceal(m.rand)
		if err != nil {
			return nil, err
		}
		m.suci = s
		m.start(t3519, m.t.T3519)
	}
	return m.suci, nil
}
