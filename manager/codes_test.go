package manager

import (
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every code has the form that clients know, and every code and detail has a text in
// both languages, which take the same arguments in the same order.
func TestCodes(t *testing.T) {
	form := regexp.MustCompile(`^[A-Z]{3}[0-9]{4}$`)
	for c := range codes {
		if !form.MatchString(string(c)) {
			t.Errorf("code %q; want three capitals and four digits", c)
		}
		if want := codes[c].kind; NewError(c).Kind() != want {
			t.Errorf("%s: kind %v; want %v", c, NewError(c).Kind(), want)
		}
	}
	for name, text := range texts(t) {
		if text.en == "" || text.ja == "" || text.en == text.ja {
			t.Errorf("%s: texts %q and %q; want one in each language", name, text.en, text.ja)
		}
		if en, ja := verbs.FindAllString(text.en, -1), verbs.FindAllString(text.ja, -1); !slices.Equal(en, ja) {
			t.Errorf("%s: the texts take %v and %v; want the same", name, en, ja)
		}
	}
	if got := fmt.Sprint(NewError("XXX0000").Message(Japanese)); got != "XXX0000" {
		t.Errorf("a code from a newer manager reads %q; want the code", got)
	}
}

var verbs = regexp.MustCompile(`%[.0-9]*[a-z]`)

type bothTexts struct{ en, ja string }

// texts are those of all codes and details, by their names.
func texts(t *testing.T) map[string]bothTexts {
	out := map[string]bothTexts{}
	for c, text := range codes {
		out[string(c)] = bothTexts{text.en, text.ja}
	}
	for d := Detail(1); d < detailsEnd; d++ {
		text, ok := details[d]
		if !ok {
			t.Errorf("detail %d has no text", d)
		}
		out[fmt.Sprintf("detail %q", text.en)] = bothTexts{text.en, text.ja}
	}
	if len(out) != len(codes)+int(detailsEnd)-1 {
		t.Error("two details have one English text")
	}
	return out
}

// terms are the words in Latin letters that Japanese texts may have: names of fields and
// their values, calls, and what is written so in Japanese too.
var terms = strings.Fields(`
	ANONYMOUS API CA CIDR CONNECT HTTP ID IMEI IMSI IP JSON KEY OP Operator PEM PUBLIC SIM Sim Subscriber TCP TLS UPF URL UTF-8 User
	X-Soracom-API-Key X-Soracom-Token allow api base64 bundles day deactivate deleteSession deny destination doNothing duration effect
	enable_termination expiryAction expiryTime from getSim headers http https id imei imsi instance ipRanges last_evaluated_key limit list
	mfaOTPCode minutes month name not numberOfPingRequests operatorId period ping port principal region resource_id resource_type service
	simId soracom source speedClass srn statements suspend targetGroupId targetImsi targetOperatorId targetSimId terminate timeoutSeconds
	to tokenTimeoutSeconds url userName
`)

// A Japanese text is Japanese: what it has of Latin letters is a name, a value or a term.
func TestJapanese(t *testing.T) {
	latin := regexp.MustCompile(`[A-Za-z][\w-]*`)
	japanese := regexp.MustCompile(`[\p{Hiragana}\p{Katakana}\p{Han}]`)
	unused := map[string]bool{}
	for _, w := range terms {
		unused[w] = true
	}
	for name, text := range texts(t) {
		if !japanese.MatchString(text.ja) {
			t.Errorf("%s: %q is not Japanese", name, text.ja)
		}
		for _, w := range latin.FindAllString(verbs.ReplaceAllString(text.ja, "、"), -1) {
			if !slices.Contains(terms, w) {
				t.Errorf("%s: %q has %q; want a name, a value or a term", name, text.ja, w)
			}
			delete(unused, w)
		}
	}
	for w := range unused {
		t.Errorf("no text has the term %s", w)
	}
}

// The arguments of messages are values, names and details; prose would be in one
// language only.
func TestArgumentsAreNoProse(t *testing.T) {
	prose := regexp.MustCompile(`[a-z]{2,} [a-z]{2,}`)
	calls := 0
	for _, pattern := range []string{"*.go", "api/*.go", "rpc/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			set := gotoken.NewFileSet()
			f, err := parser.ParseFile(set, file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			inspect := func(arg ast.Expr) {
				calls++
				ast.Inspect(arg, func(n ast.Node) bool {
					switch n := n.(type) {
					case *ast.BasicLit:
						if n.Kind == gotoken.STRING && prose.MatchString(n.Value) {
							t.Errorf("%s: %s is prose; make it a Detail", set.Position(n.Pos()), n.Value)
						}
					case *ast.CallExpr:
						if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Error" && len(n.Args) == 0 {
							t.Errorf("%s: an error's text; make it a Detail", set.Position(n.Pos()))
						}
					}
					return true
				})
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					name := ""
					switch fun := n.Fun.(type) {
					case *ast.Ident:
						name = fun.Name
					case *ast.SelectorExpr:
						if x, ok := fun.X.(*ast.Ident); !ok || x.Name != "connect" {
							name = fun.Sel.Name
						}
					}
					if slices.Contains([]string{"NewError", "Of", "wrong", "unexpected"}, name) {
						for _, a := range n.Args {
							inspect(a)
						}
					}
				case *ast.KeyValueExpr:
					if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Args" {
						inspect(n.Value)
					}
				}
				return true
			})
		}
	}
	if calls < 200 {
		t.Errorf("only %d arguments were found", calls)
	}
}

// Details are worded in the message's language, however deep they are.
func TestDetails(t *testing.T) {
	_, err := parsePermission(`{"statements":[{"effect":"allow","api":"*","condition":"1 < 'a'"}]}`)
	e := NewError(CodeBadPermission, err)
	for l, want := range map[Language]string{
		English:  "The permission is not valid: statement 1: condition: at 3: a number cannot be compared with a string.",
		Japanese: "パーミッションが不正です: statements の 1 番目: condition について: 3 文字目: 数値 は 文字列 と比較できません",
	} {
		if got := e.Message(l); got != want {
			t.Errorf("message %q; want %q", got, want)
		}
	}
	if got := fmt.Sprint(DetailNotJSON.Of(3), " ", DetailEmpty); got != "at byte 3 it is not JSON it is empty" {
		t.Errorf("for a log and a relay: %q; want English", got)
	}
}
