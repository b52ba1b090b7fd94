package manager

import (
	"context"
	"errors"
	"fmt"
)

// Kind classes errors by what the caller can do about them. Transports map it
// (manager/api to HTTP status codes, manager/rpc to RPC codes).
type Kind uint8

// Kinds of error.
const (
	KindInternal         Kind = iota // a fault of ours; the details are in the log
	KindInvalid                      // the request is wrong and will stay wrong
	KindUnauthenticated              // credentials or token missing, wrong or expired
	KindForbidden                    // the caller is known but may not do this
	KindNotFound                     // no such thing, or it belongs to somebody else
	KindMethodNotAllowed             // the resource exists but not this operation
	KindTooLarge                     // the request is too large
	KindOffline                      // the device has no session now
	KindUnavailable                  // a part of the platform is missing; trying again may help
	KindConflict                     // right in itself, but not in the state that things are in
	KindFailed                       // what was asked of a device or another party failed
)

// Error is a refusal with a stable code. Match it by code:
// errors.Is(err, manager.CodeUnknownSubscriber), or with errors.As.
type Error struct {
	Code Code
	Args []any // arguments of the code's message, in order: values, or Details and Detailed
	Err  error // what lies beneath, for the log; never shown to clients
}

// NewError returns an error with a code and the arguments of its message.
func NewError(code Code, args ...any) *Error { return &Error{Code: code, Args: args} }

// Error implements error, in English and with the cause.
func (e *Error) Error() string {
	s := string(e.Code) + " " + e.Message(English)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns what lies beneath.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is e's code.
func (e *Error) Is(target error) bool {
	c, ok := target.(Code)
	return ok && c == e.Code
}

// Kind returns the kind of e's code.
func (e *Error) Kind() Kind { return codes[e.Code].kind }

// Message returns the text for clients in a language.
func (e *Error) Message(l Language) string {
	t, ok := codes[e.Code]
	if !ok {
		return string(e.Code)
	}
	text := t.en
	if l == Japanese {
		text = t.ja
	}
	return worded(text, e.Args, l)
}

// Detailed is a Detail with its arguments. As an error it reads in English.
type Detailed struct {
	detail Detail
	args   []any
}

// Of returns d with its arguments, which may be Details and Detailed in turn.
func (d Detail) Of(args ...any) Detailed { return Detailed{d, args} }

// Error implements error.
func (d Detail) Error() string { return d.Of().Error() }

// Error implements error.
func (d Detailed) Error() string { return d.text(English) }

func (d Detailed) text(l Language) string {
	t := details[d.detail]
	if l == Japanese {
		return worded(t.ja, d.args, l)
	}
	return worded(t.en, d.args, l)
}

// worded fills in the arguments of a text; those that are details in its language.
func worded(text string, args []any, l Language) string {
	if len(args) == 0 {
		return text
	}
	out := make([]any, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case Detail:
			out[i] = a.Of().text(l)
		case Detailed:
			out[i] = a.text(l)
		default:
			out[i] = a
		}
	}
	return fmt.Sprintf(text, out...)
}

// AsError returns err as an *Error. Errors without a code become CodeInternal
// with err beneath, and ErrBadText becomes CodeBadText.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, ErrBadText) {
		return &Error{Code: CodeBadText, Err: err}
	}
	return &Error{Code: CodeInternal, Err: err}
}

// fault returns err as AsError does, after what was being done.
func fault(what string, err error) error { return AsError(fmt.Errorf("%s: %w", what, err)) }

// faultIn is fault for an err that may be nil; ctx's own error stays as it is.
func faultIn(ctx context.Context, what string, err error) error {
	if err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return err
	}
	return fault(what, err)
}

// Sentinels of the Store and Directory contracts, matched with errors.Is.
var (
	ErrNotFound     = errors.New("not found")
	ErrAddressTaken = errors.New("relay address and port are in use or in quarantine")
	ErrNotAttached  = errors.New("no session")
	ErrExists       = errors.New("it exists already")
	// ErrNoGroup refuses to refer to a group that its operator does not have (any more).
	ErrNoGroup = errors.New("no such group")
	// ErrTooMany refuses to add to as many things as there may be.
	ErrTooMany = errors.New("too many")
	// ErrBadText refuses text that not every store can keep, from any method: it has a
	// zero byte or is not UTF-8.
	ErrBadText = errors.New("text with a zero byte, or not in UTF-8")
)

// Sentinels between manager and relays.
var (
	// ErrPortInUse is a relay's answer to an open command when another program
	// holds the port.
	ErrPortInUse = errors.New("port in use")
	// ErrSessionEnded is returned by RelaySession methods after the session ended.
	ErrSessionEnded = errors.New("relay session ended")
	// ErrReplaced ends a session when the same relay attached again.
	ErrReplaced = fmt.Errorf("%w: the relay attached again", ErrSessionEnded)
	// ErrRelayStalled ends a session whose relay does not take or answer commands.
	ErrRelayStalled = fmt.Errorf("%w: the relay does not answer", ErrSessionEnded)
)
