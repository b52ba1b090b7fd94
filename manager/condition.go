package manager

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// Conditions of statements. The language is that of SORACOM Access Management, as its
// documentation's examples show it, and the obvious rest:
//
//	expr    = and { ("or" | "||") and }        and = not { ("and" | "&&") not }
//	not     = [ "not" | "!" ] compare          compare = operand [ operator operand ]
//	operator = "==" | "!=" | "<" | "<=" | ">" | ">="
//	operand = "(" expr ")" | string | number | "true" | "false" | name [ "(" literals ")" ]
//
// Names without arguments: samUserName, operatorId, currentDate, currentTime,
// currentDateTime. With them: ipAddress('CIDR', ...), pathVariable('name'),
// date(y, m, d), time(h, m[, s]), dateTime(y, m, d, h, m[, s]). Times are UTC. Both
// sides of an operator are of one type; strings are compared for equality only. IMSIs,
// addresses and ports of a path are understood in several forms, which must not lead around
// a condition: what is compared with one may have any of them too (pathForms).

const (
	maxCondition      = 4096 // bytes
	maxConditionDepth = 50
)

// condition is a parsed expression. It may be called from any goroutine.
type condition func(*Access) bool

// kindOf is the type of an operand.
type kindOf uint8

const (
	kindBool kindOf = iota
	kindString
	kindNumber
	kindDate     // days, as a number
	kindTime     // seconds of the day
	kindDateTime // seconds since 1970
)

func (k kindOf) detail() Detail {
	return [...]Detail{DetailBool, DetailString, DetailNumber, DetailDate, DetailTime, DetailDateTime}[k]
}

// operand is a parsed part. Exactly the function of its kind is set.
type operand struct {
	kind kindOf
	b    condition
	s    func(*Access) string
	form func(string) string // of what s is compared with; nil: as it is
	n    func(*Access) int64 // number, date, time, dateTime
}

// parseCondition reads an expression. Errors are a Detail or Detailed that says where and
// what is wrong.
func parseCondition(text string) (condition, error) {
	if len(text) > maxCondition {
		return nil, DetailTooLong.Of(maxCondition)
	}
	p := conditionParser{text: text}
	p.next()
	out, err := p.or()
	if err == nil && p.token.kind != tokenEnd {
		err = p.unexpected(DetailTheEnd)
	}
	if err == nil {
		err = p.fault
	}
	if err != nil {
		return nil, err
	}
	if out.kind != kindBool {
		return nil, DetailNotTruth.Of(out.kind.detail())
	}
	return out.b, nil
}

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenName
	tokenString
	tokenNumber
	tokenSymbol
)

type token struct {
	kind tokenKind
	text string // of a string: its content
	at   int
}

type conditionParser struct {
	text  string
	at    int
	depth int
	token token // the next one
	fault error // of the scanner
}

// next reads the next token into p.token.
func (p *conditionParser) next() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
	start := p.at
	if start >= len(p.text) {
		p.token = token{kind: tokenEnd, at: start}
		return
	}
	run := func(kind tokenKind, in func(byte) bool) {
		for p.at < len(p.text) && in(p.text[p.at]) {
			p.at++
		}
		p.token = token{kind, p.text[start:p.at], start}
	}
	isDigit := func(c byte) bool { return c >= '0' && c <= '9' }
	isLetter := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }
	switch c := p.text[start]; {
	case isDigit(c):
		run(tokenNumber, isDigit)
	case isLetter(c):
		run(tokenName, func(c byte) bool { return isLetter(c) || isDigit(c) })
	case c == '\'' || c == '"':
		p.scanString(c)
	default:
		for _, s := range []string{"==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "(", ")", ","} {
			if strings.HasPrefix(p.text[start:], s) {
				p.at += len(s)
				p.token = token{tokenSymbol, s, start}
				return
			}
		}
		p.fail(start, DetailNoMeaning)
	}
}

func (p *conditionParser) scanString(quote byte) {
	start := p.at
	var b strings.Builder
	for p.at++; p.at < len(p.text); p.at++ {
		c := p.text[p.at]
		switch {
		case c == quote:
			p.at++
			p.token = token{tokenString, b.String(), start}
			return
		case c == '\\' && p.at+1 < len(p.text):
			p.at++
			c = p.text[p.at]
		}
		b.WriteByte(c)
	}
	p.fail(start, DetailOpenString)
}

func (p *conditionParser) fail(at int, what Detail) {
	if p.fault == nil {
		p.fault = DetailAt.Of(at+1, what)
	}
	p.at = len(p.text)
	p.token = token{kind: tokenEnd, at: at}
}

// unexpected says that the next token is not what is wanted: a Detail, or a token.
func (p *conditionParser) unexpected(want any) error {
	if p.fault != nil {
		return p.fault
	}
	var found any = fmt.Sprintf("%.32q", p.token.text)
	if p.token.kind == tokenEnd {
		found = DetailTheEnd
	}
	return DetailAt.Of(p.token.at+1, DetailWantFound.Of(want, found))
}

