package spec

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxNesting is how deep lists and mappings in brackets may nest. The YAML library
// recurses on them, and a process does not survive the end of its stack.
const maxNesting = 32

// maxTokens bounds what the YAML library is given: with long lists and mappings its
// time grows as their square.
const maxTokens = 1 << 15

// parseYAML makes a syntax tree of text, which then holds no anchors, aliases, merge
// keys or tags: they can make a small file enormous, and a scenario reads better
// without them. A fault in the YAML library does not end the process.
func parseYAML(name string, text []byte) (f *ast.File, err error) {
	if err := checkText(name, text); err != nil {
		return nil, err
	}
	defer func() {
		if r := recover(); r != nil {
			f, err = nil, &Error{File: name, Line: 1, Column: 1, Message: fmt.Sprintf("unreadable YAML: %v", r), Fix: "mend the YAML syntax"}
		}
	}()
	tokens := lexer.Tokenize(string(text))
	if err := checkTokens(name, tokens); err != nil {
		return nil, err
	}
	if f, err = parser.Parse(tokens, 0); err != nil {
		return nil, yamlError(name, err, "mend the YAML syntax")
	}
	return f, nil
}

// checkText refuses what is not text.
func checkText(name string, text []byte) error {
	line, column := 1, 1
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		bad := &Error{File: name, Line: line, Column: column}
		switch {
		case r == utf8.RuneError && n == 1:
			bad.Message, bad.Fix = "the text is not UTF-8", "save the file as UTF-8"
			return bad
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7f:
			bad.Message, bad.Fix = fmt.Sprintf("control character %U", r), `remove it, or write it as "\u0000" in double quotes`
			return bad
		}
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
		text = text[n:]
	}
	return nil
}

// checkTokens refuses what the parser or the decoder would take too far.
func checkTokens(name string, tokens token.Tokens) error {
	depth, onLine, line := 0, 0, 0
	for i, t := range tokens {
		if t.Position == nil {
			continue
		}
		refuse := func(message, fix string) error {
			return &Error{File: name, Line: t.Position.Line, Column: t.Position.Column, Message: message, Fix: fix}
		}
		if i >= maxTokens {
			return refuse("the scenario is too long", "use 'count' for many UEs, or make two scenarios of it")
		}
		if t.Position.Line != line {
			line, onLine = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			if depth--; depth < 0 {
				return refuse("a bracket closes that none opened", "mend the YAML syntax")
			}
		case token.SequenceEntryType:
			onLine++
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return refuse("anchors, aliases and merge keys are not supported", "write the value out, or use 'count' for many UEs")
		case token.TagType:
			return refuse("tags are not supported", "leave the tag out")
		case token.DirectiveType:
			return refuse("directives are not supported", "leave out the line that begins with '%'")
		case token.MappingKeyType:
			return refuse("keys marked with '?' are not supported", "write 'key: value'")
		}
		if depth > maxNesting || onLine > maxNesting {
			return refuse("lists and mappings nest too deep", fmt.Sprintf("at most %d levels", maxNesting))
		}
	}
	return nil
}

// decode reads a syntax tree into what out points to. Unlike the YAML library, which
// reads 1.5 as 1 and 001010000000001 as an octal number, it takes only what is
// written as the field's type.
func decode(name string, n ast.Node, out any, fix string) error {
	if err := checkNode(name, n, reflect.TypeOf(out).Elem(), ""); err != nil {
		return err
	}
	if err := yaml.NodeToValue(n, out, yaml.Strict()); err != nil {
		return yamlError(name, err, fix)
	}
	return nil
}

