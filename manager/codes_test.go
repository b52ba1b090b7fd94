package manager

import (
	"fmt"
	"regexp"
	"slices"
	"testing"
)

// Every code has the form that clients know and a text in both languages, which take
// the same arguments in the same order.
func TestCodes(t *testing.T) {
	form, verb := regexp.MustCompile(`^[A-Z]{3}[0-9]{4}$`), regexp.MustCompile(`%[a-z]`)
	for c, text := range codes {
		if !form.MatchString(string(c)) {
			t.Errorf("code %q; want three capitals and four digits", c)
		}
		if text.en == "" || text.ja == "" || text.en == text.ja {
			t.Errorf("%s: texts %q and %q; want one in each language", c, text.en, text.ja)
		}
		if en, ja := verb.FindAllString(text.en, -1), verb.FindAllString(text.ja, -1); !slices.Equal(en, ja) {
			t.Errorf("%s: the texts take %v and %v; want the same", c, en, ja)
		}
		if want := codes[c].kind; NewError(c).Kind() != want {
			t.Errorf("%s: kind %v; want %v", c, NewError(c).Kind(), want)
		}
	}
	if got := fmt.Sprint(NewError("XXX0000").Message(Japanese)); got != "XXX0000" {
		t.Errorf("a code from a newer manager reads %q; want the code", got)
	}
}
