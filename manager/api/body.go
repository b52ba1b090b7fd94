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
		if err = d.Decode(&extra); err == io.EOF {
			err = nil
		} else if _, large := errors.AsType[*http.MaxBytesError](err); !large {
			err = manager.DetailTwoValues
		}
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return manager.NewError(manager.CodeBodyTooLarge, maxBody)
	}
	if err == io.EOF {
		return manager.NewError(manager.CodeBadBody, manager.DetailEmpty)
	}
	if err != nil {
		return &manager.Error{Code: manager.CodeBadBody, Args: []any{bodyFault(err)}, Err: err}
	}
	if v := reflect.ValueOf(into).Elem(); v.Kind() == reflect.Slice && v.IsNil() { // null is not a list
		return manager.NewError(manager.CodeBadBody, wantType("", reflect.Slice))
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
func bodyFault(err error) error {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return wantType(e.Field, e.Type.Kind())
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return manager.DetailNotJSON.Of(e.Offset)
	}
	if errors.Is(err, manager.DetailTwoValues) {
		return manager.DetailTwoValues
	}
	return manager.DetailEndsEarly
}

// wantType says of which type a field must be; without a name: the whole body.
func wantType(field string, k reflect.Kind) error {
	want := manager.DetailAnotherType
	switch {
	case k == reflect.String:
		want = manager.DetailString
	case k == reflect.Bool:
		want = manager.DetailBool
	case k == reflect.Slice:
		want = manager.DetailList
	case k == reflect.Struct, k == reflect.Map:
		want = manager.DetailObject
	case k >= reflect.Int && k <= reflect.Float64:
		want = manager.DetailNumber
	}
	if field == "" {
		return manager.DetailBodyMustBe.Of(want)
	}
	return manager.DetailMustBe.Of(field, want)
}
