package ngap

import (
	"errors"
	"fmt"
)

// Errors of this package.
var (
	// ErrEncode is wrapped by every error of Encode and EncodeTransfer.
	ErrEncode = errors.New("ngap: cannot encode")
	// ErrTransfer is wrapped by every error of the functions that decode transfers.
	ErrTransfer = errors.New("ngap: transfer not understood")

	errSyntax   = errors.New("transfer syntax error")
	errAbstract = errors.New("abstract syntax error")
	errSemantic = errors.New("semantic error")
)

// DecodeError says why a PDU was not understood, with all that an ERROR
// INDICATION or an unsuccessful outcome in answer needs (TS 38.413 clause 10).
type DecodeError struct {
	Procedure  ProcedureCode
	Triggering uint8 // 0 initiating message, 1 successful outcome, 2 unsuccessful outcome
	// IDs are those found in the PDU, even if the rest of it made no sense.
	IDs PartialIDs
	// Cause is what to answer with; 0 asks for no answer (an unknown procedure of
	// criticality ignore, TS 38.413 clause 10.3.4.1).
	Cause Cause
	// Diagnostics names procedure and IEs for abstract syntax errors, else nil.
	Diagnostics *Diagnostics
	Err         error
}

// Error describes the PDU and what is wrong with it.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("ngap: decode %s (%s): %v", pduName(e.Procedure, e.Triggering), e.Cause, e.Err)
}

// Unwrap returns the reason.
func (e *DecodeError) Unwrap() error { return e.Err }
