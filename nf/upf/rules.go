package upf

import (
	"fmt"
	"maps"
	"slices"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/upf/datapath"
)

// ruleBook is the rules of a session as the CP function last left them.
type ruleBook struct {
	pdrs map[uint16]pfcp.PDR
	fars map[uint32]pfcp.FAR
	qers map[uint32]pfcp.QER
	urrs map[uint32]pfcp.URR
}

func newRuleBook() ruleBook {
	return ruleBook{
		pdrs: make(map[uint16]pfcp.PDR), fars: make(map[uint32]pfcp.FAR),
		qers: make(map[uint32]pfcp.QER), urrs: make(map[uint32]pfcp.URR),
	}
}

func (b ruleBook) clone() ruleBook {
	return ruleBook{maps.Clone(b.pdrs), maps.Clone(b.fars), maps.Clone(b.qers), maps.Clone(b.urrs)}
}

// create adds rules; an ID that is there already is a failure (cause 73).
func (b ruleBook) create(r pfcp.Rules) error {
	for _, x := range r.PDRs {
		if err := insert(b.pdrs, "PDR", x.ID, x); err != nil {
			return err
		}
	}
	for _, x := range r.FARs {
		if err := insert(b.fars, "FAR", x.ID, x); err != nil {
			return err
		}
	}
	for _, x := range r.QERs {
		if err := insert(b.qers, "QER", x.ID, x); err != nil {
			return err
		}
	}
	for _, x := range r.URRs {
		if err := insert(b.urrs, "URR", x.ID, x); err != nil {
			return err
		}
	}
	return nil
}

func insert[K comparable, V any](m map[K]V, kind string, id K, v V) error {
	if _, ok := m[id]; ok {
		return rejectf(pfcp.CauseRuleCreationFailure, "create %s %v: it exists", kind, id)
	}
	m[id] = v
	return nil
}

// remove drops rules.
func (b ruleBook) remove(r pfcp.RuleIDs) error {
	for _, id := range r.PDRs {
		if err := drop(b.pdrs, "PDR", id); err != nil {
			return err
		}
	}
	for _, id := range r.FARs {
		if err := drop(b.fars, "FAR", id); err != nil {
			return err
		}
	}
	for _, id := range r.QERs {
		if err := drop(b.qers, "QER", id); err != nil {
			return err
		}
	}
	for _, id := range r.URRs {
		if err := drop(b.urrs, "URR", id); err != nil {
			return err
		}
	}
	return nil
}

func drop[K comparable, V any](m map[K]V, kind string, id K) error {
	if _, ok := m[id]; !ok {
		return rejectf(pfcp.CauseRuleCreationFailure, "remove %s %v: no such rule", kind, id)
	}
	delete(m, id)
	return nil
}

// update changes what r says of rules that exist and leaves the rest (TS 29.244
// clause 5.6.3).
func (b ruleBook) update(r pfcp.Rules) error {
	for _, x := range r.PDRs {
		if err := change(b.pdrs, "PDR", x.ID, x, updatePDR); err != nil {
			return err
		}
	}
	for _, x := range r.FARs {
		if err := change(b.fars, "FAR", x.ID, x, updateFAR); err != nil {
			return err
		}
	}
	for _, x := range r.QERs {
		if err := change(b.qers, "QER", x.ID, x, updateQER); err != nil {
			return err
		}
	}
	for _, x := range r.URRs {
		if err := change(b.urrs, "URR", x.ID, x, updateURR); err != nil {
			return err
		}
	}
	return nil
}

func change[K comparable, V any](m map[K]V, kind string, id K, v V, merge func(old, v V) V) error {
	old, ok := m[id]
	if !ok {
		return rejectf(pfcp.CauseRuleCreationFailure, "update %s %v: no such rule", kind, id)
	}
	m[id] = merge(old, v)
	return nil
}

func updatePDR(p, x pfcp.PDR) pfcp.PDR {
	if x.Precedence != 0 {
		p.Precedence = x.Precedence
	}
	if x.PDI != (pfcp.PDI{}) {
		p.PDI = x.PDI
	}
	p.RemoveOuterHeader = p.RemoveOuterHeader || x.RemoveOuterHeader
	if x.FAR != 0 {
		p.FAR = x.FAR
	}
	if x.QERs != nil {
		p.QERs = x.QERs
	}
	if x.URRs != nil {
		p.URRs = x.URRs
	}
	return p
}

func updateFAR(f, x pfcp.FAR) pfcp.FAR {
	if x.Action != 0 {
		f.Action = x.Action
	}
	if x.Forward == nil {
		return f
	}
	var fw pfcp.Forwarding
	if f.Forward != nil {
		fw = *f.Forward
	}
	if x.Forward.Destination != nil {
		fw.Destination = x.Forward.Destination
	}
	if x.Forward.NetworkInstance != "" {
		fw.NetworkInstance = x.Forward.NetworkInstance
	}
	if x.Forward.Outer != nil {
		fw.Outer = x.Forward.Outer
	}
	f.Forward = &fw
	return f
}

func updateQER(q, x pfcp.QER) pfcp.QER {
	if x.QFI != 0 {
		q.QFI = x.QFI
	}
	if x.MBR != nil {
		q.MBR = x.MBR
	}
	if x.Gates != nil {
		q.Gates = x.Gates
	}
	return q
}

