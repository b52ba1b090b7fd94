package amf

import (
	"fmt"
	"log/slog"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/wire/ngap"
)

// setupContext is Initial Context Setup (TS 38.413 clause 8.3.1): it gives the gNB
// the UE context with K_gNB, and takes NAS and PDU session resources along. With a
// context set up or under way already, the parts go their own ways.
func (u *ue) setupContext(nasPDU []byte, setups []ngap.SessionSetup) {
	c := u.conn
	if c == nil {
		return
	}
	if c.context != contextNone {
		u.downlinkPDU(nasPDU)
		u.setupResources(setups)
		return
	}
	c.context = contextPending
	m := &ngap.InitialContextSetupRequest{
		IDs: c.ids(), GUAMI: u.a.cfg.GUAMI, Sessions: setups, AllowedNSSAI: u.allowed,
		SecurityKey: aka.KGNB(u.kamf, u.kgnbCount), NAS: nasPDU,
	}
	if u.caps != nil {
		m.EA, m.IA = u.caps.EA, u.caps.IA
	}
	if len(setups) > 0 {
		// The UE-AMBR IE is for UEs with PDU session resources (clause 9.2.2.1).
		m.AMBR = u.wireAMBR()
	}
	if nasPDU != nil {
		u.a.stats.nasSent.Add(1)
	}
	u.send(c, m)
	u.start(timerContext, u.a.cfg.N2Timeout)
}

// contextSetUp takes INITIAL CONTEXT SETUP RESPONSE.
func (u *ue) contextSetUp(c *n2conn, m *ngap.InitialContextSetupResponse) {
	if u.conn != c || c.context != contextPending {
		u.a.stats.ngapStale.Add(1)
		return
	}
	u.stop(timerContext)
	c.context = contextReady
	u.resourcesSetUp(m.Sessions, m.Failed)
	for _, w := range c.waiting {
		u.send(c, w)
	}
	c.waiting = nil
}

// contextSetupFailed takes INITIAL CONTEXT SETUP FAILURE. The NAS message inside
// may not have reached the UE and there is no UE context at the gNB: the
// connection is released, which is a lower layer failure to the 5GMM procedure.
func (u *ue) contextSetupFailed(c *n2conn, m *ngap.InitialContextSetupFailure) {
	if u.conn != c || c.context != contextPending {
		u.a.stats.ngapStale.Add(1)
		return
	}
	u.a.stats.contextSetupFailures.Add(1)
	u.log(slog.LevelWarn, "initial context setup failed",
		"error", fmt.Errorf("initial context setup: %w", &RejectedByGNB{Procedure: m.Procedure(), Cause: m.Cause}))
	u.stop(timerContext)
	u.resourcesSetUp(nil, m.Failed)
	u.releaseN2(m.Cause)
	u.abort()
}
