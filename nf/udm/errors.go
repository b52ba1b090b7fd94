package udm

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

var (
	// ErrConfig is wrapped by every error of Validate, New and the provisioning
	// methods that is about a value.
	ErrConfig = errors.New("udm: invalid configuration")
	// ErrExists is wrapped when a SUPI is provisioned twice.
	ErrExists = errors.New("udm: subscriber exists")
	// ErrNotFound is wrapped when a SUPI is not provisioned.
	ErrNotFound = errors.New("udm: no such subscriber")
)

// invalid says which field is wrong, how, and what would be right.
func invalid(field, got, want string) error {
	return fmt.Errorf("%w: %s: %s: want %s", ErrConfig, field, got, want)
}

func problem(status int, cause, format string, args ...any) error {
	return &sbi.Problem{Status: status, Cause: cause, Detail: fmt.Sprintf(format, args...)}
}

func userNotFound(supi ident.SUPI) error {
	return problem(http.StatusNotFound, sbi.CauseUserNotFound, "%s is not a subscriber", supi)
}

func rejected(format string, args ...any) error {
	return problem(http.StatusForbidden, sbi.CauseAuthenticationRejected, format, args...)
}
