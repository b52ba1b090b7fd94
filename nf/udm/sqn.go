package udm

// The sequence number of TS 33.102 annex C, without a time base: 43 bits of SEQ,
// one more for each vector, and 5 bits of IND, the next one modulo 32 for each
// vector (clauses C.1.1.1, C.1.2 and C.3.2, profile 2).
const (
	indBits = 5
	indMask = 1<<indBits - 1
	maxSQN  = 1<<48 - 1
	maxSEQ  = maxSQN >> indBits

	// delta is the most by which the home network may run ahead of a USIM that
	// limits the jump (clause C.2.1).
	delta = 1 << 28
)

// nextSQN returns the sequence number after sqn. ok is false when SEQ is used up:
// it must not wrap.
func nextSQN(sqn uint64) (next uint64, ok bool) {
	seq, ind := sqn>>indBits, sqn&indMask
	if seq >= maxSEQ {
		return sqn, false
	}
	return (seq+1)<<indBits | (ind+1)&indMask, true
}

// resyncSQN is what the home network continues from, given the USIM's SQN-MS from
// an authentic AUTS (clause 6.3.5 of TS 33.102): its own number if the USIM would
// take the next one, else the USIM's.
func resyncSQN(sqnHE, sqnMS uint64) uint64 {
	next, ms := sqnHE>>indBits+1, sqnMS>>indBits
	if next > ms && next-ms <= delta {
		return sqnHE
	}
	return sqnMS
}
