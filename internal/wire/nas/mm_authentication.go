package nas

import "errors"

func (m *AuthenticationRequest) encode(w *writer) {
	w.put("SpareHalfOctetAndNgksi", ngksiValue(m.NGKSI))
	w.put("ABBA", m.ABBA...)
	w.put("AuthenticationParameterRAND", m.RAND[:]...)
	w.put("AuthenticationParameterAUTN", m.AUTN[:]...)
}

var errNoChallenge = errors.New("RAND or AUTN missing: EAP based authentication is not supported")

func (m *AuthenticationRequest) decode(r *reader) {
	m.NGKSI = parseNGKSI(r.octet("SpareHalfOctetAndNgksi") & 0xf)
	m.ABBA = mandatory(r, "ABBA", octets)
	rand, ok1 := r.get("AuthenticationParameterRAND")
	autn, ok2 := r.get("AuthenticationParameterAUTN")
	if !ok1 || !ok2 {
		r.fail(MMConditionalIE, errNoChallenge)
		return
	}
	m.RAND, m.AUTN = [16]byte(rand), [16]byte(autn)
}

func (m *AuthenticationResponse) encode(w *writer) {
	if len(m.RESStar) > 0 {
		w.put("AuthenticationResponseParameter", m.RESStar...)
	}
}

func (m *AuthenticationResponse) decode(r *reader) {
	m.RESStar = optional(r, "AuthenticationResponseParameter", octets)
}

func (m *AuthenticationReject) encode(*writer) {}
func (m *AuthenticationReject) decode(*reader) {}

func (m *AuthenticationFailure) encode(w *writer) {
	w.put("Cause5GMM", byte(m.Cause))
	if len(m.AUTS) > 0 {
		w.put("AuthenticationFailureParameter", m.AUTS...)
	}
}

var errNoAUTS = errors.New("synch failure without AUTS")

func (m *AuthenticationFailure) decode(r *reader) {
	m.Cause = MMCause(r.octet("Cause5GMM"))
	m.AUTS = optional(r, "AuthenticationFailureParameter", octets)
	if m.Cause == MMSynchFailure && m.AUTS == nil {
		r.fail(MMConditionalIE, errNoAUTS)
	}
}

func (m *IdentityRequest) encode(w *writer) {
	w.put("SpareHalfOctetAndIdentityType", m.IdentityType&7)
}

func (m *IdentityRequest) decode(r *reader) {
	m.IdentityType = r.octet("SpareHalfOctetAndIdentityType") & 7
}

func (m *IdentityResponse) encode(w *writer) {
	v, err := identityValue(m.Identity)
	w.putValue("MobileIdentity", v, err)
}

func (m *IdentityResponse) decode(r *reader) {
	m.Identity = mandatory(r, "MobileIdentity", parseIdentity)
}
