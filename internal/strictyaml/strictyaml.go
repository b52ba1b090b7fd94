// Package strictyaml reads YAML files into Go values and takes only what is written
// as the field's type: the YAML library by itself reads 1.5 as 1, and the IMSI
// 001010000000001 as an octal number. What is wrong is told with file, line, column
// and what to write instead.
//
// It starts no goroutines. It knows files, not what they say: which values make sense
// is for the callers.
package strictyaml

import (
	"cmp"
	"encoding"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
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

// Reader reads one file.
type Reader struct {
	// File stands for the file in errors.
	File string
	// Fix is what errors of the YAML library in Decode suggest; empty for nothing.
	Fix string
	// MaxTokens bounds what the YAML library is given, for files of strangers: with
	// long lists and mappings its time grows as their square. 0 means no bound.
	MaxTokens int
	// TooLong is the fix for a file of more than MaxTokens, NoAnchors that for anchors
	// and the like.
	TooLong, NoAnchors string
	// Noun is what the file is called in errors; empty means "file".
	Noun string
	// Beside names fields of the document that the caller has taken out of it before
	// Decode: they are among those that an unknown field is told of.
	Beside []string
	// Secret keeps values out of errors: they may be keys.
	Secret bool
}

// Parse makes a syntax tree of text, which then holds no anchors, aliases, merge keys
// or tags: they can make a small file enormous, and a file reads better without them.
// A fault in the YAML library does not end the process. Errors are *Error.
func (r Reader) Parse(text []byte) (f *ast.File, err error) {
	if err := r.checkText(text); err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			f, err = nil, &Error{File: r.File, Line: 1, Column: 1, Message: fmt.Sprintf("unreadable YAML: %v", p), Fix: "mend the YAML syntax"}
		}
	}()
	tokens := lexer.Tokenize(string(text))
	if err := r.checkTokens(tokens); err != nil {
		return nil, err
	}
	if f, err = parser.Parse(tokens, 0); err != nil {
		return nil, r.yamlError(err, "mend the YAML syntax")
	}
	return f, nil
}

// checkText refuses what is not text.
func (r Reader) checkText(text []byte) error {
	line, column := 1, 1
	for len(text) > 0 {
		c, n := utf8.DecodeRune(text)
		bad := &Error{File: r.File, Line: line, Column: column}
		switch {
		case c == utf8.RuneError && n == 1:
			bad.Message, bad.Fix = "the text is not UTF-8", "save the file as UTF-8"
			return bad
		case c < ' ' && c != '\t' && c != '\n' && c != '\r', c == 0x7f:
			bad.Message, bad.Fix = fmt.Sprintf("control character %U", c), `remove it, or write it as "\u0000" in double quotes`
			return bad
		}
		column++
		if c == '\n' {
			line, column = line+1, 1
		}
		text = text[n:]
	}
	return nil
}