// is reports whether the next token is one of words, and takes it.
func (p *conditionParser) is(words ...string) bool {
	if p.token.kind != tokenName && p.token.kind != tokenSymbol {
		return false
	}
	for _, w := range words {
		if p.token.text == w {
			p.next()
			return true
		}
	}
	return false
}

func (p *conditionParser) or() (operand, error) {
	return p.chain((*conditionParser).and, func(a, b condition) condition {
		return func(x *Access) bool { return a(x) || b(x) }
	}, "or", "||")
}

func (p *conditionParser) and() (operand, error) {
	return p.chain((*conditionParser).not, func(a, b condition) condition {
		return func(x *Access) bool { return a(x) && b(x) }
	}, "and", "&&")
}

func (p *conditionParser) chain(part func(*conditionParser) (operand, error), join func(a, b condition) condition, words ...string) (operand, error) {
	left, err := part(p)
	for err == nil {
		at := p.token.at
		if !p.is(words...) {
			break
		}
		var right operand
		if right, err = part(p); err != nil {
			break
		}
		if left.kind != kindBool || right.kind != kindBool {
			return operand{}, DetailAt.Of(at+1, DetailBothSides.Of(words[0]))
		}
		left = operand{b: join(left.b, right.b)}
	}
	return left, err
}

func (p *conditionParser) not() (operand, error) {
	at := p.token.at
	if !p.is("not", "!") {
		return p.compare()
	}
	if p.depth++; p.depth > maxConditionDepth {
		return operand{}, DetailDeep
	}
	defer func() { p.depth-- }()
	of, err := p.not()
	if err != nil {
		return operand{}, err
	}
	if of.kind != kindBool {
		return operand{}, DetailAt.Of(at+1, DetailAfterNot.Of(of.kind.detail()))
	}
	return operand{b: func(a *Access) bool { return !of.b(a) }}, nil
}

func (p *conditionParser) compare() (operand, error) {
	left, err := p.operand()
	if err != nil {
		return operand{}, err
	}
	operator, at := p.token.text, p.token.at
	if p.token.kind != tokenSymbol || !p.is("==", "!=", "<=", ">=", "<", ">") {
		return left, nil
	}
	right, err := p.operand()
	if err != nil {
		return operand{}, err
	}
	if left.kind != right.kind {
		return operand{}, DetailAt.Of(at+1, DetailNotComparable.Of(left.kind.detail(), right.kind.detail()))
	}
	if left.n == nil {
		return equality(left, right, operator, at)
	}
	a, b := left.n, right.n
	test := map[string]condition{
		"==": func(x *Access) bool { return a(x) == b(x) }, "!=": func(x *Access) bool { return a(x) != b(x) },
		"<": func(x *Access) bool { return a(x) < b(x) }, "<=": func(x *Access) bool { return a(x) <= b(x) },
		">": func(x *Access) bool { return a(x) > b(x) }, ">=": func(x *Access) bool { return a(x) >= b(x) },
	}[operator]
	return operand{b: test}, nil
}

func equality(left, right operand, operator string, at int) (operand, error) {
	if operator != "==" && operator != "!=" {
		return operand{}, DetailAt.Of(at+1, DetailNotComparable.Of(left.kind.detail(), operator))
	}
	same := func(x *Access) bool { return left.s(x) == right.s(x) }
	form := left.form
	if form == nil {
		form = right.form
	}
	if form != nil {
		same = func(x *Access) bool { return form(left.s(x)) == form(right.s(x)) }
	}
	if left.kind == kindBool {
		same = func(x *Access) bool { return left.b(x) == right.b(x) }
	}
	if operator == "==" {
		return operand{b: same}, nil
	}
	return operand{b: func(x *Access) bool { return !same(x) }}, nil
}

func (p *conditionParser) operand() (operand, error) {
	t := p.token
	switch {
	case t.kind == tokenString:
		p.next()
		return operand{kind: kindString, s: func(*Access) string { return t.text }}, nil
	case t.kind == tokenNumber:
		n, err := strconv.ParseInt(t.text, 10, 64)
		if err != nil {
			return operand{}, DetailAt.Of(t.at+1, DetailLargeNumber)
		}
		p.next()
		return operand{kind: kindNumber, n: func(*Access) int64 { return n }}, nil
	case t.kind == tokenName:
		p.next()
		if p.is("(") {
			return p.function(t)
		}
		return variable(t)
	case p.is("("):
		if p.depth++; p.depth > maxConditionDepth {
			return operand{}, DetailDeep
		}
		defer func() { p.depth-- }()
		inner, err := p.or()
		if err == nil && !p.is(")") {
			err = p.unexpected(")")
		}
		return inner, err
	}
	return operand{}, p.unexpected(DetailAValue)
}

