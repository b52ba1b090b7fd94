package manager

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// triggerKind is what may make a rule come true.
type triggerKind uint8

const (
	onUsage triggerKind = iota + 1
	onStatus
	onSpeedClass
	onExpiry
	onIMEI
	onSession
)

// trigger is something that happened to a SIM.
type trigger struct {
	kind     triggerKind
	sim      SIM
	from, to string // status, speed class or session event, before and after
	mark     string // names the event, so that repeats of it fire once; empty: no repeats
	depth    int    // how many handlers led to it
}

// maxDepth ends chains of handlers that set each other off.
const maxDepth = 5

// rule is a Typed that parseRule understood.
type rule struct {
	on       triggerKind
	period   Period // of usage
	limit    uint64 // octets; usage reaches it
	total    bool   // the whole target's usage, not each SIM's
	first    bool   // any usage at all
	from, to string // status, speed class or session event; empty: any
	once     bool   // fires for one SIM of the target, and then rests for all
	rest     moment
}

// ruleTypes are the rules that can be had. Those of clients that are missing here are
// about charges and downloads to SIMs, which a testbed has not.
var ruleTypes = map[string]rule{
	"SubscriberFirstTrafficRule":        {on: onUsage, period: PeriodAll, first: true},
	"SubscriberDailyTrafficRule":        {on: onUsage, period: PeriodDay},
	"SubscriberMonthlyTrafficRule":      {on: onUsage, period: PeriodMonth},
	"SubscriberCumulativeTrafficRule":   {on: onUsage, period: PeriodAll},
	"SimDailyTotalTrafficRule":          {on: onUsage, period: PeriodDay},
	"SimMonthlyTotalTrafficRule":        {on: onUsage, period: PeriodMonth},
	"SimCumulativeTotalTrafficRule":     {on: onUsage, period: PeriodAll},
	"DailyTotalTrafficRule":             {on: onUsage, period: PeriodDay, total: true},
	"MonthlyTotalTrafficRule":           {on: onUsage, period: PeriodMonth, total: true},
	"SubscriberStatusAttributeRule":     {on: onStatus},
	"SimStatusAttributeRule":            {on: onStatus},
	"SubscriberSpeedClassAttributeRule": {on: onSpeedClass},
	"SimSpeedClassAttributeRule":        {on: onSpeedClass},
	"SubscriberExpiredRule":             {on: onExpiry},
	"SimExpiredRule":                    {on: onExpiry},
	"SubscriberImeiMismatchedRule":      {on: onIMEI},
	"SimImeiMismatchedRule":             {on: onIMEI},
	"SubscriberSessionStatusRule":       {on: onSession},
}

// moment is a dateTimeConst with its offset.
type moment struct {
	word   string
	offset time.Duration
}

const (
	immediately = "IMMEDIATELY"
	never       = "NEVER"
	maxOffset   = 525600 // minutes: a year
)

func parseMoment(t Typed, word, offset string) (moment, error) {
	m := moment{word: t.text(word)}
	switch m.word {
	case immediately, "AFTER_ONE_DAY", "BEGINNING_OF_NEXT_DAY", "BEGINNING_OF_NEXT_MONTH", never:
	default:
		return m, NewError(CodeBadHandler, DetailOneOf.Of(word, "IMMEDIATELY, AFTER_ONE_DAY, BEGINNING_OF_NEXT_DAY, BEGINNING_OF_NEXT_MONTH, NEVER"))
	}
	if text := t.text(offset); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > maxOffset {
			return m, NewError(CodeBadHandler, DetailWhole.Of(offset, 0, maxOffset))
		}
		m.offset = time.Duration(n) * time.Minute
	}
	return m, nil
}

// after returns the moment that m names, seen from t; ok is false for never. Days and
// months begin at midnight UTC.
func (m moment) after(t time.Time) (at time.Time, ok bool) {
	switch m.word {
	case "AFTER_ONE_DAY":
		t = t.Add(24 * time.Hour)
	case "BEGINNING_OF_NEXT_DAY":
		t = PeriodDay.Start(t).AddDate(0, 0, 1)
	case "BEGINNING_OF_NEXT_MONTH":
		t = PeriodMonth.Start(t).AddDate(0, 1, 0)
	case never:
		return time.Time{}, false
	}
	return t.Add(m.offset), true
}

