package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	validation "github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/simreach/simreach/manager/api"
)

// description finds the operation of a request in the OpenAPI document. An invalid
// document is an error.
var description = sync.OnceValues(func() (routers.Router, error) {
	text, err := api.DocumentForTest()
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, fmt.Errorf("the description is no OpenAPI 3.1: %w", err)
	}
	return gorillamux.NewRouter(doc)
})

// strictly is how exchanges are held against it: an answer has a status that is described,
// a request the header that its security asks for, and all that is wrong is told.
var strictly = &validation.Options{
	MultiError: true, IncludeResponseStatus: true,
	AuthenticationFunc: func(_ context.Context, in *validation.AuthenticationInput) error {
		if name := in.SecurityScheme.Name; in.RequestValidationInput.Request.Header.Get(name) == "" {
			return in.NewError(fmt.Errorf("no header %s", name))
		}
		return nil
	},
}

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
	description, err := description()
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
	}
	route, variables, err := description.FindRoute(again)
	if err != nil {
		c.t.Errorf("%s %s is not described: %v", req.Method, req.URL, err)
		return
	}
	asked := &validation.RequestValidationInput{Request: again, PathParams: variables, Route: route, Options: strictly}
	if err := validation.ValidateRequest(req.Context(), asked); err != nil {
		c.t.Errorf("%s %s: the request %.300s is not as described: %v", req.Method, req.URL, body, err)
	}
	answered := &validation.ResponseValidationInput{RequestValidationInput: asked, Status: resp.StatusCode, Header: resp.Header, Options: strictly}
	if err := validation.ValidateResponse(req.Context(), answered.SetBodyBytes(answer)); err != nil {
		c.t.Errorf("%s %s: the answer %s %.300s is not as described: %v", req.Method, req.URL, resp.Status, answer, err)
	}
}

func TestDocument(t *testing.T) {
	if _, err := description(); err != nil {
		t.Fatal(err)
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
