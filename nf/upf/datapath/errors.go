package datapath

import "errors"

// Errors of Apply, Remove, Usage and SendEndMarker.
var (
	// ErrNoSession is a session that was never applied or is removed.
	ErrNoSession = errors.New("datapath: no such session")
	// ErrTEIDInUse is a local TEID that another session has.
	ErrTEIDInUse = errors.New("datapath: TEID in use by another session")
	// ErrAddressInUse is a UE address that another session has on that network.
	ErrAddressInUse = errors.New("datapath: UE address in use by another session")
	// ErrNoNetwork is a network instance without N6 device.
	ErrNoNetwork = errors.New("datapath: unknown network instance")
	// ErrInvalidRules is a rule set that does not hold together: a reference to a
	// rule that is not there, or a combination that this datapath cannot carry out.
	ErrInvalidRules = errors.New("datapath: invalid rules")
)
