package nas

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simreach/simreach/internal/ident"
)

func TestSUCIText(t *testing.T) {
	for _, c := range []struct {
		text string
		suci *SUCI
	}{
		{"suci-0-001-01-0000-0-0-0000000001", &SUCI{
			PLMN: plmn2, RoutingIndicator: "0000", SchemeOutput: []byte{0, 0, 0, 0, 0x10},
		}},
		{"suci-0-310-014-0-0-0-000000001", &SUCI{
			PLMN: plmn3, RoutingIndicator: "0", SchemeOutput: []byte{0, 0, 0, 0, 0xf1},
		}},
		{"suci-0-001-01-678-1-27-b2e92f836055a255837debf850b528997ce0201cb82adfe4be1f587d07d8457dcb02352410cddd9e730ef3fa87", &SUCI{
			PLMN: plmn2, RoutingIndicator: "678", Scheme: 1, KeyID: 27,
			SchemeOutput: unhex(t, "b2e92f836055a255837debf850b528997ce0201cb82adfe4be1f587d07d8457dcb02352410cddd9e730ef3fa87"),
		}},
	} {
		if got := c.suci.String(); got != c.text {
			t.Errorf("String: %s, want %s", got, c.text)
		}
		got, err := ParseSUCI(c.text)
		if err != nil {
			t.Errorf("ParseSUCI(%s): %v", c.text, err)
		}
		if d := cmp.Diff(c.suci, got); d != "" {
			t.Errorf("ParseSUCI(%s) (-want +got):\n%s", c.text, d)
		}
		v, err := suciValue(c.suci)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseSUCI(v); err != nil || !cmp.Equal(back, c.suci) {
			t.Errorf("%s by way of %x: %v, %v", c.text, v, back, err)
		}
	}
	for _, bad := range []string{
		"", "suci", "imsi-001010000000001", "suci-1-001-01-0-0-0-00", "suci-0-001-01-0-0-0-",
		"suci-0-001-01-0-0-0-12x4", "suci-0-001-01-0-1-1-xx", "suci-0-001-01-12345-0-0-00",
		"suci-0-001-01--0-0-00", "suci-0-01-01-0-0-0-00", "suci-0-001-01-0-16-0-00",
		"suci-0-001-01-0-0-256-00", "suci-0-001-01-0-0-0-00-1",
	} {
		if s, err := ParseSUCI(bad); !errors.Is(err, ident.ErrInvalid) {
			t.Errorf("ParseSUCI(%q): %v, %v; want ErrInvalid", bad, s, err)
		}
	}
}

// The routing indicator has 1 to 4 digits, filled up with 1111; none at all is
// read as 0.
func TestRoutingIndicator(t *testing.T) {
	for octets, want := range map[string]string{
		"f0ff": "0", "21ff": "12", "21f3": "123", "2143": "1234", "ffff": "0",
	} {
		s, err := parseSUCI(unhex(t, "01 00f110"+octets+"0000 21"))
		if err != nil || s.RoutingIndicator != want {
			t.Errorf("%s: %+v, %v; want %s", octets, s, err, want)
		}
	}
	for _, octets := range []string{"1fff", "a0ff", "fff1", "f1f1"} {
		if s, err := parseSUCI(unhex(t, "01 00f110"+octets+"0000 21")); err == nil {
			t.Errorf("%s: %+v, want an error", octets, s)
		}
	}
}

func TestTimers(t *testing.T) {
	for _, c := range []struct {
		units []timerUnit
		d     time.Duration
		octet byte
		back  time.Duration
	}{
		{timer2Units, 2 * time.Second, 0x01, 2 * time.Second},
		{timer2Units, 3 * time.Second, 0x02, 4 * time.Second}, // rounded up
		{timer2Units, 62 * time.Second, 0x1f, 62 * time.Second},
		{timer2Units, 63 * time.Second, 0x22, 2 * time.Minute},
		{timer2Units, 12 * time.Minute, 0x2c, 12 * time.Minute},
		{timer2Units, 36 * time.Minute, 0x46, 36 * time.Minute},
		{timer2Units, 1000 * time.Hour, 0x5f, 186 * time.Minute}, // the longest there is
		{timer2Units, TimerDeactivated, 0xe0, TimerDeactivated},
		{timer3Units, 2 * time.Second, 0x61, 2 * time.Second},
		{timer3Units, 90 * time.Second, 0x83, 90 * time.Second},
		{timer3Units, 10 * time.Minute, 0x94, 10 * time.Minute},
		{timer3Units, 54 * time.Minute, 0x06, time.Hour}, // the default of T3512 cannot be said
		{timer3Units, 7 * time.Hour, 0x27, 7 * time.Hour},
		{timer3Units, 320 * time.Hour, 0xc1, 320 * time.Hour},
		{timer3Units, math.MaxInt64, 0xdf, 31 * 320 * time.Hour},
		{timer3Units, TimerDeactivated, 0xe0, TimerDeactivated},
	} {
		octet := timerValue(c.units, c.d)
		back, err := parseTimer(c.units)([]byte{octet})
		if octet != c.octet || back != c.back || err != nil {
			t.Errorf("%v: %#02x, back %v, %v; want %#02x, %v", c.d, octet, back, err, c.octet, c.back)
		}
	}
	// Units that are not defined count in minutes.
	if d, _ := parseTimer(timer2Units)([]byte{0x65}); d != 5*time.Minute {
		t.Errorf("unit 3 of a GPRS timer 2: %v, want 5m", d)
	}
}

