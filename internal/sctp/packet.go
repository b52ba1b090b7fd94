package sctp

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// Packet layout, RFC 9260 clause 3: common header (source port, destination
// port, verification tag, CRC32c), then chunks of type, flags, length, value and
// up to three bytes of padding that the length does not count.
const (
	commonHeader = 12
	chunkHeader  = 4
)

type chunkType uint8

// Chunk types of RFC 9260 clause 3.2.
const (
	ctData             chunkType = 0
	ctInit             chunkType = 1
	ctInitAck          chunkType = 2
	ctSack             chunkType = 3
	ctHeartbeat        chunkType = 4
	ctHeartbeatAck     chunkType = 5
	ctAbort            chunkType = 6
	ctShutdown         chunkType = 7
	ctShutdownAck      chunkType = 8
	ctError            chunkType = 9
	ctCookieEcho       chunkType = 10
	ctCookieAck        chunkType = 11
	ctShutdownComplete chunkType = 14
)

// Chunk flags.
const (
	flagT          = 0x01 // ABORT, SHUTDOWN COMPLETE: the tag is reflected (clause 8.5.1)
	flagEnd        = 0x01 // DATA
	flagBegin      = 0x02 // DATA
	flagUnordered  = 0x04 // DATA
	flagImmediate  = 0x08 // DATA: SACK at once (RFC 7053)
	unknownReport  = 0x40 // in an unknown chunk's type: report it (clause 3.2)
	unknownProceed = 0x80 // in an unknown chunk's type: go on with the next chunk
)

// Error causes of clause 3.3.10 that we send.
const (
	causeInvalidStream       = 1
	causeStaleCookie         = 3
	causeOutOfResource       = 4
	causeUnresolvableAddress = 5
	causeUnrecognizedChunk   = 6
	causeInvalidParameter    = 7
	causeUnrecognizedParams  = 8
	causeNoUserData          = 9
	causeShuttingDown        = 10
	causeUserAbort           = 12
	causeProtocolViolation   = 13
)

var (
	errShort    = errors.New("packet too short")
	errChecksum = errors.New("checksum does not match")
	errChunk    = errors.New("chunk length does not fit")
	errPort     = errors.New("port zero")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// packet is a received packet with its chunks found; it aliases the bytes.
type packet struct {
	src, dst uint16
	tag      uint32
	chunks   []chunk
}

type chunk struct {
	typ   chunkType
	flags uint8
	value []byte
}

// parsePacket checks checksum and lengths and finds the chunks. Padding of the
// last chunk may be missing; what padding there is, is ignored.
func parsePacket(b []byte, into []chunk) (packet, error) {
	if len(b) < commonHeader+chunkHeader {
		return packet{}, errShort
	}
	if binary.LittleEndian.Uint32(b[8:]) != checksum(b) {
		return packet{}, errChecksum
	}
	p := packet{
		src:    binary.BigEndian.Uint16(b),
		dst:    binary.BigEndian.Uint16(b[2:]),
		tag:    binary.BigEndian.Uint32(b[4:]),
		chunks: into[:0],
	}
	if p.src == 0 || p.dst == 0 {
		return packet{}, errPort
	}
	for rest := b[commonHeader:]; len(rest) > 0; {
		if len(rest) < chunkHeader {
			return packet{}, errChunk
		}
		n := int(binary.BigEndian.Uint16(rest[2:]))
		if n < chunkHeader || n > len(rest) {
			return packet{}, errChunk
		}
		p.chunks = append(p.chunks, chunk{chunkType(rest[0]), rest[1], rest[chunkHeader:n:n]})
		rest = rest[min(padded(n), len(rest)):]
	}
	return p, nil
}

func padded(n int) int { return (n + 3) &^ 3 }

// checksum is CRC32c over the packet with its checksum field taken as zero.
func checksum(b []byte) uint32 {
	var zero [4]byte
	sum := crc32.Update(0, castagnoli, b[:8])
	sum = crc32.Update(sum, castagnoli, zero[:])
	return crc32.Update(sum, castagnoli, b[commonHeader:])
}

// newPacket starts a packet; seal ends it.
func newPacket(src, dst uint16, tag uint32, size int) []byte {
	b := make([]byte, commonHeader, commonHeader+size)
	putHeader(b, src, dst, tag)
	return b
}

func putHeader(b []byte, src, dst uint16, tag uint32) {
	binary.BigEndian.PutUint16(b, src)
	binary.BigEndian.PutUint16(b[2:], dst)
	binary.BigEndian.PutUint32(b[4:], tag)
}

func appendChunk(b []byte, typ chunkType, flags uint8, value []byte) []byte {
	b = append(b, byte(typ), flags, 0, 0)
	binary.BigEndian.PutUint16(b[len(b)-2:], uint16(chunkHeader+len(value)))
	b = append(b, value...)
	return pad(b, chunkHeader+len(value))
}

// pad appends what an element of n bytes lacks to a multiple of four.
func pad(b []byte, n int) []byte {
	var zero [3]byte
	return append(b, zero[:padded(n)-n]...)
}

func seal(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[8:], checksum(b))
	return b
}

// appendTLV appends an error cause or a parameter, unpadded.
func appendTLV(b []byte, typ uint16, value []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, typ)
	b = binary.BigEndian.AppendUint16(b, uint16(chunkHeader+len(value)))
	return append(b, value...)
}

// firstCause reads the first cause code of an ABORT or ERROR; zero if there is
// none.
func firstCause(value []byte) uint16 {
	if len(value) < chunkHeader {
		return 0
	}
	return binary.BigEndian.Uint16(value)
}

// before orders TSNs (RFC 1982 arithmetic, clause 1.6).
func before(a, b uint32) bool { return int32(a-b) < 0 }
