package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"time"

	"github.com/simreach/simreach/internal/httpserve"
	"github.com/simreach/simreach/scenarios/lab"
)

// The ue role is remote-controlled by whoever started it, over HTTP on a Unix
// socket that its configuration names:
//
//	POST /ue/{name}/register?gnb=G           204, 409 with a lab.Rejected, 502 with ControlError
//	POST /ue/{name}/deregister?switch_off=1  204, 502
//	GET  /ue/{name}/status                   200 with a lab.UEStatus
//	POST /ue/{name}/status                   the same, once it differs from the body's, at most 10 s later
//
// It is the testbed's own interface, not a 3GPP one.

// ControlError is the body of a 502: the command failed without a refusal.
type ControlError struct {
	Error string `json:"error"`
}

// maxControlBody bounds a request's body.
const maxControlBody = 1 << 16

// statusWait bounds a wait for a change.
const statusWait = 10 * time.Second

// controlHandler serves the UEs by name.
func controlHandler(ues map[string]lab.UE) http.Handler {
	mux := http.NewServeMux()
	with := func(f func(w http.ResponseWriter, r *http.Request, u lab.UE)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			u, ok := ues[r.PathValue("name")]
			if !ok {
				reply(w, http.StatusNotFound, ControlError{"no such UE"})
				return
			}
			f(w, r, u)
		}
	}
	mux.HandleFunc("POST /ue/{name}/register", with(func(w http.ResponseWriter, r *http.Request, u lab.UE) {
		outcome(w, u.Register(r.Context(), r.URL.Query().Get("gnb")))
	}))
	mux.HandleFunc("POST /ue/{name}/deregister", with(func(w http.ResponseWriter, r *http.Request, u lab.UE) {
		outcome(w, u.Deregister(r.Context(), r.URL.Query().Get("switch_off") == "1"))
	}))
	mux.HandleFunc("GET /ue/{name}/status", with(func(w http.ResponseWriter, r *http.Request, u lab.UE) {
		s, err := u.Status(r.Context())
		if err != nil {
			outcome(w, err)
			return
		}
		reply(w, http.StatusOK, s)
	}))
	mux.HandleFunc("POST /ue/{name}/status", with(func(w http.ResponseWriter, r *http.Request, u lab.UE) {
		var known lab.UEStatus
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControlBody)).Decode(&known); err != nil {
			reply(w, http.StatusBadRequest, ControlError{err.Error()})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), statusWait)
		defer cancel()
		s, err := u.Await(ctx, func(s lab.UEStatus) bool { return !reflect.DeepEqual(s, known) })
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			outcome(w, err)
			return
		}
		reply(w, http.StatusOK, s)
	}))
	return mux
}

// serveControl serves the control requests on l until ctx ends. Whoever commands us
// ends us: no answer is waited for.
func serveControl(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: statusWait}
	if err := httpserve.Run(ctx, srv, l, 0, log); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

func outcome(w http.ResponseWriter, err error) {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if r, ok := errors.AsType[*lab.Rejected](err); ok {
		reply(w, http.StatusConflict, r)
		return
	}
	reply(w, http.StatusBadGateway, ControlError{err.Error()})
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the caller may have gone away
}
