// Package airlink carries ue.Air between the process of a gNB (Server) and one of
// UEs (Client). It is our own protocol: RRC and the layers below are not simulated,
// so there is no 3GPP form of this interface.
//
// A link is a TCP connection for control and a pair of UDP ports for user packets.
// The conversation:
//
//	client -> server   hello        who speaks, where its user packets arrive
//	server -> client   welcome      where the server's arrive
//	client -> server   cellRequest  answered by cell or cellFailed
//	client -> server   connect      answered by connected or refused
//	both ways          nas          NAS messages of an RRC connection
//	server -> client   bearerUp, bearerDown, released
//	client -> server   close
//	both ways          ping         every keepalive period
//
// Silence of more than four periods, or the end of TCP, ends the link: a radio link
// failure for every UE on it. A killed gNB is seen at once, by TCP's reset, where
// its host still answers.
//
// A frame is
//
//	0-3   length of what follows, 5 to 65,535
//	4     type
//	5-8   id: the RRC connection, or the number of a request, or 0
//	9-    payload, laid out beside each type below; numbers are big-endian
//
// A user datagram is
//
//	0     version, 1
//	1     PDU session ID
//	2     QFI uplink, 0 downlink
//	3     0
//	4-7   RRC connection
//	8-    the IP packet
//
// Datagrams for unknown connections or from strange addresses are counted and
// dropped. There is no protection of any kind: the link belongs on a test network.
//
// Client and Server own their goroutines and join them in Run. A server keeps one
// goroutine per RRC connection, a client none.
package airlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/ue"
)

// ErrProtocol is wrapped by errors about what the other side sent.
var ErrProtocol = errors.New("airlink: protocol error")

// ErrLinkDown: there is no link to the gNB.
var ErrLinkDown = errors.New("airlink: link is down")

const (
	version    = 1
	magic      = "SRAL"
	headerSize = 9
	minLength  = headerSize - 4
	maxLength  = 65535
	userHeader = 8
)

type frameType uint8

const (
	frameHello       frameType = 1  // "SRAL", version 1 octet, UDP port 2 octets
	frameWelcome     frameType = 2  // UDP port 2 octets
	frameCellRequest frameType = 3  // empty
	frameCell        frameType = 4  // NR CGI: PLMN 3 octets, cell 8; TAI: PLMN 3, TAC 4; name
	frameCellFailed  frameType = 5  // reason in words
	frameConnect     frameType = 6  // cause 1, 5G-S-TMSI present 1, set 2, pointer 1, TMSI 4, NAS
	frameConnected   frameType = 7  // RRC connection 4 octets
	frameRefused     frameType = 8  // reason in words
	frameNAS         frameType = 9  // NAS message
	frameBearerUp    frameType = 10 // PDU session 1 octet, QFIs 1 octet each
	frameBearerDown  frameType = 11 // PDU session 1 octet
	frameReleased    frameType = 12 // radio link failure 1 octet (0 orderly), reason in words
	frameClose       frameType = 13 // empty
	framePing        frameType = 14 // empty
)

// frame is one control frame; payload is its own memory.
type frame struct {
	typ     frameType
	id      uint32
	payload []byte
}

// appendFrame appends f's bytes to b.
func appendFrame(b []byte, f frame) ([]byte, error) {
	n := minLength + len(f.payload)
	if n > maxLength {
		return b, fmt.Errorf("%w: frame of %d octets", ErrProtocol, n)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = append(b, byte(f.typ))
	b = binary.BigEndian.AppendUint32(b, f.id)
	return append(b, f.payload...), nil
}

// readFrame reads one frame. The error is r's, or wraps ErrProtocol.
func readFrame(r io.Reader) (frame, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return frame{}, err
	}
	n := binary.BigEndian.Uint32(h[:])
	if n < minLength || n > maxLength {
		return frame{}, fmt.Errorf("%w: frame length %d", ErrProtocol, n)
	}
	f := frame{typ: frameType(h[4]), id: binary.BigEndian.Uint32(h[5:]), payload: make([]byte, n-minLength)}
	_, err := io.ReadFull(r, f.payload)
	return f, err
}

// cursor reads fields off a payload; after the first that is missing, bad is set and
// the rest read as zero.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if len(c.b) < n {
		c.bad, c.b = true, nil
		return make([]byte, n)
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}

func (c *cursor) u8() uint8   { return c.take(1)[0] }
func (c *cursor) u16() uint16 { return binary.BigEndian.Uint16(c.take(2)) }
func (c *cursor) u32() uint32 { return binary.BigEndian.Uint32(c.take(4)) }
func (c *cursor) u64() uint64 { return binary.BigEndian.Uint64(c.take(8)) }

func (c *cursor) plmn() ident.PLMN {
	p, err := ident.PLMNFromBytes([3]byte(c.take(3)))
	if err != nil {
		c.bad = true
	}
	return p
}

