package amf

import (
	"context"
	"crypto/subtle"
	"log/slog"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/sbi"
)

// authentication is the state of a 5G AKA run (TS 33.501 clause 6.1.3.2).
type authentication struct {
	identity  string // SUCI, or the SUPI a 5G-GUTI stands for
	fromGUTI  bool   // identity came from a 5G-GUTI and may be wrong
	snn       string
	challenge sbi.AuthenticationContext
	ksi       nas.NGKSI
	resynced  bool  // synchronisation was repaired once
	ksiTried  uint8 // how many ngKSIs the UE refused
}

// abba is the ABBA of the initial release (TS 33.501 annex A.7.1).
func abba() []byte { return []byte{0, 0} }

// authenticate starts 5G AKA (TS 24.501 clause 5.4.1.3) for a SUCI or SUPI.
func (u *ue) authenticate(identity string, fromGUTI bool) {
	ksi := u.nextKSI()
	u.auth = authentication{
		identity: identity, fromGUTI: fromGUTI, ksi: ksi,
		snn: u.location().TAI.PLMN.ServingNetworkName(),
	}
	u.requestVector(nil)
}

// nextKSI picks an ngKSI that is neither the current context's nor the one the UE
// says it holds (TS 24.501 clause 5.4.1.3.2).
func (u *ue) nextKSI() nas.NGKSI {
	used := [8]bool{nas.NoKey: true}
	if u.sec != nil {
		used[u.sec.NGKSI()&7] = true
	}
	switch m := u.initial.(type) {
	case *nas.RegistrationRequest:
		used[m.NGKSI&7] = true
	case *nas.DeregistrationRequest:
		used[m.NGKSI&7] = true
	}
	for k := range used {
		if !used[k] {
			return nas.NGKSI(k)
		}
	}
	return 0
}

// requestVector asks the AUSF for a challenge, with the UE's AUTS if it has one.
func (u *ue) requestVector(r *sbi.Resync) {
	u.setState(stateWaiting)
	req := sbi.AuthenticationRequest{SUPIOrSUCI: u.auth.identity, ServingNetworkName: u.auth.snn, Resync: r}
	u.a.stats.authentications.Add(1)
	u.call(func(ctx context.Context) func(*ue) {
		av, err := u.a.ausf.Authenticate(ctx, req)
		return func(u *ue) { u.challenged(av, err) }
	}, func(u *ue) { u.challenged(sbi.AuthenticationContext{}, errOverload) })
}

// challenged sends the challenge, or tells the UE why there is none.
func (u *ue) challenged(av sbi.AuthenticationContext, err error) {
	if err != nil {
		u.a.stats.authenticationFailures.Add(1)
		u.log(slog.LevelWarn, "authentication refused by AUSF", "error", err)
		switch problemCause(err) {
		case sbi.CauseUserNotFound:
			// TS 24.501 annex A.1: #3 "an identity of the UE is not acceptable to the network".
			u.refuse(nas.MMIllegalUE)
		case sbi.CauseServingNetwork:
			// TS 24.501 annex A: "the serving network fails to be authorized by the UE's
			// home network".
			u.refuse(nas.MMServingNetworkNotAuthorized)
		case sbi.CauseAuthenticationRejected:
			u.authenticationReject() // no cause: the UE is not the subscriber
		default:
			u.refuse(nas.MMProtocolError)
		}
		return
	}
	u.auth.challenge = av
	u.sendChallenge()
}

// sendChallenge sends AUTHENTICATION REQUEST, guarded by T3560.
func (u *ue) sendChallenge() {
	u.setState(stateAuthentication)
	send := func() {
		u.downlink(&nas.AuthenticationRequest{
			NGKSI: u.auth.ksi, ABBA: abba(), RAND: u.auth.challenge.RAND, AUTN: u.auth.challenge.AUTN,
		})
	}
	send()
	u.guard(u.a.cfg.T3560, send, u.abandoned)
}

// authenticationResponse checks HRES* against HXRES* (TS 33.501 clause 6.1.3.2.0
// step 9) and lets the AUSF confirm RES*.
func (u *ue) authenticationResponse(m nas.Message) {
	u.endRetransmission()
	res := m.(*nas.AuthenticationResponse).RESStar
	if len(res) != 16 {
		u.wrongResponse("RES* has the wrong length")
		return
	}
	h := aka.HXRESStar(u.auth.challenge.RAND, [16]byte(res))
	if subtle.ConstantTimeCompare(h[:], u.auth.challenge.HXRESStar[:]) != 1 {
		u.wrongResponse("HRES* differs from HXRES*")
		return
	}
	u.setState(stateWaiting)
	id := u.auth.challenge.ID
	u.call(func(ctx context.Context) func(*ue) {
		conf, err := u.a.ausf.Confirm(ctx, id, res)
		return func(u *ue) { u.confirmed(conf, err) }
	}, func(u *ue) { u.confirmed(sbi.Confirmation{}, errOverload) })
}

