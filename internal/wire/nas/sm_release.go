package nas

func (m *PDUSessionReleaseRequest) encode(w *writer) { w.putOptSMCause(m.Cause) }
func (m *PDUSessionReleaseRequest) decode(r *reader) { m.Cause = r.smCause() }

func (m *PDUSessionReleaseReject) encode(w *writer) { w.putSMCause(m.Cause) }
func (m *PDUSessionReleaseReject) decode(r *reader) { m.Cause = r.smCause() }

func (m *PDUSessionReleaseCommand) encode(w *writer) { w.putSMCause(m.Cause) }
func (m *PDUSessionReleaseCommand) decode(r *reader) { m.Cause = r.smCause() }

func (m *PDUSessionReleaseComplete) encode(w *writer) { w.putOptSMCause(m.Cause) }
func (m *PDUSessionReleaseComplete) decode(r *reader) { m.Cause = r.smCause() }

func (m *SMStatus) encode(w *writer) { w.putSMCause(m.Cause) }
func (m *SMStatus) decode(r *reader) { m.Cause = r.smCause() }
