package api

import (
	"fmt"
	"net/url"
	"strconv"

	"github.com/simreach/simreach/manager"
)

// maxPageKey bounds last_evaluated_key, in bytes.
const maxPageKey = 256

// page is what a request wants of a list.
type page struct {
	// Limit is how many items to ask the domain for: one more than the page has,
	// which tells whether there is another page.
	Limit int
	// After is the key of the last item of the page before; empty: from the first.
	After string
}

// page reads limit and last_evaluated_key. usual is the size of a page when none is
// asked for, most the largest; asking for more gives most.
//
// Errors: CodeBadLimit, CodeBadPageKey.
func (r *request) page(usual, most int) (page, error) {
	q := r.URL.Query()
	size := usual
	if s := q.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return page{}, manager.NewError(manager.CodeBadLimit)
		}
		size = min(n, most)
	}
	p := page{Limit: size + 1, After: q.Get("last_evaluated_key")}
	if len(p.After) > maxPageKey {
		return page{}, manager.NewError(manager.CodeBadPageKey)
	}
	return p, nil
}

// cut takes the item too many off a list that was asked for with p.Limit and, if there
// was one, names the next page in the answer's headers. key gives the key of an item,
// by which the next page is asked for: visible ASCII, at most 256 bytes. The result is
// never nil.
func cut[T any](r *request, p page, items []T, key func(T) string) []T {
	if len(items) < p.Limit {
		if items == nil {
			return []T{}
		}
		return items
	}
	items = items[:p.Limit-1]
	next := key(items[len(items)-1])
	r.header.Set(HeaderNextKey, next)
	link := r.URL.Query()
	link.Set("last_evaluated_key", next)
	// Commas and semicolons in the query are escaped, so the header has one value.
	r.header.Set("Link", fmt.Sprintf("<%s?%s>; rel=next", r.URL.EscapedPath(), encode(link)))
	return items
}

// encode is Values.Encode without empty values, as clients leave them.
func encode(v url.Values) string {
	for name, values := range v {
		if len(values) == 1 && values[0] == "" {
			delete(v, name)
		}
	}
	return v.Encode()
}
