package amf

import (
	"log/slog"

	"github.com/simreach/simreach/internal/wire/ngap"
)

// contextReleaseRequest takes UE CONTEXT RELEASE REQUEST: AN release asked for by
// the gNB (TS 38.413 clause 8.3.2; TS 23.502 clause 4.2.6). The UE goes to CM-IDLE
// and stays registered.
func (u *ue) contextReleaseRequest(c *n2conn, m *ngap.UEContextReleaseRequest) {
	if u.conn != c {
		u.a.stats.ngapStale.Add(1)
		return
	}
	u.log(slog.LevelDebug, "gNB requests UE context release", "cause", m.Cause)
	u.releaseN2(m.Cause)
	u.abort()
}

// contextReleaseComplete takes UE CONTEXT RELEASE COMPLETE (clause 8.3.3), the last
// message of a connection: an erroneous identifier in it is not answered, only the
// connection that has it released (clause 10.6).
func (a *AMF) contextReleaseComplete(g *gnb, m *ngap.UEContextReleaseComplete) {
	c, _, v := a.reg.find(g, m.IDs)
	if v == idsInconsistent && c != nil {
		a.stats.ngapUnknownUE.Add(1)
		a.connsLost([]*n2conn{c})
		a.reg.dropConn(c)
		return
	}
	if v != idsOK || !a.reg.isReleasing(c) {
		a.stats.ngapStale.Add(1)
		return
	}
	a.reg.dropConn(c)
}
