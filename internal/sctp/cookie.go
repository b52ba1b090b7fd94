package sctp

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"
)

// cookieLife is Valid.Cookie.Life (RFC 9260 clause 16).
const cookieLife = 60 * time.Second

// cookie is all we keep of a handshake between INIT and COOKIE ECHO, and we keep
// it at the peer (clause 5.1.3): an INIT costs no memory here.
type cookie struct {
	issued            time.Time
	peer              netip.Addr
	local, remote     uint16 // ports
	localTag, peerTag uint32
	localTie, peerTie uint32 // tags of the association that existed then, or zero
	localTSN          uint32
	peerInit          initChunk // its tag is peerTag
}

const cookieBody = 8 + 16 + 2 + 2 + 4*4 + 4 + 12
const cookieSize = cookieBody + sha256.Size

func (c cookie) seal(secret []byte) []byte {
	b := make([]byte, 0, cookieSize)
	b = binary.BigEndian.AppendUint64(b, uint64(c.issued.UnixNano()))
	addr := c.peer.As16()
	b = append(b, addr[:]...)
	b = binary.BigEndian.AppendUint16(b, c.local)
	b = binary.BigEndian.AppendUint16(b, c.remote)
	for _, v := range []uint32{c.localTag, c.peerTag, c.localTie, c.peerTie, c.localTSN, c.peerInit.window} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	b = binary.BigEndian.AppendUint16(b, c.peerInit.outbound)
	b = binary.BigEndian.AppendUint16(b, c.peerInit.inbound)
	b = binary.BigEndian.AppendUint32(b, c.peerInit.tsn)
	mac := hmac.New(sha256.New, secret)
	mac.Write(b)
	return mac.Sum(b)
}

// openCookie reports false for a cookie that we did not make.
func openCookie(b, secret []byte) (cookie, bool) {
	if len(b) != cookieSize {
		return cookie{}, false
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write(b[:cookieBody])
	if !hmac.Equal(mac.Sum(nil), b[cookieBody:]) {
		return cookie{}, false
	}
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }
	u16 := func(at int) uint16 { return binary.BigEndian.Uint16(b[at:]) }
	c := cookie{
		issued:   time.Unix(0, int64(binary.BigEndian.Uint64(b))),
		peer:     netip.AddrFrom16([16]byte(b[8:24])).Unmap(),
		local:    u16(24),
		remote:   u16(26),
		localTag: u32(28), peerTag: u32(32),
		localTie: u32(36), peerTie: u32(40),
		localTSN: u32(44),
		peerInit: initChunk{window: u32(48), outbound: u16(52), inbound: u16(54), tsn: u32(56)},
	}
	c.peerInit.tag = c.peerTag
	return c, true
}
