package api

import (
	_ "embed"
	"strings"
)

// endpoints lists the operations of the SORACOM API as "METHOD path permission", one on
// a line: those of the OpenAPI description that soracom-cli 1.7.0 is generated from
// (info.version 20260604-092803).
//
//go:embed endpoints.txt
var endpoints string

// operation is a line of endpoints.
type operation struct{ method, path, permission string }

// missing returns the operations of the SORACOM API that have no route here.
func missing(offered []route) []operation {
	have := map[string]bool{}
	for _, r := range offered {
		have[r.permission] = true
	}
	var out []operation
	for line := range strings.Lines(endpoints) {
		if f := strings.Fields(line); len(f) == 3 && !have[f[2]] {
			out = append(out, operation{f[0], f[1], f[2]})
		}
	}
	return out
}

// notOffered returns the permission's name of the missing operation that a request is
// for. It is for requests that no route took. path is escaped.
func (h *handler) notOffered(method, path string) (permission string, ok bool) {
	segments := strings.Split(path, "/")
	for _, o := range h.missing {
		if o.method == method && matches(o.path, segments) {
			return o.permission, true
		}
	}
	return "", false
}

// matches reports whether a path's segments are an instance of pattern.
func matches(pattern string, segments []string) bool {
	for _, s := range segments {
		part, rest, more := strings.Cut(pattern, "/")
		if part != s && (s == "" || !strings.HasPrefix(part, "{")) {
			return false
		}
		if !more {
			pattern = "\x00" // nothing more may follow
			continue
		}
		pattern = rest
	}
	return pattern == "\x00"
}
