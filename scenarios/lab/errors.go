package lab

import "errors"

// ErrNoProcess is returned for nodes that run no process of their own.
var ErrNoProcess = errors.New("this node has no process of its own on this backend")

// ErrUnsupported is returned when a backend cannot do what a step asks.
var ErrUnsupported = errors.New("this backend cannot do that")