var (
	nodeUnmarshaler = reflect.TypeFor[yaml.NodeUnmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// checkNode compares a node with the Go type that is to hold it; what names the
// field. null stands for a value left out.
func checkNode(file string, n ast.Node, t reflect.Type, what string) error {
	wrong := func(want, fix string) error {
		if what == "" {
			what = "this"
		}
		return nodeError(file, n, fmt.Sprintf("%s is not %s", what, want), fix)
	}
	if _, null := n.(*ast.NullNode); null {
		return nil
	}
	if p := reflect.PointerTo(t); p.Implements(nodeUnmarshaler) || p.Implements(textUnmarshaler) {
		return nil // it checks itself
	}
	switch t.Kind() {
	case reflect.Pointer:
		return checkNode(file, n, t.Elem(), what)
	case reflect.Struct:
		m, ok := n.(*ast.MappingNode)
		if !ok {
			return wrong("a mapping", "write {"+strings.Join(fields(t), ": ..., ")+": ...} or some of it")
		}
		return checkFields(file, m, t)
	case reflect.Map:
		m, ok := n.(*ast.MappingNode)
		if !ok {
			return wrong("a mapping", "write {KEY: value}")
		}
		for _, kv := range m.Values {
			if err := checkNode(file, kv.Value, t.Elem(), keyOf(kv)); err != nil {
				return err
			}
		}
	case reflect.Slice:
		s, ok := n.(*ast.SequenceNode)
		if !ok {
			return wrong("a list", "put it in [ ]")
		}
		for i, v := range s.Values {
			if err := checkNode(file, v, t.Elem(), fmt.Sprintf("%s[%d]", what, i)); err != nil {
				return err
			}
		}
	case reflect.String:
		switch n.(type) {
		case *ast.StringNode, *ast.LiteralNode:
		case *ast.MappingNode, *ast.SequenceNode:
			return wrong("a text", "write one text")
		default:
			return wrong("a text", fmt.Sprintf("put it in quotes: %q", n.GetToken().Value))
		}
	case reflect.Bool:
		if _, ok := n.(*ast.BoolNode); !ok {
			return wrong("true or false", "write true or false")
		}
	case reflect.Float64:
		switch n.(type) {
		case *ast.FloatNode, *ast.IntegerNode:
		default:
			return wrong("a number", "write a number such as 0.01")
		}
	default:
		return checkInteger(n, t, wrong)
	}
	return nil
}

func checkInteger(n ast.Node, t reflect.Type, wrong func(want, fix string) error) error {
	low, high := "0", uint64(math.MaxUint64)
	switch t.Kind() {
	case reflect.Int:
		low, high = "-9223372036854775808", math.MaxInt64
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		high = 1<<t.Bits() - 1
	}
	i, ok := n.(*ast.IntegerNode)
	if !ok || n.GetToken().Type == token.OctetIntegerType {
		return wrong("a whole number", "write decimal digits")
	}
	v := reflect.ValueOf(i.Value)
	if v.CanUint() && v.Uint() > high || v.CanInt() && (v.Int() < 0 && low == "0" || v.Int() > 0 && uint64(v.Int()) > high) {
		return wrong("in range", fmt.Sprintf("%s to %d", low, high))
	}
	return nil
}

func checkFields(file string, m *ast.MappingNode, t reflect.Type) error {
	for _, kv := range m.Values {
		key := keyOf(kv)
		f, ok := t.FieldByNameFunc(func(name string) bool {
			f, _ := t.FieldByName(name)
			return f.Tag.Get("yaml") == key && key != "-"
		})
		if !ok {
			return nodeError(file, kv.Key, fmt.Sprintf("unknown field %q", key), "there are "+strings.Join(fields(t), ", "))
		}
		if err := checkNode(file, kv.Value, f.Type, key); err != nil {
			return err
		}
	}
	return nil
}

// fields lists the names a struct has in a file.
func fields(t reflect.Type) []string {
	var out []string
	for f := range t.Fields() {
		if name := f.Tag.Get("yaml"); name != "" && name != "-" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// keyOf returns a key as it is meant: without its quotes.
func keyOf(kv *ast.MappingValueNode) string {
	if s, ok := kv.Key.(*ast.StringNode); ok {
		return s.Value
	}
	return kv.Key.GetToken().Value
}
