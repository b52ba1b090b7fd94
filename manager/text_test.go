package manager_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/simreach/simreach/manager"
)

// Text that PostgreSQL does not take is refused alike on every store, with a code that
// tells the client so; a log line with such a text does not hold up the others.
func TestBadText(t *testing.T) {
	r := start(t, config())
	ctx := t.Context()
	for _, bad := range []string{"a\x00b", "a\xffb"} {
		_, err := r.CreateUser(ctx, manager.Principal{OperatorID: op1, UserName: "u"}, bad)
		wantCode(t, err, manager.CodeBadText, "description")
		_, err = r.CreateGroup(ctx, op1, map[string]string{"name": bad}, nil)
		wantCode(t, err, manager.CodeBadText, "group name")
		_, err = r.PutSIMTags(ctx, op1, ref1, map[string]string{bad: "v"})
		wantCode(t, err, manager.CodeBadText, "tag")
		_, err = r.SIM(ctx, op1, manager.SIMRef{SIMID: bad})
		wantCode(t, err, manager.CodeBadText, "SIM ID in a query")
		_, err = r.Authenticate(ctx, manager.Login{Email: bad, Password: "p"})
		wantCode(t, err, manager.CodeBadText, "email")
		relay := outerRelay("outer1", wide)
		relay.Region = bad
		_, err = r.AttachRelay(relay)
		wantCode(t, err, manager.CodeBadRelay, "region")
		r.RecordCall(manager.APICall{Principal: manager.Principal{OperatorID: op1}, API: "Auth:auth", Path: "/v1/" + bad})
	}
	r.RecordCall(manager.APICall{Principal: manager.Principal{OperatorID: op1}, API: "Auth:auth", Path: "/" + strings.Repeat("é", 20_000)})
	calls, err := r.APICalls(ctx, manager.APICallQuery{OperatorID: op1, Limit: 10})
	long := -1
	calls = slices.DeleteFunc(calls, func(c manager.APICall) bool {
		is := strings.HasPrefix(c.Path, "/é")
		if is {
			long = len(c.Path)
		}
		return is
	})
	if long < 500 || long > 520 {
		t.Errorf("a path of 40 kB is kept with %d bytes; want about 512", long)
	}
	if err != nil || len(calls) != 2 || calls[0].Path != "/v1/a\uFFFDb" {
		t.Errorf("calls %+v, %v; want both, with what could not be stored replaced", calls, err)
	}
}
