package relay

import (
	"encoding/binary"
	"syscall"

	"golang.org/x/sys/unix"
)

// Frames let a connection between two relays outlive the one that it carries: for a short
// one, most of the work is to set it up and to take it down. Each direction is a sequence
// of frames, which begin with two bytes in network order:
//
//	1 to 16383     so many bytes follow
//	0x8000 fin     the direction has ended, as with FIN
//	0x8001 raw     what follows are the direction's bytes up to FIN, without frames, and the
//	               connection serves no further device
//	0x8002 free    from the inner relay: both directions have ended with fin, and it reads
//	               another request
//	0x8003 bye     from the inner relay, after free: it reads no request, not even one that
//	               is on its way
//
// A direction is raw from its 16,384th byte on: it can be spliced, and a long connection
// gains nothing by the frames. FIN without fin or raw is a failure, and a reset is a reset.
const (
	frameHead = 2
	frameMax  = 1<<14 - 1

	frameFin  = 0x8000
	frameRaw  = 0x8001
	frameFree = 0x8002
	frameBye  = 0x8003
)

// framing is what a direction between a framed and another socket remembers.
type framing struct {
	framed bool   // until raw
	begun  bool   // first is the first byte of a frame, and its second one is to come
	said   bool   // fin was sent
	free   bool   // free was received, or sent
	first  byte   // of a frame
	owed   uint8  // how many of the pending bytes, the first ones, are no payload
	count  uint16 // payload bytes: received, those of the frame that are to come; sent, all
}

// wrap writes the head of a frame with n bytes, of which there is at least one.
func (f *framing) wrap(head []byte, n int) {
	if n > frameMax-int(f.count) {
		f.framed = false
		binary.BigEndian.PutUint16(head, frameRaw)
		return
	}
	f.count += uint16(n)
	binary.BigEndian.PutUint16(head, uint16(n))
}

// unwrap takes the heads of frames out of b and returns the payload, which is in b, too.
// fin is whether the direction ends with it. Nobody looks whether an outer relay has said
// free, which means nothing from it.
func (f *framing) unwrap(b []byte) (payload []byte, fin bool, e syscall.Errno) {
	payload = b[:0]
	for len(b) > 0 {
		switch {
		case f.count > 0:
			n := min(int(f.count), len(b))
			payload = append(payload, b[:n]...)
			f.count -= uint16(n)
			b = b[n:]
			continue
		case !f.begun:
			f.first, f.begun = b[0], true
			b = b[1:]
			continue
		}
		head := uint16(f.first)<<8 | uint16(b[0])
		f.begun = false
		b = b[1:]
		switch {
		case fin && head == frameFree && !f.free:
			f.free = true
		case fin && head == frameBye && f.free:
			f.free = false
		case fin || head == 0:
			return nil, false, unix.EPROTO
		case head <= frameMax:
			f.count = head
		case head == frameFin:
			fin = true
		case head == frameRaw:
			f.framed = false
			return append(payload, b...), false, 0
		default:
			return nil, false, unix.EPROTO
		}
	}
	return payload, fin, 0
}

// frames returns heads of frames as they are sent.
func frames(heads ...uint16) (b []byte) {
	for _, h := range heads {
		b = binary.BigEndian.AppendUint16(b, h)
	}
	return b
}
