package strictyaml_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/strictyaml"
)

type inner struct{ Plain string } // without a tag: the lower-case name

type sample struct {
	Text   string            `yaml:"text"`
	Whole  int               `yaml:"whole"`
	Small  int8              `yaml:"small"`
	Port   uint16            `yaml:"port"`
	Ratio  float64           `yaml:"ratio"`
	Wait   time.Duration     `yaml:"wait"`
	Flag   *bool             `yaml:"flag,omitempty"`
	At     netip.Addr        `yaml:"at"`
	List   []int             `yaml:"list"`
	Map    map[string]string `yaml:"map"`
	Inner  inner             `yaml:"inner"`
	Hidden string            `yaml:"-"`
}

func read(r strictyaml.Reader, text string) (sample, error) {
	var s sample
	r.File = "f"
	file, err := r.Parse([]byte(text))
	if err != nil {
		return s, err
	}
	return s, r.Decode(file.Docs[0].Body, &s)
}

// TestExponents: numbers as the library itself writes large ones.
func TestExponents(t *testing.T) {
	for text, want := range map[string]float64{"1e+06": 1e6, "-2.5E-3": -0.0025, ".5e1": 5} {
		if s, err := read(strictyaml.Reader{}, "ratio: "+text+"\n"); err != nil || s.Ratio != want {
			t.Errorf("%s is read as %v, %v", text, s.Ratio, err)
		}
	}
}

// TestWhatIsTaken: every kind of value, written as its type.
func TestWhatIsTaken(t *testing.T) {
	s, err := read(strictyaml.Reader{}, `
text: "001010000000001"
whole: -3
small: -128
port: 0xffff
ratio: 2
wait: 1m30s
flag: true
at: 192.0.2.1
list: [1, 2]
map: {a: b}
inner: {plain: x}
`)
	if err != nil {
		t.Fatal(err)
	}
	if s.Text != "001010000000001" || s.Whole != -3 || s.Small != -128 || s.Port != 0xffff || s.Ratio != 2 || s.Wait != 90*time.Second ||
		s.Flag == nil || !*s.Flag || s.At.String() != "192.0.2.1" || len(s.List) != 2 || s.Map["a"] != "b" || s.Inner.Plain != "x" {
		t.Errorf("got %+v", s)
	}
	if s, err := read(strictyaml.Reader{}, "text:\nwhole: null\nflag: ~\n"); err != nil || s.Text != "" || s.Flag != nil {
		t.Errorf("got %+v, %v, want null to leave values out", s, err)
	}
}

// TestWhatIsRefused, with its place and the fix.
func TestWhatIsRefused(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"text: 001010000000001\n", `f:1:7: text is not a text (put it in quotes: "001010000000001")`},
		{"text: true\n", `f:1:7: text is not a text (put it in quotes: "true")`},
		{"text: [a]\n", "f:1:7: text is not a text (write one text)"},
		{"whole: 1.5\n", "f:1:8: whole is not a whole number (write decimal digits)"},
		{"whole: 010\n", "f:1:8: whole is not a whole number (write decimal digits)"},
		{"whole: \"1\"\n", "f:1:8: whole is not a whole number (write decimal digits)"},
		{"whole: 9223372036854775808\n", "f:1:8: whole is not in range (-9223372036854775808 to 9223372036854775807)"},
		{"small: 128\n", "f:1:8: small is not in range (-128 to 127)"},
		{"small: -129\n", "f:1:8: small is not in range (-128 to 127)"},
		{"port: 65536\n", "f:1:7: port is not in range (0 to 65535)"},
		{"port: -1\n", "f:1:7: port is not in range (0 to 65535)"},
		{"ratio: \"1e3\"\n", "f:1:8: ratio is not a number (write a number such as 0.01)"},
		{"ratio: half\n", "f:1:8: ratio is not a number (write a number such as 0.01)"},
		{"wait: 30\n", "f:1:7: wait is not a duration (write a number with a unit, such as 100ms, 10s or 2m)"},
		{"wait: soon\n", "f:1:7: wait is not a duration (write a number with a unit, such as 100ms, 10s or 2m)"},
		{"flag: yes\n", "f:1:7: flag is not true or false (write true or false)"},
		{"list: 1\n", "f:1:7: list is not a list (put it in [ ])"},
		{"list: [1, x]\n", "f:1:11: list[1] is not a whole number (write decimal digits)"},
		{"map: [a]\n", "f:1:6: map is not a mapping (write {KEY: value})"},
		{"map: {a: 1}\n", `f:1:10: a is not a text (put it in quotes: "1")`},
		{"inner: {Plain: x}\n", `f:1:9: unknown field "Plain" (there are plain)`},
		{"hidden: x\n", `f:1:1: unknown field "hidden" (there are text, whole, small, port, ratio, wait, flag, at, list, map, inner)`},
		{"text: &a x\n", "f:1:7: anchors, aliases and merge keys are not supported (write the value out)"},
		{"at: {a\n", "f:1:"},
	} {
		if _, err := read(strictyaml.Reader{}, c.text); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q\nwant %s\ngot  %v", c.text, c.want, err)
		}
	}
	if _, err := read(strictyaml.Reader{Secret: true}, "text: 4653\n"); err == nil || err.Error() != "f:1:7: text is not a text (put it in quotes)" {
		t.Errorf("got %v, want the value kept secret", err)
	}
	if _, err := read(strictyaml.Reader{MaxTokens: 5, TooLong: "make two"}, "list: [1, 2, 3]\n"); err == nil || err.Error() != "f:1:11: the file is too long (make two)" {
		t.Errorf("got %v, want the file refused as too long", err)
	}
}
