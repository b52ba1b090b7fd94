package strictyaml

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Error is what is wrong in a file and how to mend it.
type Error struct {
	File         string
	Line, Column int // from 1
	Message      string
	Fix          string
}

// Error implements error: "FILE:LINE:COLUMN: message (fix)".
func (e *Error) Error() string {
	s := e.File
	if e.Line > 0 {
		s = fmt.Sprintf("%s:%d:%d", s, e.Line, e.Column)
	}
	s += ": " + e.Message
	if e.Fix != "" {
		s += " (" + e.Fix + ")"
	}
	return s
}

// NodeError is an error at the beginning of n.
func (r Reader) NodeError(n ast.Node, message, fix string) *Error {
	e := &Error{File: r.File, Line: 1, Column: 1, Message: message, Fix: fix}
	if t := Start(n); t != nil && t.Position != nil {
		e.Line, e.Column = t.Position.Line, t.Position.Column
	}
	return e
}

// Start returns the first token of a node. Of a mapping without braces the library
// gives the first colon.
func Start(n ast.Node) *token.Token {
	switch m := n.(type) {
	case nil:
		return nil
	case *ast.MappingNode:
		if !m.IsFlowStyle && len(m.Values) > 0 {
			return m.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return m.Key.GetToken()
	}
	return n.GetToken()
}

// yamlError takes place and message out of the YAML library's error.
func (r Reader) yamlError(err error, fix string) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		e.File = r.File
		return e
	}
	e := &Error{File: r.File, Line: 1, Column: 1, Fix: fix}
	// The library's Error method prints the whole file, slowly.
	if ye, ok := errors.AsType[yaml.Error](err); ok {
		e.Message = ye.GetMessage()
		if t := ye.GetToken(); t != nil && t.Position != nil {
			e.Line, e.Column = t.Position.Line, t.Position.Column
		}
		return e
	}
	e.Message = firstLine(err.Error())
	return e
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
