package steps

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/simreach/simreach/scenarios/spec"
)

// arguments is what each verb decodes; TestArgumentsAreThoseDecoded keeps it true.
var arguments = map[string]any{
	"register": registerArgs{}, "deregister": deregisterArgs{}, "await": awaitArgs{}, "access": accessArgs{}, "revoke": revokeArgs{},
	"http": httpArgs{}, "connect": connectArgs{}, "exchange": exchangeArgs{}, "half_close": halfCloseArgs{}, "cut": cutArgs{},
	"refused": refusedArgs{}, "exec": execArgs{}, "stop": stopArgs{}, "kill": nodeArgs{}, "start": nodeArgs{},
	"api": apiArgs{}, "certificate": certificateArgs{}, "capture": captureArgs{}, "streams": streamsArgs{},
}

func yamlNames(t reflect.Type) []string {
	var out []string
	for f := range t.Fields() {
		if n := f.Tag.Get("yaml"); n != "" && n != "-" {
			out = append(out, n)
		}
	}
	return out
}

// TestArgumentsAreThoseDecoded asks each verb: an unknown field's error lists them.
func TestArgumentsAreThoseDecoded(t *testing.T) {
	for verb := range verbs {
		args, ok := arguments[verb]
		if !ok {
			t.Errorf("no arguments are known of %s", verb)
			continue
		}
		_, _, err := compile(t, "  - "+verb+": {not_an_argument: x}\n")
		if want := "(there are " + strings.Join(yamlNames(reflect.TypeOf(args)), ", ") + ")"; err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: want %s, got %v", verb, want, err)
		}
	}
	if len(arguments) != len(verbs) {
		t.Errorf("%d verbs, %d kinds of arguments", len(verbs), len(arguments))
	}
}

var (
	stepRow  = regexp.MustCompile("^\\| (`[a-z_]+`(?:, `[a-z_]+`)*) \\| (.*?) \\| .* \\|$")
	fieldRow = regexp.MustCompile("^\\| (`[a-z_]+`(?:, `[a-z_]+`)*) \\| (.*) \\|$")
	word     = regexp.MustCompile("`([^`]*)`")
	names    = regexp.MustCompile(`[a-z_]+`)
)

func readme(t *testing.T) (topology, steps string) {
	t.Helper()
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	topology, steps, ok := strings.Cut(string(b), "\n## Steps\n")
	if !ok {
		t.Fatal("README.md has no part called Steps")
	}
	return topology, steps
}

// TestReadmeNamesTheVerbs: its table has exactly the verbs and arguments there are.
func TestReadmeNamesTheVerbs(t *testing.T) {
	_, text := readme(t)
	documented := map[string][]string{}
	for line := range strings.Lines(text) {
		m := stepRow.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		var args []string
		for _, w := range word.FindAllStringSubmatch(m[2], -1) {
			// What stands in braces or parentheses describes the argument before it.
			outer := regexp.MustCompile(`\{[^}]*\}|\([^)]*\)`).ReplaceAllString(w[1], "")
			args = append(args, names.FindAllString(outer, -1)...)
		}
		for _, v := range word.FindAllStringSubmatch(m[1], -1) {
			documented[v[1]] = args
		}
	}
	for verb, args := range arguments {
		want, got := yamlNames(reflect.TypeOf(args)), slices.Clone(documented[verb])
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			t.Errorf("%s: README names %q, the arguments are %q", verb, got, want)
		}
	}
	for verb := range documented {
		if _, ok := verbs[verb]; !ok {
			t.Errorf("README tells of a verb %s", verb)
		}
	}
}

// TestReadmeNamesTheFields: every field of the topology has its row.
func TestReadmeNamesTheFields(t *testing.T) {
	text, _ := readme(t)
	rows := map[string]string{}
	for line := range strings.Lines(text) {
		if m := fieldRow.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			for _, name := range word.FindAllStringSubmatch(m[1], -1) {
				rows[name[1]] = m[2]
			}
		}
	}
	for f := range reflect.TypeFor[spec.Spec]().Fields() {
		name := f.Tag.Get("yaml")
		if name == "" || name == "-" {
			continue
		}
		row, ok := rows[name]
		if !ok {
			t.Errorf("README has no row for %s", name)
			continue
		}
		delete(rows, name)
		inner := f.Type
		if inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() != reflect.Struct {
			continue
		}
		for _, n := range yamlNames(inner) {
			if !regexp.MustCompile(`\b` + n + `\b`).MatchString(row) {
				t.Errorf("README's row for %s does not name %s", name, n)
			}
		}
	}
	for name := range rows {
		t.Errorf("README has a row for %s, which is no field", name)
	}
}

