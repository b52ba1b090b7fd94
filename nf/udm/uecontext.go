package udm

import (
	"context"
	"net/http"
	"slices"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

// RegisterAMF implements sbi.UEContext (TS 29.503 clause 5.3.2.2.2). The last
// registration holds; an AMF that held the one before is not told. A barred subscriber
// gives a Problem NO_PS_SUBSCRIPTION (403).
func (u *UDM) RegisterAMF(ctx context.Context, supi ident.SUPI, r sbi.AMFRegistration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	u.mu.Lock()
	s, err := u.servedLocked(supi)
	if err != nil {
		u.mu.Unlock()
		return err
	}
	u.amfs[supi] = r
	before := s.pei
	if r.PEI != "" {
		s.pei = r.PEI
	}
	u.mu.Unlock()
	if before != "" && r.PEI != "" && r.PEI != before {
		u.tell(sbi.EquipmentEvent{Type: sbi.EquipmentChanged, SUPI: supi, PEI: r.PEI, Old: before})
	}
	return nil
}

// DeregisterAMF implements sbi.UEContext (TS 29.503 clause 5.3.2.4.2). An empty amf
// stands for whichever is registered. A UE that is registered nowhere, or by
// another AMF meanwhile, is left alone and gives a Problem CONTEXT_NOT_FOUND.
func (u *UDM) DeregisterAMF(ctx context.Context, supi ident.SUPI, amf sbi.NFID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, err := u.knownLocked(supi); err != nil {
		return err
	}
	r, ok := u.amfs[supi]
	if !ok || (amf != "" && r.AMF != amf) {
		return problem(http.StatusNotFound, sbi.CauseContextNotFound, "%s is not registered by AMF %s", supi, amf)
	}
	delete(u.amfs, supi)
	return nil
}

// Registration returns the AMF where supi is registered.
func (u *UDM) Registration(supi ident.SUPI) (r sbi.AMFRegistration, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	r, ok = u.amfs[supi]
	return r, ok
}

// RegisterSMF implements sbi.UEContext (TS 29.503 clause 5.3.2.2.4).
func (u *UDM) RegisterSMF(ctx context.Context, supi ident.SUPI, r sbi.SMFRegistration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.Session < 1 || r.Session > 15 {
		return problem(http.StatusBadRequest, sbi.CauseMandatoryIEIncorrect, "pduSessionId %d: want 1 to 15", r.Session)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, err := u.knownLocked(supi); err != nil {
		return err
	}
	regs := slices.DeleteFunc(u.smfs[supi], func(o sbi.SMFRegistration) bool { return o.Session == r.Session })
	u.smfs[supi] = append(regs, r)
	return nil
}

// DeregisterSMF implements sbi.UEContext (TS 29.503 clause 5.3.2.4.4). A session
// that is not registered gives a Problem CONTEXT_NOT_FOUND.
func (u *UDM) DeregisterSMF(ctx context.Context, supi ident.SUPI, id ident.PDUSessionID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, err := u.knownLocked(supi); err != nil {
		return err
	}
	before := len(u.smfs[supi])
	regs := slices.DeleteFunc(u.smfs[supi], func(o sbi.SMFRegistration) bool { return o.Session == id })
	switch {
	case len(regs) == before:
		return problem(http.StatusNotFound, sbi.CauseContextNotFound, "%s has no PDU session %d registered", supi, id)
	case len(regs) == 0:
		delete(u.smfs, supi)
	default:
		u.smfs[supi] = regs
	}
	return nil
}