// forever is when a rule fires again that never does.
var forever = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// parseRule understands a rule. Errors: CodeBadHandler, CodeUnsupportedRule.
func parseRule(t Typed, kind TargetKind, classes map[SpeedClass]ident.AMBR) (rule, error) {
	bad := func(why Detailed) (rule, error) {
		return rule{}, NewError(CodeBadHandler, DetailIn.Of("ruleConfig", why))
	}
	r, ok := ruleTypes[t.Type]
	if !ok {
		return rule{}, NewError(CodeUnsupportedRule, fmt.Sprintf("%.64q", t.Type))
	}
	var err error
	if r.rest, err = parseMoment(t, "inactiveTimeoutDateConst", "inactiveTimeoutOffsetMinutes"); err != nil {
		return rule{}, err
	}
	r.once = t.text("runOnceAmongTarget") == "true"
	switch {
	case r.first:
		if r.rest.word != never {
			return bad(DetailMustBe.Of("inactiveTimeoutDateConst", never))
		}
	case r.on == onUsage:
		// A threshold stays passed: without a rest the rule would fire at every report.
		if r.rest.word == immediately {
			return bad(DetailMustNotBe.Of("inactiveTimeoutDateConst", immediately))
		}
		mib, err := strconv.ParseUint(t.text("limitTotalTrafficMegaByte"), 10, 31)
		if err != nil || mib == 0 {
			return bad(DetailWhole.Of("limitTotalTrafficMegaByte", 1, math.MaxInt32))
		}
		r.limit = mib << 20
	case r.on == onStatus:
		r.from, r.to = t.text("sourceStatus"), t.text("targetStatus")
		for _, s := range []string{r.from, r.to} {
			if s != "" && !SIMStatus(s).Valid() {
				return bad(DetailUnknown.Of("status"))
			}
		}
	case r.on == onSpeedClass:
		r.to = t.text("targetSpeedClass")
		if _, ok := classes[SpeedClass(r.to)]; !ok && r.to != "" {
			return bad(DetailUnknown.Of("targetSpeedClass"))
		}
	case r.on == onSession:
		r.to = t.text("sessionStatus")
		if r.to != string(SessionCreated) && r.to != string(SessionDeleted) {
			return bad(DetailOneOf.Of("sessionStatus", "Created, Deleted"))
		}
	}
	if r.total && kind != TargetOperator && kind != TargetGroup {
		return bad(DetailTargetOfMany.Of())
	}
	return r, nil
}

// judgeTimeout bounds what judging waits for the store: those who change something wait
// for it, also when their own time is over.
const judgeTimeout = 10 * time.Second

// happened judges the rules that watch what happened. A failure leaves rules about
// usage to the next report; others are lost, which the log says.
func (s *Service) happened(ctx context.Context, triggers ...trigger) {
	if len(triggers) == 0 {
		return
	}
	stopped := ctx.Done()
	ctx, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	failed := func(err error, about ...any) {
		select {
		case <-stopped: // nobody needs to hear of it
		default:
			s.log.Error("event handlers not judged", append(about, "error", err)...)
		}
	}
	var targets []string
	seen := map[string]bool{}
	for _, t := range triggers {
		for _, x := range []string{string(t.sim.IMSI), t.sim.SIMID, string(t.sim.GroupID), string(t.sim.OperatorID)} {
			if x != "" && !seen[x] {
				seen[x] = true
				targets = append(targets, x)
			}
		}
	}
	handlers, err := s.store.ActiveHandlers(ctx, targets)
	if err != nil {
		failed(err)
		return
	}
	if len(handlers) == 0 {
		return
	}
	for _, t := range triggers {
		if err := s.judge(ctx, t, handlers); err != nil {
			failed(err, "supi", t.sim.IMSI.SUPI())
		}
	}
}

func (s *Service) judge(ctx context.Context, t trigger, handlers []EventHandler) error {
	var ignored map[HandlerID]bool
	for _, h := range handlers {
		if !h.watches(t.sim) {
			continue
		}
		r, err := parseRule(h.Rule, h.Kind, s.sims.classes)
		if err != nil || r.on != t.kind { // err: the configuration had a speed class more then
			continue
		}
		if ignored == nil {
			if ignored, err = s.store.Ignored(ctx, t.sim.IMSI); err != nil {
				return err
			}
		}
		if ignored[h.ID] {
			continue
		}
		yes, err := s.holds(ctx, r, h, t)
		if err != nil {
			return err
		}
		if !yes {
			continue
		}
		if t.depth >= maxDepth {
			s.log.Warn("event handlers set each other off; the chain ends here", "handler", h.ID, "supi", t.sim.IMSI.SUPI())
			continue
		}
		if err := s.fire(ctx, r, h, t); err != nil {
			return err
		}
	}
	return nil
}

// holds reports whether the rule is true of what happened.
func (s *Service) holds(ctx context.Context, r rule, h EventHandler, t trigger) (bool, error) {
	if r.on != onUsage {
		return (r.from == "" || r.from == t.from) && (r.to == "" || r.to == t.to), nil
	}
	subject := string(t.sim.IMSI)
	if r.total {
		subject = h.Target
	}
	used, err := s.store.UsageTotal(ctx, subject, r.period, r.period.Start(time.Now()))
	if err != nil {
		return false, err
	}
	if r.first {
		return used.Total() > 0, nil
	}
	return used.Total() >= r.limit, nil
}

// fire claims the firing and leaves its actions to the loop that performs them.
func (s *Service) fire(ctx context.Context, r rule, h EventHandler, t trigger) error {
	at := now()
	until, ok := r.rest.after(at)
	if !ok {
		until = forever
	}
	f := Firing{HandlerID: h.ID, Subject: string(t.sim.IMSI), Mark: t.mark, At: at, Until: until}
	if r.total || r.once {
		f.Subject = h.Target
	}
	for _, a := range h.Actions {
		p, err := parseAction(a, s.sims.classes)
		if err != nil {
			continue // the configuration had a speed class more then
		}
		due, ok := p.when.after(at)
		if !ok {
			continue
		}
		pending := PendingAction{ID: newID(at), HandlerID: h.ID, IMSI: t.sim.IMSI, Target: h.Target, Action: a, Due: due, Depth: t.depth + 1}
		f.Actions = append(f.Actions, pending)
	}
	fired, err := s.store.Fire(ctx, f)
	if err != nil {
		return err
	}
	if fired {
		s.log.Info("event handler fired", "handler", h.ID, "rule", h.Rule.Type, "supi", t.sim.IMSI.SUPI())
		poke(s.sims.actWake)
	}
	return nil
}