func TestRates(t *testing.T) {
	const kbit, mbit, gbit = uint64(1e3), uint64(1e6), uint64(1e9)
	for _, c := range []struct {
		rate   uint64
		octets string
		back   uint64
	}{
		{0, "010000", 0},
		{1, "010001", kbit}, // rounded up
		{kbit, "010001", kbit},
		{64 * kbit, "040001", 64 * kbit},
		{100 * mbit, "070019", 100 * mbit},
		{gbit, "0b0001", gbit},
		{65535 * kbit, "01ffff", 65535 * kbit},
		{65536 * kbit, "050100", 65536 * kbit},
		{1234567 * kbit, "044b5b", 1234624 * kbit}, // finest unit that reaches it, rounded up
	} {
		got := rateValue(c.rate)
		if !bytes.Equal(got, unhex(t, c.octets)) {
			t.Errorf("%d bit/s: %x, want %s", c.rate, got, c.octets)
		}
		back := parseRate(got)
		if back != c.back {
			t.Errorf("%d bit/s: back %d, want %d", c.rate, back, c.back)
		}
		if again := parseRate(rateValue(back)); again != back {
			t.Errorf("%d bit/s became %d", back, again)
		}
	}
	for unit := range 256 {
		for _, n := range []byte{0, 1, 0xff} {
			r := parseRate([]byte{byte(unit), n, n})
			if again := parseRate(rateValue(r)); again != r {
				t.Errorf("unit %d: %d bit/s became %d", unit, r, again)
			}
		}
	}
}

func TestTAIList(t *testing.T) {
	for _, c := range []struct {
		name, octets string
		want         []ident.TAC
	}{
		{"one PLMN", "01 00f110 000001 000007", []ident.TAC{1, 7}},
		{"consecutive", "22 00f110 000009", []ident.TAC{9, 10, 11}},
		{"consecutive past the end", "21 00f110 ffffff", []ident.TAC{0xffffff, 0}},
		{"two partial lists", "00 00f110 000001 20 00f110 000002", []ident.TAC{1, 2}},
		{"too short", "01 00f110 000001", nil},
		{"too many", "3f 00f110 000001", nil},
		{"reserved type", "60 00f110 000001", nil},
		{"PLMN not BCD", "00 aaf110 000001", nil},
	} {
		list, err := parseTAIList(unhex(t, c.octets))
		var got []ident.TAC
		for _, tai := range list {
			got = append(got, tai.TAC)
		}
		if (err != nil) != (c.want == nil) || !cmp.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
}

func TestQoSFromOthers(t *testing.T) {
	// Two filters with components, then a rule to delete, which is left out.
	rules, err := parseRules(unhex(t, "07 000f 32 11 05 10 0a2d0001 31 03 50 0035 64 05"+"08 0001 40"))
	want := []QoSRule{{ID: 7, Default: true, Precedence: 100, QFI: 5}}
	if d := cmp.Diff(want, rules); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	for _, bad := range []string{"", "0700", "07 0003 31 11 09", "07 0000", "08 0001 40", "07 0002 3101"} {
		if r, err := parseRules(unhex(t, bad)); err == nil {
			t.Errorf("%q: %v, want an error", bad, r)
		}
	}
	// A GBR flow has more parameters than its 5QI.
	flows, err := parseFlows(unhex(t, "05 20 42 01 01 01 02 03 060064"+"06 40 00"))
	if d := cmp.Diff([]QoSFlow{{QFI: 5, FiveQI: 1}}, flows); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}

func TestPCOFromOthers(t *testing.T) {
	// IPCP, as stock UEs send, before what we know.
	p, err := parsePCO(unhex(t, "80 8021 10 0100001081060000000083060000000 0 000d 00 000a 00 0010 00"))
	if want := (PCO{RequestDNSv4: true, RequestMTU: true}); err != nil || !cmp.Equal(p, want) {
		t.Errorf("%+v, %v; want %+v", p, err, want)
	}
	if _, err := parsePCO(unhex(t, "80 000d 04 0a")); err == nil {
		t.Error("a container that is cut short was accepted")
	}
}

func TestSNSSAIFromOthers(t *testing.T) {
	for octets, want := range map[string]ident.SNSSAI{
		"01": {SST: 1}, "0102": {SST: 1}, "01ffffff": {SST: 1}, "01010203": slice,
		"0101020305": slice, "01010203050a0b0c": slice,
	} {
		if got, err := parseSNSSAI(unhex(t, octets)); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", octets, got, err, want)
		}
	}
}

func TestDNN(t *testing.T) {
	if d, err := parseDNN(unhex(t, "08 494e5445524e4554 03 616263")); err != nil || d != "internet.abc" {
		t.Errorf("%q, %v; want lower case", d, err)
	}
	for _, bad := range []string{"00", "05 6161", "02 612e", "01 20", "01 80"} {
		if d, err := parseDNN(unhex(t, bad)); err == nil {
			t.Errorf("%s: %q, want an error", bad, d)
		}
	}
}

func TestStrings(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{TypeRegistrationRequest.String(), "REGISTRATION REQUEST"},
		{MessageType(0x40).String(), "message type 0x40"},
		{MMMACFailure.String(), "5GMM cause 20 (MAC failure)"},
		{MMCause(200).String(), "5GMM cause 200"},
		{SMInsufficientResources.String(), "5GSM cause 26 (insufficient resources)"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}
