package upf

import (
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/pfcp"
)

// TEIDs and SEIDs are drawn at random, not counted: after a restart the CP function
// sets its sessions up again with the TEIDs they had, and a number given to somebody
// else meanwhile must not be one of them.

func (u *UPF) newTEID() ident.TEID {
	for {
		if t := ident.TEID(rand.Uint32()); t != 0 && u.teids[t] == 0 {
			return t
		}
	}
}

func (u *UPF) newSEID() ident.SEID {
	for {
		if s := ident.SEID(rand.Uint64()); s != 0 && u.sessions[s] == nil {
			return s
		}
	}
}

// chooseTEIDs gives every PDR of b that has the CH flag a F-TEID of ours and
// returns them; F-TEIDs that the CP function chose must be on our N3 address and
// free. It takes nothing: commit does.
func (u *UPF) chooseTEIDs(id ident.SEID, b ruleBook) ([]pfcp.CreatedPDR, error) {
	var created []pfcp.CreatedPDR
	chosen := make(map[ident.TEID]bool)
	for _, k := range slices.Sorted(maps.Keys(b.pdrs)) {
		p := b.pdrs[k]
		if p.PDI.Source != pfcp.Access {
			continue
		}
		switch {
		case p.PDI.ChooseTEID:
			f := ident.FTEID{Addr: u.cfg.N3Address, TEID: u.newTEID()}
			for chosen[f.TEID] {
				f.TEID = u.newTEID()
			}
			chosen[f.TEID] = true
			p.PDI.FTEID, p.PDI.ChooseTEID = &f, false
			b.pdrs[k] = p
			created = append(created, pfcp.CreatedPDR{ID: p.ID, FTEID: f})
		case p.PDI.FTEID == nil:
		case p.PDI.FTEID.Addr != u.cfg.N3Address:
			return nil, rejectf(pfcp.CauseRuleCreationFailure, "PDR %d: F-TEID address %v is not ours", p.ID, p.PDI.FTEID.Addr)
		default:
			if owner := u.teids[p.PDI.FTEID.TEID]; owner != 0 && owner != id {
				return nil, rejectf(pfcp.CauseRuleCreationFailure, "PDR %d: TEID %#x is in use", p.ID, uint32(p.PDI.FTEID.TEID))
			}
		}
	}
	return created, nil
}

// localTEIDs are the TEIDs of b.
func localTEIDs(b ruleBook) []ident.TEID {
	var out []ident.TEID
	for _, p := range b.pdrs {
		if p.PDI.FTEID != nil {
			out = append(out, p.PDI.FTEID.TEID)
		}
	}
	return out
}
