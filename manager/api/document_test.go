package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	validation "github.com/pb33f/libopenapi-validator/errors"

	"github.com/simreach/simreach/manager/api"
)

// description is the OpenAPI document and what checks exchanges against it.
var description = sync.OnceValues(func() (validator.Validator, error) {
	text, err := api.DocumentForTest()
	if err != nil {
		return nil, err
	}
	doc, err := libopenapi.NewDocument(text)
	if err != nil {
		return nil, err
	}
	v, errs := validator.NewValidator(doc)
	return v, errors.Join(errs...)
})

// checked is a transport that holds every answer, and every request that was not
// refused, against the description.
type checked struct {
	t    *testing.T
	next http.RoundTripper
}

func (c checked) CloseIdleConnections() { c.next.(*http.Transport).CloseIdleConnections() }

func (c checked) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		req.Body.Close()
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	resp, err := c.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	c.check(req, body, resp, answer)
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	return resp, nil
}

func (c checked) check(req *http.Request, body []byte, resp *http.Response, answer []byte) {
	v, err := description()
	if err != nil {
		c.t.Error(err)
		return
	}
	if resp.StatusCode >= 400 {
		// What is refused may be of no operation: then there is no description of it.
		var e map[string]any
		if err := json.Unmarshal(answer, &e); err != nil || len(e) != 2 || e["code"] == "" || e["message"] == "" {
			c.t.Errorf("%s %s: %s %s; want a code and a message", req.Method, req.URL, resp.Status, answer)
		}
		return
	}
	again := req.Clone(req.Context())
	again.Body = io.NopCloser(bytes.NewReader(body))
	if len(body) > 0 {
		again.Header.Set("Content-Type", "application/json")
		_, faults := v.ValidateHttpRequestSync(again)
		c.report("request", req, body, faults)
	}
	copied := *resp
	copied.Body = io.NopCloser(bytes.NewReader(answer))
	_, faults := v.ValidateHttpResponse(again, &copied)
	c.report("answer "+resp.Status, req, answer, faults)
}

func (c checked) report(what string, req *http.Request, body []byte, faults []*validation.ValidationError) {
	for _, f := range faults {
		c.t.Errorf("%s %s: %s %.300s is not as described: %s", req.Method, req.URL.Path, what, body, f.Error())
	}
}

func TestDocument(t *testing.T) {
	v, err := description()
	if err != nil {
		t.Fatal(err)
	}
	if ok, faults := v.ValidateDocument(); !ok {
		for _, f := range faults {
			t.Errorf("the description is no OpenAPI 3.1: %s", f.Error())
			for _, s := range f.SchemaValidationErrors {
				t.Errorf("  %s: %s", s.FieldPath, s.Reason)
			}
		}
	}
	text, err := api.DocumentForTest()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Tags        []string
			Summary     string
			Security    []any
			Paged       bool `json:"x-paged"`
			Responses   map[string]struct{ Headers map[string]any }
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("OpenAPI %s", doc.OpenAPI)
	}
	offered := map[string]bool{}
	for _, r := range api.RoutesForTest() {
		offered[r.Method+" "+r.Path] = true
		o := doc.Paths[r.Path][strings.ToLower(r.Method)]
		if o.OperationID != r.Permission {
			t.Errorf("%s %s is %s in the description; want %s", r.Method, r.Path, o.OperationID, r.Permission)
		}
		if h := o.Responses["200"].Headers; o.Paged && (h[api.HeaderNextKey] == nil || h["Link"] == nil) {
			t.Errorf("%s %s: headers %v; want those of paging", r.Method, r.Path, h)
		}
		if o.Summary == "" || r.Open == (len(o.Security) > 0) {
			t.Errorf("%s %s: summary %q, security %v", r.Method, r.Path, o.Summary, o.Security)
		}
	}
	for p, item := range doc.Paths {
		for m := range item {
			if !offered[strings.ToUpper(m)+" "+p] {
				t.Errorf("%s %s is described and not offered", m, p)
			}
		}
	}
}

// Every operation that the SORACOM API has too has its permission's name there.
func TestPermissionNames(t *testing.T) {
	theirs := map[string]string{}
	for line := range strings.Lines(api.EndpointsForTest) {
		f := strings.Fields(line)
		theirs[f[0]+" "+f[1]] = f[2]
	}
	seen := map[string]string{}
	for _, r := range api.RoutesForTest() {
		want, known := theirs[r.Method+" "+r.Path]
		extension := strings.HasPrefix(r.Path, "/v1/simreach/")
		if known == extension || known && want != r.Permission {
			t.Errorf("%s %s has permission %s; the SORACOM API has %q", r.Method, r.Path, r.Permission, want)
		}
		if other, twice := seen[r.Permission]; twice {
			t.Errorf("%s %s and %s have one permission", r.Method, r.Path, other)
		}
		seen[r.Permission] = r.Method + " " + r.Path
	}
}

// The description is served, and to anybody.
func TestDocumentServed(t *testing.T) {
	s := start(t, false)
	resp, body := s.do(t, "GET", "/v1/simreach/openapi.json", "", "X-Soracom-Token", "")
	if resp.StatusCode != 200 || !strings.Contains(body, `"openapi":"3.1.0"`) {
		t.Errorf("%s %.100s", resp.Status, body)
	}
}
