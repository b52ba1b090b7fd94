package steps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/simreach/simreach/scenarios/lab"
	"github.com/simreach/simreach/scenarios/spec"
)

// apiArgs: a client makes one request of the manager's REST API and looks at the
// answer. Paths into answers are those of gjson: "destination.port", "#",
// "#(type==CLOSED).direction.sourcePort".
type apiArgs struct {
	Call     string            `yaml:"call"`   // "METHOD /path?query"
	Client   string            `yaml:"client"` // who asks; empty: the first client
	As       string            `yaml:"as"`     // a kept login, "nobody"; empty: the scenario's operator
	Language string            `yaml:"language"`
	Body     string            `yaml:"body"`   // JSON
	Status   int               `yaml:"status"` // 0: any of 200 to 299
	Code     string            `yaml:"code"`   // of an error answer; empty: any
	Match    map[string]string `yaml:"match"`  // path -> text that must be there
	Save     map[string]string `yaml:"save"`   // name -> path: later steps write ${api.NAME}
	Login    string            `yaml:"login"`  // the answer is a login, kept under this name
	Until    bool              `yaml:"until"`  // make the request again, side effects and all, until the answer is so
	Within   spec.Duration     `yaml:"within"` // for all of it; 0: the step's timeout
}

var methods = []string{"GET", "POST", "PUT", "DELETE"}

func compileAPI(s *spec.Spec, st spec.Step) (Action, error) {
	var a apiArgs
	if err := st.Decode(&a); err != nil {
		return nil, err
	}
	who, err := client(s, st, a.Client)
	if err != nil {
		return nil, err
	}
	method, path, ok := strings.Cut(a.Call, " ")
	if !ok || !slices.Contains(methods, method) || !strings.HasPrefix(path, "/") {
		return nil, st.Errorf("such as 'GET /v1/subscribers'", "call %q is not a method and a path", a.Call)
	}
	if a.Within < 0 {
		return nil, st.Errorf("a duration such as 2s", "within is negative")
	}
	for _, t := range slices.Concat([]string{path, a.Body}, slices.Collect(maps.Values(a.Match))) {
		if err := checkTemplate(st, t); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context, e *Env) error {
		c, err := e.client(who)
		if err != nil {
			return err
		}
		if a.Within > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, a.Within.Std())
			defer cancel()
		}
		try := func(ctx context.Context) error { return a.ask(ctx, e, c, method, path) }
		if a.Until {
			return retry(ctx, try)
		}
		return try(ctx)
	}, nil
}

func (a apiArgs) ask(ctx context.Context, e *Env, c lab.Client, method, path string) error {
	r := lab.APIRequest{Method: method, As: a.As, Language: a.Language}
	var err error
	if r.Path, err = e.expand(path); err != nil {
		return err
	}
	if a.Body != "" {
		text, err := e.expand(a.Body)
		if err != nil {
			return err
		}
		r.Body = []byte(text)
	}
	got, err := e.Lab.Manager().Call(ctx, c, r)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, r.Path, err)
	}
	if err := a.check(e, got); err != nil {
		return fmt.Errorf("%s %s: %w; the answer is %d %s", method, r.Path, err, got.Status, tail(string(got.Body)))
	}
	if a.Login != "" {
		if err := e.Lab.Manager().KeepLogin(a.Login, got.Body); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, at := range a.Save {
		v := gjson.GetBytes(got.Body, at)
		if !v.Exists() {
			return fmt.Errorf("%s %s: nothing at %q to save; the answer is %s", method, r.Path, at, tail(string(got.Body)))
		}
		e.saved[name] = v.String()
	}
	return nil
}

func (a apiArgs) check(e *Env, got lab.APIAnswer) error {
	if a.Status == 0 && got.Status/100 != 2 || a.Status != 0 && got.Status != a.Status {
		return fmt.Errorf("want status %s", wantedStatus(a.Status))
	}
	if len(got.Body) > 0 && !gjson.ValidBytes(got.Body) {
		return errors.New("the answer is not JSON")
	}
	if code := gjson.GetBytes(got.Body, "code").String(); a.Code != "" && code != a.Code {
		return fmt.Errorf("want code %s", a.Code)
	}
	for _, at := range slices.Sorted(maps.Keys(a.Match)) {
		want, err := e.expand(a.Match[at])
		if err != nil {
			return err
		}
		if v := gjson.GetBytes(got.Body, at); v.String() != want {
			return fmt.Errorf("want %q at %q, got %q", want, at, v.String())
		}
	}
	return nil
}

func wantedStatus(status int) string {
	if status == 0 {
		return "200 to 299"
	}
	return fmt.Sprint(status)
}

// fileInJSON returns a file of the run's directory as it stands within a JSON string.
func (e *Env) fileInJSON(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(e.Scratch, filepath.Base(name)))
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(string(b))
	if err != nil {
		return "", err
	}
	return string(text[1 : len(text)-1]), nil
}