func variable(t token) (operand, error) {
	switch t.text {
	case "true", "false":
		return operand{b: func(*Access) bool { return t.text == "true" }}, nil
	case "samUserName":
		return operand{kind: kindString, s: func(a *Access) string { return a.Principal.UserName }}, nil
	case "operatorId":
		return operand{kind: kindString, s: func(a *Access) string { return string(a.Principal.OperatorID) }}, nil
	case "currentDate":
		return operand{kind: kindDate, n: func(a *Access) int64 { return floor(a.At.Unix(), day) }}, nil
	case "currentTime":
		return operand{kind: kindTime, n: func(a *Access) int64 { return a.At.Unix() - day*floor(a.At.Unix(), day) }}, nil
	case "currentDateTime":
		return operand{kind: kindDateTime, n: func(a *Access) int64 { return a.At.Unix() }}, nil
	}
	return operand{}, DetailAt.Of(t.at+1, DetailUnknownName.Of(t.text))
}

const day = 24 * 60 * 60

func floor(n, by int64) int64 {
	q := n / by
	if n%by < 0 {
		q--
	}
	return q
}

// function reads the arguments of a function and makes its operand.
func (p *conditionParser) function(name token) (operand, error) {
	var words []string
	var numbers []int
	for !p.is(")") {
		if len(words)+len(numbers) > 0 && !p.is(",") {
			return operand{}, p.unexpected(DetailCommaOrEnd)
		}
		switch p.token.kind {
		case tokenString:
			words = append(words, p.token.text)
		case tokenNumber:
			n, err := strconv.Atoi(p.token.text)
			if err != nil || n > 9999 {
				return operand{}, DetailAt.Of(p.token.at+1, DetailLargeNumber)
			}
			numbers = append(numbers, n)
		default:
			return operand{}, p.unexpected(DetailStringOrNumber)
		}
		p.next()
	}
	wrong := func(want any) (operand, error) { // a Detail, or a form
		return operand{}, DetailAt.Of(name.at+1, DetailWant.Of(want))
	}
	switch name.text {
	case "ipAddress":
		if len(words) == 0 || len(numbers) > 0 {
			return wrong("ipAddress('CIDR')")
		}
		var ranges []netip.Prefix
		for _, w := range words {
			r, err := parseRange(strings.TrimSpace(w))
			if err != nil {
				return operand{}, DetailAt.Of(name.at+1, DetailNotRange.Of(w))
			}
			ranges = append(ranges, r)
		}
		return operand{b: func(a *Access) bool { return Route{Ranges: ranges}.Allows(a.Source) }}, nil
	case "pathVariable":
		if len(words) != 1 || len(numbers) > 0 {
			return wrong("pathVariable('name')")
		}
		return operand{kind: kindString, form: pathForms[words[0]], s: func(a *Access) string {
			if a.PathVariable == nil {
				return ""
			}
			return a.PathVariable(words[0])
		}}, nil
	case "date", "time", "dateTime":
		if len(words) > 0 {
			return wrong(DetailNumbersIn.Of(name.text))
		}
		return timeOperand(name, numbers, wrong)
	}
	return operand{}, DetailAt.Of(name.at+1, DetailUnknownFunction.Of(name.text))
}

// pathForms give variables of a path that have several forms the one in which they are
// compared. What is in none of the forms stays as it is.
var pathForms = map[string]func(string) string{
	"imsi": func(text string) string {
		if imsi, err := ident.ParseIMSI(text); err == nil {
			return string(imsi)
		}
		return text
	},
	"ip_address": func(text string) string {
		if a, err := netip.ParseAddr(text); err == nil {
			return a.Unmap().String()
		}
		return text
	},
	"port": func(text string) string {
		if n, err := strconv.ParseUint(text, 10, 16); err == nil {
			return strconv.FormatUint(n, 10)
		}
		return text
	},
}

// timeOperand makes the operand of date, time and dateTime.
func timeOperand(name token, n []int, wrong func(any) (operand, error)) (operand, error) {
	constant := func(kind kindOf, v int64) (operand, error) {
		return operand{kind: kind, n: func(*Access) int64 { return v }}, nil
	}
	clock := func(n []int) (seconds int64, ok bool) {
		n = append(n[:len(n):len(n)], 0)[:3]
		return int64(n[0]*3600 + n[1]*60 + n[2]), n[0] < 24 && n[1] < 60 && n[2] < 60
	}
	if name.text == "time" {
		if len(n) != 2 && len(n) != 3 {
			return wrong("time(hour, minute, second)")
		}
		if s, ok := clock(n); ok {
			return constant(kindTime, s)
		}
		return wrong(DetailRealTime)
	}
	if len(n) < 3 || name.text == "date" && len(n) != 3 || name.text == "dateTime" && len(n) != 5 && len(n) != 6 {
		return wrong(map[string]string{"date": "date(year, month, day)", "dateTime": "dateTime(year, month, day, hour, minute, second)"}[name.text])
	}
	t := time.Date(n[0], time.Month(n[1]), n[2], 0, 0, 0, 0, time.UTC)
	if t.Year() != n[0] || t.Month() != time.Month(n[1]) || t.Day() != n[2] {
		return wrong(DetailRealDay)
	}
	if name.text == "date" {
		return constant(kindDate, floor(t.Unix(), day))
	}
	s, ok := clock(n[3:])
	if !ok {
		return wrong(DetailRealTime)
	}
	return constant(kindDateTime, t.Unix()+s)
}