func (c *cursor) err(t frameType) error {
	if c.bad {
		return fmt.Errorf("%w: payload of frame type %d", ErrProtocol, t)
	}
	return nil
}

func putHello(port uint16) []byte {
	return binary.BigEndian.AppendUint16(append([]byte(magic), version), port)
}

func parseHello(b []byte) (port uint16, err error) {
	c := cursor{b: b}
	m, v := string(c.take(len(magic))), c.u8()
	port = c.u16()
	if m != magic || v != version {
		c.bad = true
	}
	return port, c.err(frameHello)
}

func putCell(c ue.Cell) []byte {
	var b []byte
	p := c.Location.NRCGI.PLMN.Bytes()
	b = append(b, p[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Location.NRCGI.Cell))
	p = c.Location.TAI.PLMN.Bytes()
	b = append(b, p[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(c.Location.TAI.TAC))
	return append(b, c.Name...)
}

func parseCell(b []byte) (cell ue.Cell, err error) {
	c := cursor{b: b}
	cell.Location.NRCGI = ident.NRCGI{PLMN: c.plmn(), Cell: ident.NRCellID(c.u64())}
	cell.Location.TAI = ident.TAI{PLMN: c.plmn(), TAC: ident.TAC(c.u32())}
	cell.Name = string(c.b)
	return cell, c.err(frameCell)
}

func putConnect(r ue.ConnectRequest) []byte {
	var t ident.STMSI
	has := byte(0)
	if r.STMSI != nil {
		t, has = *r.STMSI, 1
	}
	b := []byte{r.Cause, has}
	b = binary.BigEndian.AppendUint16(b, t.Set)
	b = append(b, t.Pointer)
	b = binary.BigEndian.AppendUint32(b, t.TMSI)
	return append(b, r.NAS...)
}

func parseConnect(b []byte) (r ue.ConnectRequest, err error) {
	c := cursor{b: b}
	r.Cause = c.u8()
	has := c.u8()
	t := ident.STMSI{Set: c.u16(), Pointer: c.u8(), TMSI: c.u32()}
	switch has {
	case 0:
	case 1:
		r.STMSI = &t
	default:
		c.bad = true
	}
	r.NAS = c.b
	return r, c.err(frameConnect)
}

// event turns a frame of an RRC connection into a radio event; nil if the frame is
// none.
func event(f frame) (ue.RadioEvent, error) {
	c := cursor{b: f.payload}
	switch f.typ {
	case frameNAS:
		return ue.DownlinkNAS{NAS: f.payload}, nil
	case frameBearerUp:
		e := ue.BearerUp{Session: ident.PDUSessionID(c.u8())}
		for _, q := range c.b {
			e.QFIs = append(e.QFIs, ident.QFI(q))
		}
		return e, c.err(f.typ)
	case frameBearerDown:
		return ue.BearerDown{Session: ident.PDUSessionID(c.u8())}, c.err(f.typ)
	case frameReleased:
		failure := c.u8()
		if err := c.err(f.typ); err != nil {
			return nil, err
		}
		if failure == 0 {
			return ue.Released{}, nil
		}
		return ue.Released{Err: fmt.Errorf("%w: %s", ue.ErrRadioLinkFailure, c.b)}, nil
	}
	return nil, nil
}

// eventFrame is event reversed.
func eventFrame(id uint32, e ue.RadioEvent) frame {
	switch e := e.(type) {
	case ue.DownlinkNAS:
		return frame{frameNAS, id, e.NAS}
	case ue.BearerUp:
		b := []byte{byte(e.Session)}
		for _, q := range e.QFIs {
			b = append(b, byte(q))
		}
		return frame{frameBearerUp, id, b}
	case ue.BearerDown:
		return frame{frameBearerDown, id, []byte{byte(e.Session)}}
	case ue.Released:
		if e.Err == nil {
			return frame{frameReleased, id, []byte{0}}
		}
		return frame{frameReleased, id, append([]byte{1}, e.Err.Error()...)}
	}
	return frame{typ: framePing}
}

// userPacket is the header of a user datagram.
type userPacket struct {
	session ident.PDUSessionID
	qfi     ident.QFI
	conn    uint32
}

func (u userPacket) put(b []byte) {
	b[0], b[1], b[2], b[3] = version, byte(u.session), byte(u.qfi), 0
	binary.BigEndian.PutUint32(b[4:], u.conn)
}

// parseUser reads a user datagram; packet aliases b.
func parseUser(b []byte) (u userPacket, packet []byte, ok bool) {
	if len(b) <= userHeader || b[0] != version || b[1] > 15 || b[1] == 0 || b[2] > 63 || b[3] != 0 {
		return u, nil, false
	}
	return userPacket{ident.PDUSessionID(b[1]), ident.QFI(b[2]), binary.BigEndian.Uint32(b[4:])}, b[userHeader:], true
}