// checkTokens refuses what the parser or the decoder would take too far.
func (r Reader) checkTokens(tokens token.Tokens) error {
	depth, onLine, line := 0, 0, 0
	for i, t := range tokens {
		if t.Position == nil {
			continue
		}
		refuse := func(message, fix string) error {
			return &Error{File: r.File, Line: t.Position.Line, Column: t.Position.Column, Message: message, Fix: fix}
		}
		if r.MaxTokens != 0 && i >= r.MaxTokens {
			return refuse("the "+cmp.Or(r.Noun, "file")+" is too long", r.TooLong)
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
			return refuse("anchors, aliases and merge keys are not supported", cmp.Or(r.NoAnchors, "write the value out"))
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

// Decode reads a syntax tree into what out points to. Unknown fields are refused, and
// values not written as the field's type; null stands for a value left out. Errors are
// *Error.
func (r Reader) Decode(n ast.Node, out any) error {
	if err := r.Check(n, out); err != nil {
		return err
	}
	if err := yaml.NodeToValue(n, out, yaml.Strict()); err != nil {
		return r.yamlError(err, r.Fix)
	}
	return nil
}

// Check is the part of Decode that compares n with the type of what out points to. A
// type that reads YAML or text by itself is left to do so.
func (r Reader) Check(n ast.Node, out any) error {
	return r.checkNode(n, reflect.TypeOf(out).Elem(), "")
}

var (
	nodeUnmarshaler = reflect.TypeFor[yaml.NodeUnmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	byteUnmarshaler = reflect.TypeFor[yaml.BytesUnmarshaler]()
	duration        = reflect.TypeFor[time.Duration]()
)

// checkNode compares a node with the Go type that is to hold it; what names the
// field. null stands for a value left out.
func (r Reader) checkNode(n ast.Node, t reflect.Type, what string) error {
	wrong := func(want, fix string) error {
		if what == "" {
			what = "this"
		}
		return r.NodeError(n, fmt.Sprintf("%s is not %s", what, want), fix)
	}
	if _, null := n.(*ast.NullNode); null {
		return nil
	}
	if p := reflect.PointerTo(t); p.Implements(nodeUnmarshaler) || p.Implements(textUnmarshaler) || p.Implements(byteUnmarshaler) {
		return nil // it checks itself
	}
	if t == duration {
		s, ok := n.(*ast.StringNode)
		if ok {
			_, err := time.ParseDuration(s.Value)
			ok = err == nil
		}
		if !ok {
			return wrong("a duration", "write a number with a unit, such as 100ms, 10s or 2m")
		}
		return nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		return r.checkNode(n, t.Elem(), what)
	case reflect.Struct:
		m, ok := n.(*ast.MappingNode)
		if !ok {
			return wrong("a mapping", "write {"+strings.Join(fields(t), ": ..., ")+": ...} or some of it")
		}
		return r.checkFields(m, t)
	case reflect.Map:
		m, ok := n.(*ast.MappingNode)
		if !ok {
			return wrong("a mapping", "write {KEY: value}")
		}
		for _, kv := range m.Values {
			if err := r.checkNode(kv.Value, t.Elem(), KeyOf(kv)); err != nil {
				return err
			}
		}
	case reflect.Slice:
		s, ok := n.(*ast.SequenceNode)
		if !ok {
			return wrong("a list", "put it in [ ]")
		}
		for i, v := range s.Values {
			if err := r.checkNode(v, t.Elem(), fmt.Sprintf("%s[%d]", what, i)); err != nil {
				return err
			}
		}
	case reflect.String:
		switch n.(type) {
		case *ast.StringNode, *ast.LiteralNode:
		case *ast.MappingNode, *ast.SequenceNode:
			return wrong("a text", "write one text")
		default:
			if r.Secret {
				return wrong("a text", "put it in quotes")
			}
			return wrong("a text", fmt.Sprintf("put it in quotes: %q", n.GetToken().Value))
		}
	case reflect.Bool:
		if _, ok := n.(*ast.BoolNode); !ok {
			return wrong("true or false", "write true or false")
		}
	case reflect.Float32, reflect.Float64:
		switch n.(type) {
		case *ast.FloatNode, *ast.IntegerNode:
		default:
			// The library reads 1e+06, which its own writer makes, as a plain text.
			if t := n.GetToken(); t.Type != token.StringType || !exponent.MatchString(t.Value) {
				return wrong("a number", "write a number such as 0.01")
			}
		}
	default:
		return checkInteger(n, t, wrong)
	}
	return nil
}

// exponent is a number of YAML's core schema (YAML 1.2.2 section 10.3.2) with an exponent.
var exponent = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$`)

func checkInteger(n ast.Node, t reflect.Type, wrong func(want, fix string) error) error {
	low, high := int64(0), uint64(math.MaxUint64)
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		low, high = -1<<(t.Bits()-1), 1<<(t.Bits()-1)-1
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		high = 1<<t.Bits() - 1
	}
	i, ok := n.(*ast.IntegerNode)
	if !ok || n.GetToken().Type == token.OctetIntegerType {
		return wrong("a whole number", "write decimal digits")
	}
	v := reflect.ValueOf(i.Value)
	if v.CanUint() && v.Uint() > high || v.CanInt() && (v.Int() < low || v.Int() > 0 && uint64(v.Int()) > high) {
		return wrong("in range", fmt.Sprintf("%d to %d", low, high))
	}
	return nil
}

func (r Reader) checkFields(m *ast.MappingNode, t reflect.Type) error {
	known := append(fields(t), r.Beside...)
	r.Beside = nil // of the document, not of what is in it
	for _, kv := range m.Values {
		key := KeyOf(kv)
		f, ok := fieldOf(t, key)
		if !ok {
			return r.NodeError(kv.Key, fmt.Sprintf("unknown field %q", key), "there are "+strings.Join(known, ", "))
		}
		if err := r.checkNode(kv.Value, f.Type, key); err != nil {
			return err
		}
	}
	return nil
}

// fieldOf returns the field that has a name in files.
func fieldOf(t reflect.Type, name string) (reflect.StructField, bool) {
	for f := range t.Fields() {
		if n := fieldName(f); n != "" && n == name {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// fieldName is the name of a field in files, empty if it has none: its tag, or what the
// YAML library makes of one without.
func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	switch {
	case !f.IsExported() || name == "-":
		return ""
	case name == "":
		return strings.ToLower(f.Name)
	}
	return name
}

// fields lists the names a struct has in a file.
func fields(t reflect.Type) []string {
	var out []string
	for f := range t.Fields() {
		if name := fieldName(f); name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// KeyOf returns a key as it is meant: without its quotes.
func KeyOf(kv *ast.MappingValueNode) string {
	if s, ok := kv.Key.(*ast.StringNode); ok {
		return s.Value
	}
	return kv.Key.GetToken().Value
}
