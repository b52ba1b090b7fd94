package spec

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/simreach/simreach/internal/strictyaml"
)

// MaxFileSize is the largest scenario file that is read, in bytes.
// It is far more than a scenario needs, which has 'count' for many UEs, and keeps
// reading a hostile one within seconds.
const MaxFileSize = 256 << 10

// Load reads, checks and expands a scenario file. Whatever is wrong in it comes
// back as *Error; a file that cannot be read as the error of the os package.
func Load(path string) (*Spec, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read scenario: %w", err)
	}
	if info.Size() > MaxFileSize {
		return nil, &Error{File: path, Line: 1, Column: 1, Message: fmt.Sprintf("file has %d bytes", info.Size()), Fix: fmt.Sprintf("a scenario has at most %d", MaxFileSize)}
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
		return nil, &Error{File: name, Line: 1, Column: 1, Message: fmt.Sprintf("file has %d bytes", len(text)), Fix: fmt.Sprintf("a scenario has at most %d", MaxFileSize)}
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // a byte order mark
	r := reader(name)
	file, err := r.Parse(text)
	if err != nil {
		return nil, err
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil, &Error{File: name, Line: 1, Column: 1, Message: "no scenario in the file", Fix: "start with 'name: my-scenario'"}
	}
	if len(file.Docs) > 1 {
		e := &Error{File: name, Line: 1, Column: 1, Message: "more than one YAML document", Fix: "keep one, without '---' between"}
		if t := file.Docs[1].Start; t != nil && t.Position != nil {
			e.Line, e.Column = t.Position.Line, t.Position.Column
		}
		return nil, e
	}
	root, ok := file.Docs[0].Body.(*ast.MappingNode)
	if !ok {
		return nil, r.NodeError(file.Docs[0].Body, "the document is not a mapping", "start with 'name: my-scenario'")
	}
	s := &Spec{File: name, file: file}
	if err := s.takeSteps(root); err != nil {
		return nil, err
	}
	r.Fix, r.Beside = "see scenarios/README.md for the fields there are", []string{"steps"}
	if err := r.Decode(root, s); err != nil {
		return nil, err
	}
	s.fillDefaults()
	if err := s.validate(); err != nil {
		return nil, err
	}
	return s, nil
}

// takeSteps moves "steps" out of the document into s.Steps, undecoded.
func (s *Spec) takeSteps(root *ast.MappingNode) error {
	for i, kv := range root.Values {
		if strictyaml.KeyOf(kv) != "steps" {
			continue
		}
		seq, ok := kv.Value.(*ast.SequenceNode)
		if !ok {
			return reader(s.File).NodeError(kv.Value, "steps is not a list", "write '- verb: {...}' items")
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
		return Step{}, reader(s.File).NodeError(item, "a step is not a mapping", "write '- verb: {...}'")
	}
	st := Step{Timeout: DefaultStepTimeout, file: s.File}
	for _, kv := range m.Values {
		var err error
		switch key := strictyaml.KeyOf(kv); key {
		case "name":
			err = decode(s.File, kv.Value, &st.Name, "write a text")
		case "timeout":
			var d Duration
			if err = decode(s.File, kv.Value, &d, "write a duration such as 10s"); err == nil && d <= 0 {
				return Step{}, reader(s.File).NodeError(kv.Value, "timeout is not positive", "write a duration such as 10s")
			}
			st.Timeout = time.Duration(d)
		default:
			if st.Verb != "" {
				return Step{}, reader(s.File).NodeError(kv.Key, fmt.Sprintf("a step has two verbs, %q and %q", st.Verb, key), "make two steps of it")
			}
			st.Verb, st.node = key, kv.Value
			t := kv.Key.GetToken()
			st.Line, st.Column = t.Position.Line, t.Position.Column
		}
		if err != nil {
			return Step{}, err
		}
	}
	if st.Verb == "" {
		return Step{}, reader(s.File).NodeError(item, "a step without a verb", "write '- verb: {...}'")
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
	return decode(st.file, st.node, v, "see scenarios/README.md for the arguments of "+st.Verb)
}

// Errorf makes an *Error at the step.
func (st Step) Errorf(fix, format string, args ...any) error {
	return &Error{File: st.file, Line: st.Line, Column: st.Column, Message: fmt.Sprintf(format, args...), Fix: fix}
}

// reader reads a scenario file. It bounds its length, as scenarios come from anywhere.
func reader(name string) strictyaml.Reader {
	return strictyaml.Reader{
		File: name, Noun: "scenario",
		MaxTokens: 1 << 15, TooLong: "use 'count' for many UEs, or make two scenarios of it",
		NoAnchors: "write the value out, or use 'count' for many UEs",
	}
}

// decode reads n into what out points to; fix is for what is wrong otherwise.
func decode(name string, n ast.Node, out any, fix string) error {
	r := reader(name)
	r.Fix = fix
	return r.Decode(n, out)
}

// Duration is a time.Duration written as in Go: 100ms, 10s, 2m. Unlike
// time.Duration its error knows the place in the file.
type Duration time.Duration

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (d *Duration) UnmarshalYAML(n ast.Node) error {
	v, err := time.ParseDuration(strings.Trim(n.String(), `"'`))
	if err != nil {
		return reader("").NodeError(n, fmt.Sprintf("%s is not a duration", n), "write a number with a unit, such as 100ms, 10s or 2m")
	}
	*d = Duration(v)
	return nil
}

// at makes an *Error at a YAML path such as "$.ues[0].imsi", or at the closest
// parent that is in the file.
func (s *Spec) at(path, fix, format string, args ...any) *Error {
	e := &Error{File: s.File, Message: fmt.Sprintf(format, args...), Fix: fix}
	for p := path; p != "$" && p != ""; {
		if yp, err := yaml.PathString(p); err == nil {
			if n, err := yp.FilterFile(s.file); err == nil && n != nil {
				if t := strictyaml.Start(n); t != nil && t.Position != nil {
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
