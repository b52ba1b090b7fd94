package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

const (
	maxActionsAtOnce = 16
	// actionLease is how long one manager has for an action before another may take it.
	actionLease = time.Minute
	// actionIdle bounds the wait when nothing is due: another manager may have stored
	// an action and died.
	actionIdle  = 5 * time.Second
	maxAttempts = 3 // of a web request, or of a change that the store did not take

	maxURL, maxWebBody, maxHeaders = 2048, 8 << 10, 32 // of a web request; bytes, bytes, count
)

// action is a Typed that parseAction understood.
type action struct {
	when  moment
	to    SIMStatus  // the new status; empty: another kind of action
	class SpeedClass // the new speed class
	lock  bool       // lock to the device of the session
	web   *WebRequest
}

// parseAction understands an action. Errors: CodeBadHandler, CodeUnsupportedAction.
func parseAction(t Typed, classes map[SpeedClass]ident.AMBR) (action, error) {
	var a action
	switch t.Type {
	case "ActivationAction":
		a.to = SIMActive
	case "DeactivationAction":
		a.to = SIMInactive
	case "StandbyAction":
		a.to = SIMStandby
	case "SuspendAction":
		a.to = SIMSuspended
	case "ImeiLockAction":
		a.lock = true
	case "ChangeSpeedClassAction":
		a.class = SpeedClass(t.text("speedClass"))
		if _, ok := classes[a.class]; !ok {
			return action{}, NewError(CodeBadHandler, DetailIn.Of("actionConfigList", DetailUnknown.Of("speedClass")))
		}
	case "ExecuteWebRequestAction":
		web, err := parseWeb(t)
		if err != nil {
			return action{}, err
		}
		a.web = &web
	default: // mail and functions of clouds: a testbed has neither
		return action{}, NewError(CodeUnsupportedAction, fmt.Sprintf("%.64q", t.Type))
	}
	var err error
	a.when, err = parseMoment(t, "executionDateTimeConst", "executionOffsetMinutes")
	return a, err
}

func parseWeb(t Typed) (WebRequest, error) {
	bad := func(why error) (WebRequest, error) {
		return WebRequest{}, NewError(CodeBadHandler, DetailIn.Of("ExecuteWebRequestAction", why))
	}
	w := WebRequest{Method: strings.ToUpper(t.text("httpMethod")), URL: t.text("url"), ContentType: t.text("contentType"), Body: t.text("body"), Headers: map[string]string{}}
	if w.Method == "" {
		w.Method = http.MethodPost
	}
	if !slices.Contains([]string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}, w.Method) {
		return bad(DetailOneOf.Of("httpMethod", "GET, POST, PUT, DELETE"))
	}
	u, err := url.Parse(expand(w.URL, map[string]string{}))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || len(w.URL) > maxURL {
		return bad(DetailBadURL.Of(maxURL))
	}
	if len(w.Body) > maxWebBody {
		return bad(DetailLongBytes.Of("body", maxWebBody))
	}
	if raw, ok := t.Properties["headers"]; ok && string(raw) != "null" {
		var headers map[string]any
		if json.Unmarshal(raw, &headers) != nil || len(headers) > maxHeaders {
			return bad(DetailBadHeaders.Of(maxHeaders))
		}
		for k, v := range headers {
			w.Headers[k] = fmt.Sprint(v)
		}
	}
	w.Headers["Content-Type"] = w.ContentType
	for k, v := range w.Headers {
		if k == "" || strings.ContainsAny(k, " :\r\n\t") || strings.ContainsAny(v, "\r\n\x00") {
			return bad(DetailBadHeader)
		}
	}
	delete(w.Headers, "Content-Type")
	return w, nil
}

// expand replaces "${name}" by its value; unknown names become empty.
func expand(text string, values map[string]string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "${")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			b.WriteString("${" + rest)
			return b.String()
		}
		b.WriteString(values[name])
		text = after
	}
}

// expand fills a web request in for a SIM.
func (w WebRequest) expand(sim SIM, p PendingAction) WebRequest {
	values := map[string]string{
		"imsi": string(sim.IMSI), "simId": sim.SIMID, "operatorId": string(sim.OperatorID), "groupId": string(sim.GroupID),
		"name": sim.Name(), "status": string(sim.Status), "speedClass": string(sim.SpeedClass), "imei": "", "handlerId": string(p.HandlerID),
	}
	if sim.Session != nil {
		values["imei"] = sim.Session.IMEI()
	}
	escaped := maps.Clone(values)
	for k, v := range escaped {
		escaped[k] = url.QueryEscape(v)
	}
	quoted := maps.Clone(values)
	for k, v := range quoted { // a name with a quote must not end a JSON string
		text, err := json.Marshal(v)
		if err == nil {
			quoted[k] = string(text[1 : len(text)-1])
		}
	}
	out := w
	out.URL = expand(w.URL, escaped)
	out.Body = expand(w.Body, quoted)
	out.Headers = map[string]string{}
	for k, v := range w.Headers {
		out.Headers[k] = strings.NewReplacer("\r", "", "\n", "").Replace(expand(v, values))
	}
	return out
}

