package nas

func (w *writer) putSMCause(c SMCause) { w.put("Cause5GSM", byte(c)) }

// putOptSMCause leaves a zero cause out.
func (w *writer) putOptSMCause(c SMCause) {
	if c != 0 {
		w.putSMCause(c)
	}
}

func (r *reader) smCause() SMCause { return SMCause(r.octet("Cause5GSM")) }

func (m *PDUSessionModificationRequest) encode(w *writer) { w.putOptSMCause(m.Cause) }
func (m *PDUSessionModificationRequest) decode(r *reader) { m.Cause = r.smCause() }

func (m *PDUSessionModificationReject) encode(w *writer) { w.putSMCause(m.Cause) }
func (m *PDUSessionModificationReject) decode(r *reader) { m.Cause = r.smCause() }

func (m *PDUSessionModificationCommand) encode(w *writer) {
	w.putOptSMCause(m.Cause)
	if m.AMBR != nil {
		w.put("SessionAMBR", ambrValue(*m.AMBR)...)
	}
}

func (m *PDUSessionModificationCommand) decode(r *reader) {
	m.Cause = r.smCause()
	m.AMBR = optionalPtr(r, "SessionAMBR", parseAMBR)
}

func (m *PDUSessionModificationComplete) encode(*writer) {}
func (m *PDUSessionModificationComplete) decode(*reader) {}

func (m *PDUSessionModificationCommandReject) encode(w *writer) { w.putSMCause(m.Cause) }
func (m *PDUSessionModificationCommandReject) decode(r *reader) { m.Cause = r.smCause() }