func updateURR(r, x pfcp.URR) pfcp.URR {
	r.Volume = r.Volume || x.Volume
	r.Duration = r.Duration || x.Duration
	if x.Period != 0 {
		r.Period = x.Period
	}
	if x.VolumeThreshold != 0 {
		r.VolumeThreshold = x.VolumeThreshold
	}
	return r
}

// translate turns b into rules of the datapath. Every F-TEID must have been chosen.
func (u *UPF) translate(id ident.SEID, b ruleBook) (datapath.Session, error) {
	out := datapath.Session{ID: id}
	for _, k := range slices.Sorted(maps.Keys(b.fars)) {
		f, err := translateFAR(b.fars[k])
		if err != nil {
			return out, err
		}
		out.FARs = append(out.FARs, f)
	}
	for _, q := range b.qers {
		x := datapath.QER{ID: q.ID, HasQFI: q.QFI != 0, QFI: q.QFI}
		if q.MBR != nil {
			x.MBR = *q.MBR
		}
		if q.Gates != nil {
			x.UplinkClosed, x.DownlinkClosed = q.Gates.UplinkClosed, q.Gates.DownlinkClosed
		}
		out.QERs = append(out.QERs, x)
	}
	for _, r := range b.urrs {
		out.URRs = append(out.URRs, datapath.URR{ID: r.ID})
	}
	for _, k := range slices.Sorted(maps.Keys(b.pdrs)) {
		d, err := u.translatePDR(b.pdrs[k], b)
		if err != nil {
			return out, err
		}
		out.PDRs = append(out.PDRs, d)
	}
	return out, nil
}

func (u *UPF) translatePDR(p pfcp.PDR, b ruleBook) (datapath.PDR, error) {
	d := datapath.PDR{ID: p.ID, Precedence: p.Precedence, FAR: p.FAR, QERs: p.QERs, URRs: p.URRs}
	fail := func(format string, args ...any) (datapath.PDR, error) {
		return d, rejectf(pfcp.CauseRuleCreationFailure, "PDR %d: %s", p.ID, fmt.Sprintf(format, args...))
	}
	far, ok := b.fars[p.FAR]
	if !ok {
		return fail("no FAR %d", p.FAR)
	}
	if p.PDI.UEAddress != nil {
		d.UE = *p.PDI.UEAddress
	}
	if p.PDI.QFI != nil {
		d.HasQFI, d.QFI = true, *p.PDI.QFI
	}
	forward := far.Action&pfcp.ActionForward != 0
	switch p.PDI.Source {
	case pfcp.Access:
		d.Uplink = true
		if p.PDI.FTEID == nil {
			return fail("source Access without F-TEID")
		}
		d.TEID = p.PDI.FTEID.TEID
		if forward && destination(far) != pfcp.Core {
			return fail("from Access to interface %d is not supported", destination(far))
		}
		if forward && !p.RemoveOuterHeader {
			return fail("towards Core without outer header removal")
		}
		d.Network = u.network(networkInstance(far), p.PDI.NetworkInstance)
	case pfcp.Core:
		if forward && destination(far) != pfcp.Access {
			return fail("from Core to interface %d is not supported", destination(far))
		}
		d.Network = u.network(p.PDI.NetworkInstance)
	default:
		return fail("source interface %d is not supported", p.PDI.Source)
	}
	return d, nil
}

// destination is where a FAR that forwards sends to. translateFAR has checked that it
// says so.
func destination(f pfcp.FAR) pfcp.Interface { return *f.Forward.Destination }

func networkInstance(f pfcp.FAR) string {
	if f.Forward == nil {
		return ""
	}
	return f.Forward.NetworkInstance
}

// network is the first of names that is one of ours. Names on the access side may
// mean N3, so they are not errors by themselves. With a single network nobody needs
// to name it. "" if there is none.
func (u *UPF) network(names ...string) ident.DNN {
	for _, n := range names {
		if slices.Contains(u.cfg.NetworkInstances, ident.DNN(n)) {
			return ident.DNN(n)
		}
	}
	if names[0] == "" && len(u.cfg.NetworkInstances) == 1 {
		return u.cfg.NetworkInstances[0]
	}
	return ident.DNN(names[0])
}

func translateFAR(f pfcp.FAR) (datapath.FAR, error) {
	out := datapath.FAR{ID: f.ID, Notify: f.Action&pfcp.ActionNotify != 0}
	// Exactly one of the three must be set (TS 29.244 clause 8.2.26).
	switch f.Action &^ pfcp.ActionNotify {
	case pfcp.ActionDrop:
		out.Action = datapath.Drop
	case pfcp.ActionBuffer:
		out.Action = datapath.Buffer
	case pfcp.ActionForward:
		if f.Forward == nil || f.Forward.Destination == nil {
			return out, rejectf(pfcp.CauseRuleCreationFailure, "FAR %d: forward without destination", f.ID)
		}
		out.Action = datapath.Forward
		if f.Forward.Outer != nil {
			out.Outer = *f.Forward.Outer
		}
	default:
		return out, rejectf(pfcp.CauseRuleCreationFailure, "FAR %d: apply action %#x is not supported", f.ID, uint8(f.Action))
	}
	return out, nil
}

// tunnelsOf are the remote endpoints that FARs of b send to.
func tunnelsOf(b ruleBook) map[ident.FTEID]bool {
	out := make(map[ident.FTEID]bool)
	for _, f := range b.fars {
		if f.Action&pfcp.ActionForward != 0 && f.Forward != nil && f.Forward.Outer != nil {
			out[*f.Forward.Outer] = false
		}
	}
	return out
}