// schema is the part of JSON Schema that scenario.schema.json is written in.
type schema struct {
	Type        string             `json:"type"`
	Ref         string             `json:"$ref"`
	Properties  map[string]*schema `json:"properties"`
	Additional  json.RawMessage    `json:"additionalProperties"`
	Items       *schema            `json:"items"`
	Defs        map[string]*schema `json:"$defs"`
	Description string             `json:"description"`
	Enum        []any              `json:"enum"`
	Required    []string           `json:"required"`
	Minimum     *float64           `json:"minimum"`
	Maximum     *float64           `json:"maximum"`
}

// TestSchemaIsInStep: the published JSON Schema has exactly the fields of the Spec
// and the arguments of the verbs, with their types.
func TestSchemaIsInStep(t *testing.T) {
	b, err := os.ReadFile("../scenario.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var root schema
	if err := json.Unmarshal(b, &root); err != nil {
		t.Fatal(err)
	}
	c := comparison{t, root.Defs}
	steps := root.Properties["steps"]
	delete(root.Properties, "steps")
	c.compare("", &root, reflect.TypeFor[spec.Spec]())
	if steps == nil || steps.Items == nil {
		t.Fatal("the schema has no steps")
	}
	step := c.follow(steps.Items)
	for _, own := range []string{"name", "timeout"} {
		if step.Properties[own] == nil {
			t.Errorf("a step has no %s", own)
		}
		delete(step.Properties, own)
	}
	for verb, args := range arguments {
		if s := step.Properties[verb]; s == nil {
			t.Errorf("the schema has no verb %s", verb)
		} else {
			c.compare(verb, s, reflect.TypeOf(args))
		}
		delete(step.Properties, verb)
	}
	for verb := range step.Properties {
		t.Errorf("the schema has a verb %s", verb)
	}
}

type comparison struct {
	t    *testing.T
	defs map[string]*schema
}

func (c comparison) follow(s *schema) *schema {
	if s.Ref == "" {
		return s
	}
	d := c.defs[strings.TrimPrefix(s.Ref, "#/$defs/")]
	if d == nil {
		c.t.Fatalf("the schema does not define %s", s.Ref)
	}
	return d
}

func (c comparison) compare(at string, s *schema, t reflect.Type) {
	s = c.follow(s)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	want := "integer"
	switch {
	case t == reflect.TypeFor[spec.Duration](), t.Kind() == reflect.String:
		want = "string"
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Map:
		want = "object"
	case t.Kind() == reflect.Slice:
		want = "array"
	case t.Kind() == reflect.Bool:
		want = "boolean"
	case t.Kind() == reflect.Float64:
		want = "number"
	}
	if s.Type != want {
		c.t.Errorf("%s: type %q in the schema, want %q", at, s.Type, want)
		return
	}
	switch t.Kind() {
	case reflect.Slice:
		if s.Items == nil {
			c.t.Errorf("%s: no items in the schema", at)
			return
		}
		c.compare(at+"[]", s.Items, t.Elem())
	case reflect.Struct:
		if string(s.Additional) != "false" {
			c.t.Errorf("%s: the schema allows unknown fields", at)
		}
		known := yamlNames(t)
		for f := range t.Fields() {
			name := f.Tag.Get("yaml")
			if !slices.Contains(known, name) {
				continue
			}
			if p := s.Properties[name]; p == nil {
				c.t.Errorf("%s.%s: not in the schema", at, name)
			} else {
				c.compare(at+"."+name, p, f.Type)
			}
		}
		for name := range s.Properties {
			if !slices.Contains(known, name) {
				c.t.Errorf("%s.%s: in the schema only", at, name)
			}
		}
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if s.Minimum == nil || *s.Minimum < 0 {
			c.t.Errorf("%s: the schema allows negative numbers", at)
		}
	}
}

// TestSchemaDescribesItself: every field has a type and words for people.
func TestSchemaDescribesItself(t *testing.T) {
	b, err := os.ReadFile("../scenario.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var root schema
	if err := json.Unmarshal(b, &root); err != nil {
		t.Fatal(err)
	}
	var walk func(at string, s *schema)
	walk = func(at string, s *schema) {
		for name, p := range s.Properties {
			if p.Ref == "" && p.Type == "" {
				t.Errorf("%s.%s has no type", at, name)
			}
			if cmp.Or(p.Description, p.Ref) == "" {
				t.Errorf("%s.%s has no description", at, name)
			}
			walk(at+"."+name, p)
		}
		for _, r := range s.Required {
			if s.Properties[r] == nil {
				t.Errorf("%s requires %s, which it does not have", at, r)
			}
		}
		if s.Items != nil {
			walk(at+"[]", s.Items)
		}
	}
	walk("", &root)
	for name, d := range root.Defs {
		walk(fmt.Sprintf("$defs.%s", name), d)
	}
}
