package manager

import (
	"encoding/json"
	"testing"
	"time"
)

func TestMoments(t *testing.T) {
	at := time.Date(2026, 12, 31, 13, 0, 0, 0, time.UTC)
	for word, want := range map[string]time.Time{
		"IMMEDIATELY":             at.Add(time.Minute),
		"AFTER_ONE_DAY":           at.Add(24*time.Hour + time.Minute),
		"BEGINNING_OF_NEXT_DAY":   time.Date(2027, 1, 1, 0, 1, 0, 0, time.UTC),
		"BEGINNING_OF_NEXT_MONTH": time.Date(2027, 1, 1, 0, 1, 0, 0, time.UTC),
	} {
		if got, ok := (moment{word, time.Minute}).after(at); !ok || !got.Equal(want) {
			t.Errorf("%s and a minute after %s: %s, %v; want %s", word, at, got, ok, want)
		}
	}
	if _, ok := (moment{word: never}).after(at); ok {
		t.Error("NEVER comes")
	}
}

func TestExpand(t *testing.T) {
	values := map[string]string{"a": "1", "b": "${a}"}
	for text, want := range map[string]string{
		"": "", "x": "x", "${a}": "1", "-${a}${a}-": "-11-", "${b}": "${a}", "${c}": "", "${a": "${a", "$a}": "$a}", "${}": "", "$${a}": "$1",
	} {
		if got := expand(text, values); got != want {
			t.Errorf("expand(%q) = %q; want %q", text, got, want)
		}
	}
}

// Whatever a client writes is understood or refused with a code, and what was
// understood once is understood again.
func FuzzHandlerConfig(f *testing.F) {
	f.Add([]byte(`{"type":"SubscriberDailyTrafficRule","properties":{"limitTotalTrafficMegaByte":"10","inactiveTimeoutDateConst":"BEGINNING_OF_NEXT_DAY"}}`))
	f.Add([]byte(`{"type":"SubscriberStatusAttributeRule","properties":{"targetStatus":"active","inactiveTimeoutDateConst":"IMMEDIATELY","inactiveTimeoutOffsetMinutes":5}}`))
	f.Add([]byte(`{"type":"ExecuteWebRequestAction","properties":{"url":"https://h/${imsi}","httpMethod":"PUT","headers":{"a":1},"executionDateTimeConst":"AFTER_ONE_DAY"}}`))
	f.Add([]byte(`{"type":"ChangeSpeedClassAction","properties":{"speedClass":"s1.slow","executionDateTimeConst":"NEVER"}}`))
	f.Add([]byte(`{"type":"ExecuteWebRequestAction","properties":{"url":null,"headers":[]}}`))
	classes := SIMConfig{}.speedClasses()
	f.Fuzz(func(t *testing.T, b []byte) {
		var in Typed
		if json.Unmarshal(b, &in) != nil {
			return
		}
		if _, err := parseRule(in, TargetOperator, classes); err != nil && AsError(err).Code == CodeInternal {
			t.Errorf("rule refused without a code: %v", err)
		}
		a, err := parseAction(in, classes)
		if err != nil {
			if AsError(err).Code == CodeInternal {
				t.Errorf("action refused without a code: %v", err)
			}
			return
		}
		if a.web != nil {
			a.web.expand(SIM{IMSI: "001010000000001"}, PendingAction{})
		}
		again, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var second Typed
		if err := json.Unmarshal(again, &second); err != nil {
			t.Fatal(err)
		}
		if _, err := parseAction(second, classes); err != nil {
			t.Errorf("understood once, then: %v", err)
		}
	})
}

func FuzzIMEILock(f *testing.F) {
	for _, s := range []string{"353490069873319", "3534900698733190|ANONYMOUS", "|ANONYMOUS", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseIMEILock(s)
		if err != nil {
			return
		}
		if again, err := ParseIMEILock(l.String()); err != nil || again != l {
			t.Errorf("%q became %+v, %v; want %+v", l.String(), again, err, l)
		}
	})
}