func (u *ue) confirmed(conf sbi.Confirmation, err error) {
	switch {
	case err != nil:
		u.a.stats.authenticationFailures.Add(1)
		u.log(slog.LevelWarn, "AUSF could not confirm authentication", "error", err)
		u.refuse(nas.MMProtocolError)
	case !conf.Success:
		u.wrongResponse("AUSF refused RES*")
	case u.supi != "" && conf.SUPI != u.supi:
		u.wrongResponse("another SUPI than the context's")
	default:
		u.newKAMF = aka.KAMF(conf.KSEAF, conf.SUPI, abba())
		u.claim(conf.SUPI)
	}
}

// wrongResponse: "If the authentication response returned by the UE is not valid,
// the network response depends upon the type of identity used": after a 5G-GUTI
// the identity is asked for and authentication repeated, after a SUCI the UE is
// rejected (TS 24.501 clause 5.4.1.3.5).
func (u *ue) wrongResponse(why string) {
	u.a.stats.authenticationFailures.Add(1)
	u.log(slog.LevelWarn, "authentication failed", "reason", why)
	if u.auth.fromGUTI {
		u.identify()
		return
	}
	u.authenticationReject()
}

// authenticationReject ends with AUTHENTICATION REJECT.
func (u *ue) authenticationReject() {
	u.a.stats.authenticationRejects.Add(1)
	u.downlink(&nas.AuthenticationReject{})
	u.releaseN2(ngap.NASAuthenticationFailure)
	u.finish()
}

// authenticationFailure takes AUTHENTICATION FAILURE (TS 24.501 clause 5.4.1.3.7 c
// to f).
func (u *ue) authenticationFailure(m nas.Message) {
	u.endRetransmission()
	f := m.(*nas.AuthenticationFailure)
	u.a.stats.authenticationFailures.Add(1)
	u.log(slog.LevelWarn, "UE refuses authentication", "cause", f.Cause)
	switch f.Cause {
	case nas.MMSynchFailure:
		// f: re-synchronisation with the UE's AUTS, once; a second synch failure means
		// that the repair did not work.
		if u.auth.resynced || len(f.AUTS) != 14 {
			u.authenticationReject()
			return
		}
		u.auth.resynced = true
		u.a.stats.resynchronisations.Add(1)
		u.requestVector(&sbi.Resync{RAND: u.auth.challenge.RAND, AUTS: [14]byte(f.AUTS)})
	case nas.MMNGKSIInUse:
		// e: "the network performs necessary actions to select a new ngKSI and send the
		// same 5G authentication challenge to the UE."
		if u.auth.ksiTried++; u.auth.ksiTried >= uint8(nas.NoKey) {
			u.authenticationReject()
			return
		}
		u.auth.ksi = (u.auth.ksi + 1) % nas.NoKey
		u.sendChallenge()
	default: // c, d: MAC failure, non-5G authentication unacceptable
		if u.auth.fromGUTI {
			u.identify()
			return
		}
		u.authenticationReject()
	}
}

// claim makes this context the one of supi. A context that SUPI had before gives
// up its sessions first (see yield): the UE has one 5GMM context.
func (u *ue) claim(supi ident.SUPI) {
	u.supi = supi
	old := u.a.reg.claimSUPI(u, supi)
	if old == nil {
		u.securityMode()
		return
	}
	u.setState(stateWaiting)
	epoch := u.epoch
	u.out = append(u.out, postTo{
		to: old,
		f:  func(old *ue) { old.yield(u, epoch) },
		dead: func() {
			u.post(func(u *ue) { u.inherit(epoch, nil, false, "") })
		},
	})
}

// yield ends this context in favour of n, which authenticated as the same SUPI,
// perhaps at another gNB while the N2 connection here still stood. The sessions go
// to n.
func (u *ue) yield(n *ue, epoch uint64) {
	u.log(slog.LevelInfo, "superseded by a new registration of the same UE")
	u.a.stats.superseded.Add(1)
	u.releaseN2(ngap.NASNormalRelease)
	sessions, inUDM, pei := u.sessions, u.inUDM, u.udmPEI
	u.sessions, u.inUDM = nil, false
	u.finish()
	orphan := func() {
		for _, s := range sessions {
			s.release(sbi.ReleaseDeregistration)
		}
	}
	u.out = append(u.out, postTo{to: n, f: func(n *ue) { n.inherit(epoch, sessions, inUDM, pei) }, dead: orphan})
}

// inherit takes over the sessions of the UE's former context and goes on.
func (u *ue) inherit(epoch uint64, sessions map[ident.PDUSessionID]*smContext, inUDM bool, udmPEI ident.PEI) {
	if inUDM {
		u.inUDM, u.udmPEI = true, udmPEI
	}
	for id, s := range sessions {
		s.owner.Store(u)
		u.sessions[id] = s
	}
	if u.epoch == epoch {
		u.securityMode()
	}
}