// actionLoop performs actions as they fall due until ctx ends.
func (s *Service) actionLoop(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	busy := make(chan struct{}, maxActionsAtOnce)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.sims.actWake:
		}
		wait := actionIdle
		if room := maxActionsAtOnce - len(busy); room > 0 { // else the end of one wakes us
			claimed, next, err := s.claimActions(ctx, room)
			if err != nil && ctx.Err() == nil {
				s.log.Error("actions of event handlers not read", "error", err)
			}
			for _, p := range claimed {
				busy <- struct{}{} // there is room: only this loop fills it
				wg.Go(func() {
					s.perform(ctx, p)
					<-busy
					poke(s.sims.actWake)
				})
			}
			wait = next
		}
		timer.Reset(wait)
	}
}

// claimActions takes what is due, and returns how long to wait for the next.
func (s *Service) claimActions(ctx context.Context, room int) ([]PendingAction, time.Duration, error) {
	next, err := s.store.NextAction(ctx)
	if err != nil || next.IsZero() {
		return nil, actionIdle, err
	}
	if wait := time.Until(next); wait > 0 {
		return nil, min(wait, actionIdle), nil
	}
	t := now()
	claimed, err := s.store.ClaimActions(ctx, t, t.Add(actionLease), room)
	return claimed, 10 * time.Millisecond, err
}

// perform does one action and says so to the store.
func (s *Service) perform(ctx context.Context, p PendingAction) {
	err := s.act(ctx, p)
	if ctx.Err() != nil {
		return // whoever runs next does it when the lease is over
	}
	if err != nil && p.Attempts < maxAttempts && retryable(err) {
		s.log.Info("action of an event handler failed; trying again", "handler", p.HandlerID, "action", p.Action.Type, "error", err)
		if err := s.store.PostponeAction(ctx, p.ID, now().Add(time.Duration(p.Attempts)*2*time.Second)); err != nil {
			s.log.Error("action of an event handler not postponed", "handler", p.HandlerID, "error", err)
		}
		return
	}
	if err != nil {
		s.log.Warn("action of an event handler failed", "handler", p.HandlerID, "action", p.Action.Type, "supi", p.IMSI.SUPI(), "error", err)
	}
	if err := s.store.FinishAction(ctx, p.ID); err != nil {
		s.log.Error("action of an event handler not finished", "handler", p.HandlerID, "error", err)
	}
}

// errWeb is an answer that makes a web request worth repeating.
var errWeb = errors.New("web request failed")

func retryable(err error) bool {
	return errors.Is(err, errWeb) || AsError(err).Code == CodeInternal
}

func (s *Service) act(ctx context.Context, p PendingAction) error {
	a, err := parseAction(p.Action, s.sims.classes)
	if err != nil {
		return err
	}
	sim, err := s.store.SIMByIMSI(ctx, p.IMSI)
	if err != nil {
		return fault("find SIM", err)
	}
	ref := SIMRef{IMSI: sim.IMSI}
	switch {
	case a.to != "":
		_, err = s.setStatus(ctx, sim.OperatorID, ref, a.to, p.Depth)
	case a.class != "":
		_, err = s.setSpeedClass(ctx, sim.OperatorID, ref, a.class, p.Depth)
	case a.lock:
		_, err = s.SetIMEILock(ctx, sim.OperatorID, ref, "")
	case a.web != nil:
		if s.sims.web == nil {
			return NewError(CodeUnsupportedAction, p.Action.Type)
		}
		ctx, cancel := context.WithTimeout(ctx, s.cfg.SIMs.WebTimeout)
		defer cancel()
		status, err := s.sims.web.Do(ctx, a.web.expand(sim, p))
		switch {
		case err != nil:
			return fmt.Errorf("%w: %w", errWeb, err)
		case status >= 500 || status == http.StatusTooManyRequests:
			return fmt.Errorf("%w: status %d", errWeb, status)
		case status >= 300:
			return fmt.Errorf("web request answered with status %d", status)
		}
	}
	return err
}

// poke wakes a loop that looks at the store.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it will look anyway
	}
}
