package manager

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
)

const (
	// MaxPermission bounds a permission or trust policy, in bytes.
	MaxPermission = 20 << 10
	maxStatements = 200
)

// decision is what a policy says about a call. Where several policies apply, the
// largest counts: a denial is final.
type decision uint8

const (
	undecided decision = iota // nothing in the policy is about the call
	allowed
	denied
)

// policy is a parsed permission or trust policy. It never changes.
type policy struct{ statements []statement }

type statement struct {
	effect decision
	// patterns are of API names in a permission, of principals in a trust policy; one
	// that ends in * matches by what is before it.
	patterns  []string
	condition condition // nil: always
}

// decide returns what p says about a call. name is what patterns are compared with.
func (p *policy) decide(name string, a Access) decision {
	out := undecided
	if p == nil {
		return out
	}
	for _, s := range p.statements {
		if s.effect > out && s.matches(name) && (s.condition == nil || s.condition(&a)) {
			out = s.effect
		}
	}
	return out
}

func (s statement) matches(name string) bool {
	return slices.ContainsFunc(s.patterns, func(p string) bool {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(name, prefix)
		}
		return p == name
	})
}

// statementJSON is a statement as it is written. Members that are not known are
// refused: a misspelt "condition" must not be one that is always met.
type statementJSON struct {
	Effect    string   `json:"effect"`
	API       oneOrAll `json:"api"`
	Condition string   `json:"condition"`
	Principal *struct {
		Soracom oneOrAll `json:"soracom"`
		Service oneOrAll `json:"service"`
	} `json:"principal"`
}

// oneOrAll is a string or a list of strings.
type oneOrAll []string

// UnmarshalJSON implements json.Unmarshaler.
func (o *oneOrAll) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		*o = oneOrAll{s}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(o))
}

// parsePermission reads a permission: {"statements":[{"effect":"allow","api":["Sim:*"],
// "condition":"..."}]}.
func parsePermission(text string) (*policy, error) {
	return parsePolicy(text, func(s statementJSON) ([]string, error) {
		if s.Principal != nil {
			return nil, DetailNotInPermission
		}
		if len(s.API) == 0 {
			return nil, DetailRequired.Of("api")
		}
		for _, a := range s.API {
			if !validAPIPattern(a) {
				return nil, DetailBadAPI.Of(a)
			}
		}
		return s.API, nil
	})
}

// parseTrustPolicy reads a trust policy: {"statements":[{"effect":"allow","principal":
// {"soracom":["srn:soracom:OP...::User:name"]},"condition":"..."}]}. Services in it are
// accepted and never match: there are none here.
func parseTrustPolicy(text string) (*policy, error) {
	return parsePolicy(text, func(s statementJSON) ([]string, error) {
		if s.API != nil {
			return nil, DetailNotInTrustPolicy
		}
		if s.Principal == nil || len(s.Principal.Soracom)+len(s.Principal.Service) == 0 {
			return nil, DetailRequired.Of("principal")
		}
		for _, p := range s.Principal.Soracom {
			if !validPrincipal(p) {
				return nil, DetailBadPrincipal.Of(p)
			}
		}
		return s.Principal.Soracom, nil
	})
}

// parsePolicy returns errors that are a Detail or Detailed, as patterns does.
func parsePolicy(text string, patterns func(statementJSON) ([]string, error)) (*policy, error) {
	if len(text) > MaxPermission {
		return nil, DetailTooLong.Of(MaxPermission)
	}
	var in struct {
		Statements []statementJSON `json:"statements"`
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return nil, jsonFault(err)
	}
	if rest, err := io.ReadAll(io.MultiReader(d.Buffered(), strings.NewReader(text[min(int(d.InputOffset()), len(text)):]))); err != nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, DetailTwoValues
	}
	if in.Statements == nil {
		return nil, DetailRequired.Of("statements")
	}
	if len(in.Statements) > maxStatements {
		return nil, DetailManyStatements.Of(maxStatements)
	}
	p := &policy{}
	for i, s := range in.Statements {
		out, err := s.parse(patterns)
		if err != nil {
			return nil, DetailStatement.Of(i+1, err)
		}
		p.statements = append(p.statements, out)
	}
	return p, nil
}

func (s statementJSON) parse(patterns func(statementJSON) ([]string, error)) (out statement, err error) {
	switch s.Effect {
	case "allow":
		out.effect = allowed
	case "deny":
		out.effect = denied
	default:
		return out, DetailBadEffect.Of(s.Effect)
	}
	if out.patterns, err = patterns(s); err != nil {
		return out, err
	}
	if strings.TrimSpace(s.Condition) != "" {
		if out.condition, err = parseCondition(s.Condition); err != nil {
			return out, DetailIn.Of("condition", err)
		}
	}
	return out, nil
}

// jsonFault says what is wrong with JSON in the terms of who wrote it.
func jsonFault(err error) error {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return DetailBadType.Of(cmp.Or(e.Field, "JSON"))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return DetailEndsEarly
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return DetailNotJSON.Of(e.Offset)
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return DetailUnknownField.Of(name)
	}
	return DetailBadJSON
}

func validAPIPattern(s string) bool {
	name, star := strings.CutSuffix(s, "*")
	if name == "" {
		return star
	}
	tag, operation, ok := strings.Cut(name, ":")
	return ok && isWord(tag) && (isWord(operation) || star && operation == "")
}

func isWord(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return s != ""
}

// validPrincipal reports whether s is what Principal.String makes.
func validPrincipal(s string) bool {
	rest, ok := strings.CutPrefix(s, "srn:soracom:")
	op, rest, ok2 := strings.Cut(rest, "::")
	if !ok || !ok2 || !validOperatorID(OperatorID(op)) {
		return false
	}
	if name, ok := strings.CutPrefix(rest, "User:"); ok {
		return validName(name)
	}
	return rest == "Operator:"+op
}

// validName reports whether s may name a SAM user or a role.
func validName(s string) bool {
	for i, c := range s {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || !strings.ContainsRune("_+=,.@-", c)) {
			return false
		}
	}
	return s != "" && len(s) <= 128
}
