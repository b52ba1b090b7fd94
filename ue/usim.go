package ue

import (
	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/ident"
)

// The array scheme of TS 33.102 annex C.1.1.3 and C.2: SQN is SEQ (43 bits) and an
// index IND (5 bits) into an array of the highest SEQ accepted.
const (
	indBits  = 5
	indMask  = 1<<indBits - 1
	seqDelta = 1 << 28 // C.2.1: a SEQ further ahead than this is refused
)

// akaResult is the USIM's verdict on a challenge.
type akaResult uint8

const (
	akaOK           akaResult = iota
	akaMACFailure             // 5GMM cause 20
	akaNotSeparated           // 5GMM cause 26: AMF separation bit is 0
	akaSyncFailure            // 5GMM cause 21, with AUTS
)

// separationBit is in the first octet of AMF (TS 33.102 annex H).
const separationBit = 0x80

// usim is the subscriber module: long-term key and sequence numbers.
type usim struct {
	milenage *aka.Milenage
	seq      [1 << indBits]uint64
	highest  uint64 // SQN_MS: the highest SQN accepted
}

func newUSIM(c Config) *usim {
	opc := [16]byte(c.OPc)
	if c.OPc == (Key{}) {
		opc = aka.OPc([16]byte(c.K), [16]byte(c.OP))
	}
	u := &usim{milenage: aka.NewMilenage([16]byte(c.K), opc), highest: c.SQN}
	for i := range u.seq {
		u.seq[i] = c.SQN >> indBits
		if c.SQN != 0 && i > int(c.SQN&indMask) && u.seq[i] > 0 {
			u.seq[i]-- // those indexes have not seen this SEQ yet
		}
	}
	return u
}

// vector is what a successful challenge yields.
type vector struct {
	res      [8]byte
	ck, ik   [16]byte
	sqnXorAK [6]byte
}

// authenticate checks a challenge (TS 33.102 clause 6.3.3, TS 24.501 clause
// 5.4.1.3.6): MAC, then separation bit, then freshness. auts is set for
// akaSyncFailure only.
func (u *usim) authenticate(rand, autn [16]byte) (v vector, auts [14]byte, r akaResult) {
	sqnXorAK, amf, mac := aka.SplitAUTN(autn)
	res, ck, ik, ak := u.milenage.F2345(rand)
	sqn := aka.SQNFrom(sqnXorAK, ak)
	if want := u.milenage.F1(rand, sqn, amf); !aka.Equal(want[:], mac[:]) {
		return v, auts, akaMACFailure
	}
	if amf[0]&separationBit == 0 {
		return v, auts, akaNotSeparated
	}
	if !u.fresh(sqn) {
		return v, aka.BuildAUTS(u.milenage, rand, u.highest), akaSyncFailure
	}
	return vector{res, ck, ik, sqnXorAK}, auts, akaOK
}

// fresh applies annex C.2.2 and remembers an accepted SQN.
func (u *usim) fresh(sqn uint64) bool {
	seq, ind := sqn>>indBits, sqn&indMask
	if seq <= u.seq[ind] || seq > u.highest>>indBits+seqDelta {
		return false
	}
	u.seq[ind] = seq
	u.highest = max(u.highest, sqn)
	return true
}

// kamf runs the key hierarchy of TS 33.501 clause 6.2 down to KAMF.
func (v vector) kamf(snn string, supi ident.SUPI, abba []byte) [32]byte {
	return aka.KAMF(aka.KSEAF(aka.KAUSF(v.ck, v.ik, snn, v.sqnXorAK), snn), supi, abba)
}

func (v vector) resStar(snn string, rand [16]byte) [16]byte {
	return aka.RESStar(v.ck, v.ik, snn, rand, v.res[:])
}
