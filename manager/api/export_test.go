package api

// RouteForTest is a route as tests see it.
type RouteForTest struct {
	Method, Path, Permission string
	Open, Root               bool
}

// RoutesForTest returns the whole API.
func RoutesForTest() []RouteForTest {
	var out []RouteForTest
	for _, r := range routes() {
		out = append(out, RouteForTest{r.method, r.path, r.permission, r.access == open, r.access == rootOnly})
	}
	return out
}

// DocumentForTest returns the OpenAPI description.
func DocumentForTest() ([]byte, error) { return buildDocument() }

// EndpointsForTest lists the SORACOM API's operations.
var EndpointsForTest = endpoints
