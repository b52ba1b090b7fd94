package spec

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// MaxFileSize is the largest scenario file that is read, in bytes.
const MaxFileSize = 1 << 20

// Load reads, checks and expands a scenario file. Whatever is wrong in it comes
// back as *Error; a file that cannot be read as the error of the os package.
func Load(path string) (*Spec, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read scenario: %w", err)
	}
	if info.Size() > MaxFileSize {
		return nil, &Error{File: path, Message: fmt.Sprintf("file has %d bytes", info.Size()), Fix: fmt.Sprintf("a scenario has at most %d", MaxFileSize)}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read scenario: %w", err)
	}
	return Parse(filepath.Clean(path), text)
}

// Parse is Load for text already in memory; name stands for the file in errors.
func Parse(name string, text []byte) (*Spec, error) {
	if len(text) > MaxFileSize {
		return nil, &Error{File: name, Message: "file is too large", Fix: fmt.Sprintf("a scenario has at most %d bytes", MaxFileSize)}
	}
	file, err := parseYAML(text)
	if err != nil {
		return nil, yamlError(name, err, "mend the YAML syntax")
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return nil, &Error{File: name, Message: "want exactly one YAML document", Fix: "start with 'name: my-scenario'"}
	}
	root, ok := file.Docs[0].Body.(*ast.MappingNode)
	if !ok {
		return nil, nodeError(name, file.Docs[0].Body, "the document is not a mapping", "start with 'name: my-scenario'")
	}
	if err := refuseAliases(name, root); err != nil {
		return nil, err
	}
	s := &Spec{File: name, file: file}
	if err := s.takeSteps(root); err != nil {
		return nil, err
	}
	if err := yaml.NodeToValue(root, s, yaml.Strict()); err != nil {
		return nil, yamlError(name, err, "see scenarios/README.md for the fields there are")
	}
	s.fillDefaults()
	if err := s.validate(); err != nil {
		return nil, err
	}
	return s, nil
}

// parseYAML keeps a fault in the YAML library from ending the process.
func parseYAML(text []byte) (f *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("unreadable YAML: %v", r)
		}
	}()
	return parser.ParseBytes(text, 0)
}

// refuseAliases turns anchors and aliases down: they can make a small file
// enormous, and a scenario reads better without them.
func refuseAliases(name string, root ast.Node) error {
	var found ast.Node
	ast.Walk(visitor(func(n ast.Node) bool {
		switch n.(type) {
		case *ast.AliasNode, *ast.AnchorNode, *ast.MergeKeyNode:
			if found == nil {
				found = n
			}
			return false
		}
		return true
	}), root)
	if found != nil {
		return nodeError(name, found, "anchors, aliases and merge keys are not supported", "write the value out, or use 'count' for many UEs")
	}
	return nil
}

type visitor func(ast.Node) bool

// Visit implements ast.Visitor.
func (v visitor) Visit(n ast.Node) ast.Visitor {
	if !v(n) {
		return nil
	}
	return v
}

// takeSteps moves "steps" out of the document into s.Steps, undecoded.
func (s *Spec) takeSteps(root *ast.MappingNode) error {
	for i, kv := range root.Values {
		if kv.Key.String() != "steps" {
			continue
		}
		seq, ok := kv.Value.(*ast.SequenceNode)
		if !ok {
			return nodeError(s.File, kv.Value, "steps is not a list", "write '- verb: {...}' items")
		}
		for _, item := range seq.Values {
			st, err := s.step(item)
			if err != nil {
				return err
			}
			s.Steps = append(s.Steps, st)
		}
		root.Values = append(root.Values[:i:i], root.Values[i+1:]...)
		return nil
	}
	return nil
}

