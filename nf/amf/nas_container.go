package amf

import (
	"log/slog"

	"github.com/simreach/simreach/internal/wire/nas"
)

// openContainer replaces a verified initial message by the complete one in its NAS
// message container, which the UE ciphered under the current context (TS 24.501
// clause 4.4.6). A container that does not decipher to the same kind of message
// makes the AMF ask for it again in SECURITY MODE COMMAND.
func (u *ue) openContainer(m nas.Message) nas.Message {
	if !u.secure {
		return m
	}
	var container []byte
	switch m := m.(type) {
	case *nas.RegistrationRequest:
		container = m.NASContainer
	case *nas.ServiceRequest:
		container = m.NASContainer
	default:
		return m
	}
	u.resend = false
	if len(container) == 0 {
		return m
	}
	plain, err := u.sec.DecipherContainer(container)
	if err == nil {
		var inner nas.Message
		if inner, err = nas.Decode(plain); err == nil && inner.Type() == m.Type() {
			return inner
		}
	}
	u.a.stats.nasUndecodable.Add(1)
	u.log(slog.LevelDebug, "NAS message container not understood", "error", err)
	u.resend = true
	return m
}
