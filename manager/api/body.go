package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"

	"github.com/simreach/simreach/manager"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 64 << 10

// decode reads a JSON body. Unknown fields are ignored: clients send more than we
// know.
func decode(r *request, into any) error {
	d := json.NewDecoder(r.Body)
	err := d.Decode(into)
	if err == nil {
		var extra json.RawMessage
		if extraErr := d.Decode(&extra); extraErr != io.EOF {
			err = errTwoValues
		}
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return manager.NewError(manager.CodeBodyTooLarge, maxBody)
	}
	if err == io.EOF {
		return manager.NewError(manager.CodeBadBody, "it is empty")
	}
	if err != nil {
		return &manager.Error{Code: manager.CodeBadBody, Args: []any{bodyFault(err)}, Err: err}
	}
	return nil
}

// decodeOptional is decode for a request whose body may be missing.
func decodeOptional(r *request, into any) error {
	err := decode(r, into)
	if e, ok := errors.AsType[*manager.Error](err); ok && e.Code == manager.CodeBadBody && e.Err == nil && r.ContentLength <= 0 {
		return nil // there was none
	}
	return err
}

// bodyFault says what is wrong with a body in the client's terms: Go's names of
// types and the addresses of sockets are not among them.
func bodyFault(err error) string {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		want := "another type"
		switch k := e.Type.Kind(); {
		case k == reflect.String:
			want = "a string"
		case k == reflect.Bool:
			want = "true or false"
		case k == reflect.Slice:
			want = "a list"
		case k == reflect.Struct:
			want = "an object"
		case k >= reflect.Int && k <= reflect.Float64:
			want = "a number"
		}
		if e.Field == "" {
			return "it must be " + want
		}
		return e.Field + " must be " + want
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return e.Error()
	}
	if errors.Is(err, errTwoValues) {
		return err.Error()
	}
	return "it ended early"
}

var errTwoValues = errors.New("more than one JSON value")