func (s *Spec) step(item ast.Node) (Step, error) {
	m, ok := item.(*ast.MappingNode)
	if !ok {
		return Step{}, nodeError(s.File, item, "a step is not a mapping", "write '- verb: {...}'")
	}
	st := Step{Timeout: DefaultStepTimeout, file: s.File}
	if t := item.GetToken(); t != nil {
		st.Line, st.Column = t.Position.Line, t.Position.Column
	}
	for _, kv := range m.Values {
		var err error
		switch key := kv.Key.String(); key {
		case "name":
			err = yaml.NodeToValue(kv.Value, &st.Name)
		case "timeout":
			var d Duration
			if err = yaml.NodeToValue(kv.Value, &d); err == nil && d <= 0 {
				return Step{}, nodeError(s.File, kv.Value, "timeout is not positive", "write a duration such as 10s")
			}
			st.Timeout = time.Duration(d)
		default:
			if st.Verb != "" {
				return Step{}, nodeError(s.File, kv.Key, fmt.Sprintf("a step has two verbs, %q and %q", st.Verb, key), "make two steps of it")
			}
			st.Verb, st.node = key, kv.Value
			t := kv.Key.GetToken()
			st.Line, st.Column = t.Position.Line, t.Position.Column
		}
		if err != nil {
			return Step{}, yamlError(s.File, err, "write a text")
		}
	}
	if st.Verb == "" {
		return Step{}, nodeError(s.File, item, "a step without a verb", "write '- verb: {...}'")
	}
	if st.Name == "" {
		st.Name = st.Verb
	}
	return st, nil
}

// Decode reads a step's arguments into v, strictly. A wrong argument comes back
// as *Error.
func (st Step) Decode(v any) error {
	if st.node == nil {
		return st.Errorf("give its arguments", "step %q has no arguments", st.Verb)
	}
	if _, null := st.node.(*ast.NullNode); null {
		return nil
	}
	if err := yaml.NodeToValue(st.node, v, yaml.Strict()); err != nil {
		return yamlError(st.file, err, "see scenarios/README.md for the arguments of "+st.Verb)
	}
	return nil
}

// Errorf makes an *Error at the step.
func (st Step) Errorf(fix, format string, args ...any) error {
	return &Error{File: st.file, Line: st.Line, Column: st.Column, Message: fmt.Sprintf(format, args...), Fix: fix}
}

// Duration is a time.Duration written as in Go: 100ms, 10s, 2m. Unlike
// time.Duration its error knows the place in the file.
type Duration time.Duration

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (d *Duration) UnmarshalYAML(n ast.Node) error {
	v, err := time.ParseDuration(strings.Trim(n.String(), `"'`))
	if err != nil {
		return nodeError("", n, fmt.Sprintf("%s is not a duration", n), "write a number with a unit, such as 100ms, 10s or 2m")
	}
	*d = Duration(v)
	return nil
}

func nodeError(file string, n ast.Node, message, fix string) *Error {
	e := &Error{File: file, Message: message, Fix: fix}
	if n != nil {
		if t := n.GetToken(); t != nil && t.Position != nil {
			e.Line, e.Column = t.Position.Line, t.Position.Column
		}
	}
	return e
}

// yamlError takes place and message out of the YAML library's error.
func yamlError(file string, err error, fix string) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		e.File = file
		return e
	}
	e := &Error{File: file, Message: firstLine(err.Error()), Fix: fix}
	var ye yaml.Error
	if errors.As(err, &ye) {
		e.Message = ye.GetMessage()
		if t := ye.GetToken(); t != nil && t.Position != nil {
			e.Line, e.Column = t.Position.Line, t.Position.Column
		}
	}
	return e
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// at makes an *Error at a YAML path such as "$.ues[0].imsi", or at the closest
// parent that is in the file.
func (s *Spec) at(path, fix, format string, args ...any) *Error {
	e := &Error{File: s.File, Message: fmt.Sprintf(format, args...), Fix: fix}
	for p := path; p != "$" && p != ""; {
		if yp, err := yaml.PathString(p); err == nil {
			if n, err := yp.FilterFile(s.file); err == nil && n != nil {
				if t := n.GetToken(); t != nil && t.Position != nil {
					e.Line, e.Column = t.Position.Line, t.Position.Column
					return e
				}
			}
		}
		i := strings.LastIndexAny(p, ".[")
		if i <= 0 {
			break
		}
		p = p[:i]
	}
	e.Line, e.Column = 1, 1
	return e
}

// Std returns d as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }
