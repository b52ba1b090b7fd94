package node

import (
	"errors"
	"reflect"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/simreach/simreach/internal/strictyaml"
)

// read decodes a configuration file into role, a pointer; an empty file leaves it as
// it is. Errors are *strictyaml.Error.
func read(r strictyaml.Reader, text []byte, role Role) error {
	file, err := r.Parse(text)
	if err != nil {
		return err
	}
	var root ast.Node
	for _, d := range file.Docs {
		switch {
		case d.Body == nil:
		case root != nil:
			return r.NodeError(d.Body, "more than one YAML document", "keep one, without '---' between")
		default:
			root = d.Body
		}
	}
	if root == nil {
		return nil
	}
	if err := r.Check(root, role); err != nil {
		return err
	}
	if err := yaml.NodeToValue(root, role, yaml.Strict()); err != nil {
		return refusal(r, root, err, func() any { return reflect.New(reflect.TypeOf(role).Elem()).Interface() })
	}
	return nil
}

// refusal says where the value is that its type refuses (an address, a key): the YAML
// library tells the place of its own errors only, so it decodes again, into what empty
// makes.
func refusal(r strictyaml.Reader, root ast.Node, err error, empty func() any) error {
	var ye yaml.Error
	if errors.As(err, &ye) {
		e := &strictyaml.Error{File: r.File, Line: 1, Column: 1, Message: ye.GetMessage()}
		if t := ye.GetToken(); t != nil && t.Position != nil {
			e.Line, e.Column = t.Position.Line, t.Position.Column
		}
		return e
	}
	n := culprit(root, func() bool { return yaml.NodeToValue(root, empty(), yaml.Strict()) != nil })
	return r.NodeError(n, err.Error(), "")
}

// culprit returns the first value in n that makes decoding fail: it takes values in
// one by one until fails says so. n is left truncated.
func culprit(n ast.Node, fails func() bool) ast.Node {
	switch n := n.(type) {
	case *ast.MappingNode:
		all := n.Values
		for i := range all {
			if n.Values = all[:i+1]; fails() {
				return culprit(all[i].Value, fails)
			}
		}
	case *ast.SequenceNode:
		all := n.Values
		for i := range all {
			if n.Values = all[:i+1]; fails() {
				return culprit(all[i], fails)
			}
		}
	}
	return n
}
