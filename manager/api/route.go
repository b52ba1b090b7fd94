package api

import (
	"net/http"
	"slices"

	"github.com/simreach/simreach/manager"
)

// access says who may make a call.
type access uint8

const (
	permitted access = iota // the root user, and SAM users whose permissions allow it
	anyUser                 // whoever is logged in, whatever the permissions
	rootOnly                // the root user
	open                    // anybody, without credentials
)

// call answers one request: a status and a body (nil: none), or an error. A body
// that is a nil slice is written as [].
type call func(*handler, *request) (int, any, error)

// route is one operation. permission is its name in policies and in the API audit
// log, "Tag:operationId". The path parameter {operator_id} must name the caller's own
// operator, for any other one the answer is that there is none.
type route struct {
	method, path string
	permission   string
	access       access
	call         call
}

// routes returns the whole API. Every resource has its own list in its own file.
func routes() []route {
	return slices.Concat(
		authRoutes,
		userRoutes,
		roleRoutes,
		mfaRoutes,
		apiCallRoutes,
		portMappingRoutes,
		auditRoutes,
		credentialRoutes,
		extendedRoutes,
		directoryRoutes,
		statusRoutes,
		openAPIRoutes,
		subscriberRoutes,
		simRoutes,
		queryRoutes,
		groupRoutes,
		eventHandlerRoutes,
		statsRoutes,
		relayRoutes,
	)
}

// request is an HTTP request with its caller.
type request struct {
	*http.Request
	principal manager.Principal // zero on open routes, until they know better
	header    http.Header       // of the answer
}
