package manager

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var someone = Access{
	Principal: Principal{"OP0000000001", "ann"}, API: "Sim:getSim", Source: netip.MustParseAddr("10.0.0.7"),
	PathVariable: func(name string) string {
		return map[string]string{"sim_id": "8942", "imsi": "imsi-001010000000001", "ip_address": "192.0.2.7", "port": "022"}[name]
	},
	At: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
}

func TestConditions(t *testing.T) {
	for text, want := range map[string]bool{
		"ipAddress('10.0.0.0/24')":                                      true,
		"ipAddress('10.0.1.0/24')":                                      false,
		"ipAddress('192.0.2.1', '10.0.0.7')":                            true,
		"pathVariable('sim_id') == '8942'":                              true,
		`pathVariable("sim_id") != "8942"`:                              false,
		"pathVariable('sim_id') == '08942'":                             false,
		"pathVariable('imsi') == '001010000000001'":                     true,
		"pathVariable('imsi') == 'imsi-001010000000001'":                true,
		"'imsi-001010000000001' != pathVariable('imsi')":                false,
		"pathVariable('imsi') == 'imsi-001010000000002'":                false,
		"pathVariable('imsi') == ''":                                    false,
		"pathVariable('ip_address') == '::ffff:192.0.2.7'":              true,
		"pathVariable('port') == '22'":                                  true,
		"pathVariable('port') == '0022'":                                true,
		"pathVariable('port') == pathVariable('port')":                  true,
		"pathVariable('nothing') == ''":                                 true,
		"pathVariable('user_name') == samUserName":                      false,
		"samUserName == 'ann'":                                          true,
		"operatorId == 'OP0000000001'":                                  true,
		"currentDate >= date(2026, 03, 04)":                             true,
		"currentDate > date(2026,3,4)":                                  false,
		"currentDate >= date(2023, 02, 01) and ipAddress('10.0.0.0/8')": true,
		"currentTime >= time(5,6) and currentTime < time(5,6,8)":        true,
		"currentDateTime == dateTime(2026,3,4,5,6,7)":                   true,
		"currentDateTime < dateTime(2026,3,4,5,6)":                      false,
		"not ipAddress('10.0.0.0/24') or samUserName == 'ann'":          true,
		"not (ipAddress('10.0.0.0/24') or samUserName == 'ann')":        false,
		"!false && !!true":                                              true,
		"true or false and false":                                       true,
		"(true or false) and false":                                     false,
		"1 < 2":                                                         true,
		`samUserName == 'a\nn'`:                                         true, // a backslash takes the next character as it is
		"true == false":                                                 false,
	} {
		c, err := parseCondition(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := c(&someone); got != want {
			t.Errorf("%s = %v; want %v", text, got, want)
		}
	}
	// A caller whose address is not known is in no range.
	c, _ := parseCondition("ipAddress('0.0.0.0/0')")
	if unknown := someone; c(&Access{Principal: unknown.Principal}) {
		t.Error("a caller without an address is in a range")
	}
}

func TestBadConditions(t *testing.T) {
	for text, want := range map[string]string{
		"samUserName":                           "it is a string, not true or false",
		"samUserName = 'a'":                     "at 13",
		"samUserName == ":                       "found the end",
		"currentDate >= 5":                      "a date cannot be compared with a number",
		"currentDate >= currentDateTime":        "cannot be compared",
		"samUserName < 'b'":                     "cannot be compared with <",
		"date(2026, 2, 30) == date(2026, 1, 1)": "a day that exists",
		"time(24, 0) == time(0, 0)":             "a time that exists",
		"ipAddress('10.0.0.0/33')":              "is not a CIDR range",
		"ipAddress(10)":                         "ipAddress('CIDR')",
		"nobody == 'x'":                         "unknown name",
		"nothing('x')":                          "unknown function",
		"pathVariable('a', 'b') == ''":          "pathVariable('name')",
		"'abc":                                  "does not end",
		"true true":                             "want the end",
		"(true":                                 "want )",
		"true and 1":                            "both sides",
		"not 1":                                 "what follows",
		"date(99999999999999999999,1,1) == currentDate":                "too large",
		strings.Repeat("(", 1000) + "true" + strings.Repeat(")", 1000): "nested too deeply",
		strings.Repeat("!", 1000) + "true":                             "nested too deeply",
		strings.Repeat(" ", 5000):                                      "longer than",
		"#":                                                            "has no meaning",
		"true == false == true":                                        "want the end",
	} {
		if _, err := parseCondition(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v; want %q", text, err, want)
		}
	}
}

func TestPermissions(t *testing.T) {
	for _, c := range []struct {
		text string
		want decision
	}{
		{`{"statements":[]}`, undecided},
		{`{"statements":[{"effect":"allow","api":"*"}]}`, allowed},
		{`{"statements":[{"effect":"allow","api":"Sim:*"}]}`, allowed},
		{`{"statements":[{"effect":"allow","api":"Sim:get*"}]}`, allowed},
		{`{"statements":[{"effect":"allow","api":"Sim:getSim"}]}`, allowed},
		{`{"statements":[{"effect":"allow","api":"Sim:getSi"}]}`, undecided},
		{`{"statements":[{"effect":"allow","api":["Group:*","Sim:listSims"]}]}`, undecided},
		{`{"statements":[{"effect":"allow","api":["Group:*","Sim:getSim"]}]}`, allowed},
		{`{"statements":[{"effect":"allow","api":"*"},{"effect":"deny","api":"Sim:getSim"}]}`, denied},
		{`{"statements":[{"effect":"deny","api":"Sim:getSim"},{"effect":"allow","api":"*"}]}`, denied},
		{`{"statements":[{"effect":"deny","api":"Sim:getSim","condition":"false"},{"effect":"allow","api":"*"}]}`, allowed},
		{`{"statements":[{"effect":"allow","api":"*","condition":"pathVariable('sim_id') == '8942'"}]}`, allowed},
		{`{"statements":[{"effect":"allow","api":"*","condition":"pathVariable('sim_id') == '1'"}]}`, undecided},
		{`{"statements":[{"effect":"allow","api":"*","condition":""}]}`, allowed},
	} {
		p, err := parsePermission(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
		} else if got := p.decide(someone.API, someone); got != c.want {
			t.Errorf("%s: %d; want %d", c.text, got, c.want)
		}
	}
	for text, want := range map[string]string{
		``:   "ends early",
		`{}`: "statements is required",
		`[]`: "another type",
		`{"statements":[{"effect":"allow","api":"*","conditions":"false"}]}`:                                        "unknown field",
		`{"statements":[{"api":"*"}]}`:                                                                              "effect",
		`{"statements":[{"effect":"allow"}]}`:                                                                       "api is required",
		`{"statements":[{"effect":"allow","api":[]}]}`:                                                              "api is required",
		`{"statements":[{"effect":"allow","api":"Sim"}]}`:                                                           "want a name",
		`{"statements":[{"effect":"allow","api":"S*m:x"}]}`:                                                         "want a name",
		`{"statements":[{"effect":"allow","api":5}]}`:                                                               "another type",
		`{"statements":[{"effect":"allow","api":"*","condition":"x"}]}`:                                             "statement 1: condition: at 1",
		`{"statements":[]} {}`:                                                                                      "more after",
		`{"statements":[` + strings.Repeat(`{"effect":"allow","api":"*"},`, 200) + `{"effect":"allow","api":"*"}]}`: "more than 200",
	} {
		if _, err := parsePermission(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v; want %q", text, err, want)
		}
	}
}

func TestTrustPolicies(t *testing.T) {
	const form = `{"statements":[{"effect":"allow","principal":{"soracom":%s}}]}`
	for principal, want := range map[string]decision{
		`["srn:soracom:OP0000000001::User:ann"]`:                                                   allowed,
		`"srn:soracom:OP0000000001::User:ann"`:                                                     allowed,
		`["srn:soracom:OP0000000001::User:anna"]`:                                                  undecided,
		`["srn:soracom:OP0000000002::User:ann"]`:                                                   undecided,
		`["srn:soracom:OP0000000001::Operator:OP0000000001"]`:                                      undecided,
		`["srn:soracom:OP0000000001::Operator:OP0000000001","srn:soracom:OP0000000001::User:ann"]`: allowed,
	} {
		p, err := parseTrustPolicy(fmt.Sprintf(form, principal))
		if err != nil {
			t.Errorf("%s: %v", principal, err)
		} else if got := p.decide(someone.Principal.String(), someone); got != want {
			t.Errorf("%s: %d; want %d", principal, got, want)
		}
	}
	for _, principal := range []string{`[]`, `"*"`, `"srn:soracom:OP0000000001::User:*"`, `"srn:soracom:OP1::User:a"`, `"ann"`, `"srn:soracom:OP0000000001::Operator:OP0000000002"`} {
		if _, err := parseTrustPolicy(fmt.Sprintf(form, principal)); err == nil {
			t.Errorf("%s: accepted", principal)
		}
	}
}

// Whatever is written, it is refused or decides, and a condition negated is its
// opposite.
func FuzzPermission(f *testing.F) {
	f.Add("currentDate >= date(2023, 02, 01) and ipAddress('10.0.0.0/24')")
	f.Add("pathVariable('user_name') == samUserName or not (1 < 2)")
	f.Add(`!'\'' == "x" && time(1,2) != currentTime`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCondition(text)
		if err != nil {
			return
		}
		not, err := parseCondition("not (" + text + ")")
		if err != nil {
			if len(text)+6 <= maxCondition && !strings.Contains(err.Error(), "deep") {
				t.Fatalf("%q is accepted, its negation not: %v", text, err)
			}
			return
		}
		if c(&someone) == not(&someone) || c(&Access{}) == not(&Access{}) {
			t.Errorf("%q and its negation agree", text)
		}
	})
}

// FuzzPolicy reads whole permissions and trust policies.
func FuzzPolicy(f *testing.F) {
	f.Add(`{"statements":[{"effect":"allow","api":["Sim:*"],"condition":"ipAddress('10.0.0.0/8')"}]}`)
	f.Add(`{"statements":[{"effect":"deny","principal":{"soracom":"srn:soracom:OP0000000001::User:a","service":["Flux"]}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := parsePermission(text); err == nil {
			p.decide(someone.API, someone)
		}
		if p, err := parseTrustPolicy(text); err == nil {
			p.decide(someone.Principal.String(), someone)
		}
	})
}
