package aka

import (
	"encoding/binary"

	"github.com/wmnsk/milenage"
)

// Milenage is the algorithm set of TS 35.206 for one subscriber. It is immutable
// and may be used from any goroutine.
//
// K, OPc and every input have the one length the library accepts, by their type,
// so its errors cannot occur and are not part of the signatures; a test calls
// each function with the extremes to hold that.
type Milenage struct {
	k, opc [16]byte
}

// NewMilenage returns the functions for the key k and the operator variant opc.
// An operator that provisions OP derives opc with OPc.
func NewMilenage(k, opc [16]byte) *Milenage { return &Milenage{k: k, opc: opc} }

// OPc derives OPc from K and OP (TS 35.206 clause 4.1).
func OPc(k, op [16]byte) [16]byte {
	var out [16]byte
	b, _ := milenage.ComputeOPc(k[:], op[:])
	copy(out[:], b)
	return out
}

// F1 returns the network authentication code MAC-A. The low 48 bits of sqn count.
func (m *Milenage) F1(rand [16]byte, sqn uint64, amf [2]byte) (macA [8]byte) {
	b, _ := m.with(rand, sqn, amf).F1()
	copy(macA[:], b)
	return macA
}

// F1Star returns the resynchronisation code MAC-S.
func (m *Milenage) F1Star(rand [16]byte, sqn uint64, amf [2]byte) (macS [8]byte) {
	s := sqnBytes(sqn)
	b, _ := m.with(rand, sqn, amf).F1Star(s[:], amf[:])
	copy(macS[:], b)
	return macS
}

// F2345 returns RES, CK, IK and the anonymity key AK.
func (m *Milenage) F2345(rand [16]byte) (res [8]byte, ck, ik [16]byte, ak [6]byte) {
	r, c, i, a, _ := m.with(rand, 0, [2]byte{}).F2345()
	copy(res[:], r)
	copy(ck[:], c)
	copy(ik[:], i)
	copy(ak[:], a)
	return res, ck, ik, ak
}

// F5Star returns the anonymity key of a resynchronisation.
func (m *Milenage) F5Star(rand [16]byte) (ak [6]byte) {
	b, _ := m.with(rand, 0, [2]byte{}).F5Star()
	copy(ak[:], b)
	return ak
}

// with makes the library's one-shot object; it keeps its inputs, so it gets copies.
func (m *Milenage) with(rand [16]byte, sqn uint64, amf [2]byte) *milenage.Milenage {
	k, opc := m.k, m.opc
	return milenage.NewWithOPc(k[:], opc[:], rand[:], sqn, binary.BigEndian.Uint16(amf[:]))
}
