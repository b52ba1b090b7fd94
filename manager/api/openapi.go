package api

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/goccy/go-yaml"
)

// fragments describe the operations, one file for each resource. A fragment has "paths"
// and "schemas" as OpenAPI 3.1 has them under paths and components, without what
// buildDocument adds to every operation alike.
//
//go:embed openapi/*.yaml
var fragments embed.FS

var openAPIRoutes = []route{
	{"GET", "/v1/simreach/openapi.json", "Simreach:getOpenAPI", open, (*handler).openAPI},
}

func (h *handler) openAPI(*request) (int, any, error) {
	return http.StatusOK, json.RawMessage(h.document), nil
}

type object = map[string]any

// buildDocument merges the fragments into an OpenAPI 3.1 document. To every operation
// it adds name, tag and security by its route (the name is that of the permission), a parameter for each variable of the path that
// is not described, the language header, and the answer to a request that is refused;
// to one with "x-paged: true" the parameters and headers of paging.
func buildDocument() ([]byte, error) {
	paths, schemas := object{}, object{}
	names, err := fs.Glob(fragments, "openapi/*.yaml")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := fs.ReadFile(fragments, name)
		if err != nil {
			return nil, err
		}
		var f struct{ Paths, Schemas map[string]object }
		if err := yaml.UnmarshalWithOptions(text, &f, yaml.Strict()); err != nil {
			return nil, fmt.Errorf("%s: %w", path.Base(name), err)
		}
		for p, item := range f.Paths {
			if _, ok := paths[p]; ok {
				return nil, fmt.Errorf("%s: path %s is described twice", path.Base(name), p)
			}
			paths[p] = item
		}
		for n, schema := range f.Schemas {
			if _, ok := schemas[n]; ok {
				return nil, fmt.Errorf("%s: schema %s is described twice", path.Base(name), n)
			}
			schemas[n] = schema
		}
	}
	for _, r := range routes() {
		item, _ := paths[r.path].(object)
		o, ok := item[strings.ToLower(r.method)].(object)
		if !ok {
			return nil, fmt.Errorf("%s %s is not described", r.method, r.path)
		}
		complete(o, r)
	}
	return json.Marshal(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "simreach manager", "version": "1",
			"description": "On-demand access to simulated devices, compatible with parts of the SORACOM API. Paths under /v1/simreach are extensions.",
		},
		"servers":    []any{object{"url": "/"}},
		"paths":      paths,
		"components": object{"schemas": schemas, "securitySchemes": securitySchemes(), "responses": object{"Error": errorResponse()}},
	})
}

func complete(o object, r route) {
	tag, _, _ := strings.Cut(r.permission, ":")
	o["tags"], o["operationId"] = []any{tag}, r.permission
	parameters, _ := o["parameters"].([]any)
	described := map[string]bool{}
	for _, p := range parameters {
		if p, ok := p.(object); ok {
			described[fmt.Sprint(p["name"])] = true
		}
	}
	for part := range strings.SplitSeq(r.path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			if name = strings.TrimSuffix(name, "}"); !described[name] {
				parameters = append(parameters, object{"name": name, "in": "path", "required": true, "schema": object{"type": "string"}})
			}
		}
	}
	if o["x-paged"] == true {
		parameters = append(parameters,
			object{"name": "limit", "in": "query", "description": "The most items that the answer has.", "schema": object{"type": "integer", "minimum": 1}},
			object{"name": "last_evaluated_key", "in": "query", "description": "The header " + HeaderNextKey + " of the page before.", "schema": object{"type": "string", "maxLength": maxPageKey}})
		if responses, ok := o["responses"].(object); ok {
			if ok, is := responses["200"].(object); is {
				ok["headers"] = object{
					HeaderNextKey: object{"description": "Asks for the next page; absent on the last one.", "schema": object{"type": "string"}},
					"Link":        object{"description": "The next page's URL, with rel=next; absent on the last one.", "schema": object{"type": "string"}},
				}
			}
		}
	}
	o["parameters"] = append(parameters, object{"name": HeaderLang, "in": "header", "description": "The language of messages.", "schema": object{"type": "string"}})
	if r.access != open {
		o["security"] = []any{object{"apiKey": []any{}, "token": []any{}}}
	}
	if responses, ok := o["responses"].(object); ok {
		responses["default"] = object{"$ref": "#/components/responses/Error"}
	}
}

func securitySchemes() object {
	header := func(name string) object { return object{"type": "apiKey", "in": "header", "name": name} }
	return object{"apiKey": header(HeaderAPIKey), "token": header(HeaderToken)}
}

func errorResponse() object {
	return object{
		"description": "The request is refused.",
		"content":     object{"application/json": object{"schema": object{"$ref": "#/components/schemas/Error"}}},
	}
}
