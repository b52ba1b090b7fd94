package api

import (
	"encoding/json"
	"net/http"

	"github.com/simreach/simreach/manager"
)

var groupRoutes = []route{
	{"GET", "/v1/groups", "Group:listGroups", permitted, (*handler).listGroups},
	{"POST", "/v1/groups", "Group:createGroup", permitted, (*handler).createGroup},
	{"GET", "/v1/groups/{group_id}", "Group:getGroup", permitted, (*handler).getGroup},
	{"DELETE", "/v1/groups/{group_id}", "Group:deleteGroup", permitted, (*handler).deleteGroup},
	{"GET", "/v1/groups/{group_id}/subscribers", "Group:listSubscribers", permitted, (*handler).groupSIMs},
	{"PUT", "/v1/groups/{group_id}/tags", "Group:putTags", permitted, (*handler).putGroupTags},
	{"DELETE", "/v1/groups/{group_id}/tags/{tag_name}", "Group:deleteTag", permitted, (*handler).deleteGroupTag},
	{"PUT", "/v1/groups/{group_id}/configuration/{namespace}", "Group:putConfigurationParameters", permitted, (*handler).putGroupConfiguration},
	{"DELETE", "/v1/groups/{group_id}/configuration/{namespace}", "Group:deleteConfigurationNamespace", permitted, (*handler).deleteGroupConfiguration},
	{"DELETE", "/v1/groups/{group_id}/configuration/{namespace}/{name}", "Group:deleteConfigurationParameter", permitted, (*handler).deleteGroupConfiguration},
}

// Group is a group of SIMs.
type Group struct {
	Configuration    map[string]map[string]json.RawMessage `json:"configuration"`
	CreatedAt        int64                                 `json:"createdAt"`
	CreatedTime      int64                                 `json:"createdTime"`
	GroupID          string                                `json:"groupId"`
	LastModifiedAt   int64                                 `json:"lastModifiedAt"`
	LastModifiedTime int64                                 `json:"lastModifiedTime"`
	OperatorID       string                                `json:"operatorId"`
	Tags             map[string]string                     `json:"tags"`
}

func group(g manager.Group) Group {
	out := Group{
		Configuration: g.Configuration, CreatedAt: g.Created.UnixMilli(), CreatedTime: g.Created.UnixMilli(), GroupID: string(g.ID),
		LastModifiedAt: g.Modified.UnixMilli(), LastModifiedTime: g.Modified.UnixMilli(), OperatorID: string(g.OperatorID), Tags: tagsOf(g.Tags),
	}
	if out.Configuration == nil {
		out.Configuration = map[string]map[string]json.RawMessage{}
	}
	return out
}

func groupID(r *request) manager.GroupID { return manager.GroupID(r.PathValue("group_id")) }

func (h *handler) listGroups(r *request) (int, any, error) {
	p, err := r.page(100, 100)
	if err != nil {
		return 0, nil, err
	}
	q := manager.GroupQuery{OperatorID: r.principal.OperatorID, After: manager.GroupID(p.After), Limit: p.Limit}
	if q.TagName, q.TagValue, q.TagPrefix, err = r.tagFilter(); err != nil {
		return 0, nil, err
	}
	gs, err := h.manager.Groups(r.Context(), q)
	if err != nil {
		return 0, nil, err
	}
	gs = cut(r, p, gs, func(g manager.Group) string { return string(g.ID) })
	out := make([]Group, len(gs))
	for i, g := range gs {
		out[i] = group(g)
	}
	return http.StatusOK, out, nil
}

func (h *handler) createGroup(r *request) (int, any, error) {
	var in struct {
		Tags          map[string]string                     `json:"tags"`
		Configuration map[string]map[string]json.RawMessage `json:"configuration"`
	}
	if err := decodeOptional(r, &in); err != nil {
		return 0, nil, err
	}
	g, err := h.manager.CreateGroup(r.Context(), r.principal.OperatorID, in.Tags, in.Configuration)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, group(g), nil
}

func (h *handler) getGroup(r *request) (int, any, error) {
	return groupAnswer(h.manager.Group(r.Context(), r.principal.OperatorID, groupID(r)))
}

func groupAnswer(g manager.Group, err error) (int, any, error) {
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, group(g), nil
}

func (h *handler) deleteGroup(r *request) (int, any, error) {
	return http.StatusNoContent, nil, h.manager.DeleteGroup(r.Context(), r.principal.OperatorID, groupID(r))
}

// groupSIMs lists SIMs, those without a SIM ID too: the page key is the IMSI.
func (h *handler) groupSIMs(r *request) (int, any, error) {
	p, err := r.page(100, 100)
	if err != nil {
		return 0, nil, err
	}
	sims, err := h.manager.SIMs(r.Context(), manager.SIMQuery{OperatorID: r.principal.OperatorID, GroupID: groupID(r), After: p.After, Limit: p.Limit})
	if err != nil {
		return 0, nil, err
	}
	sims = cut(r, p, sims, func(s manager.SIMResult) string { return string(s.IMSI) })
	out := make([]Sim, len(sims))
	for i, s := range sims {
		out[i] = simObject(s)
	}
	return http.StatusOK, out, nil
}

func (h *handler) putGroupTags(r *request) (int, any, error) {
	tags, err := decodeTags(r)
	if err != nil {
		return 0, nil, err
	}
	return groupAnswer(h.manager.PutGroupTags(r.Context(), r.principal.OperatorID, groupID(r), tags))
}

func (h *handler) deleteGroupTag(r *request) (int, any, error) {
	return http.StatusNoContent, nil, h.manager.DeleteGroupTag(r.Context(), r.principal.OperatorID, groupID(r), r.PathValue("tag_name"))
}

func (h *handler) putGroupConfiguration(r *request) (int, any, error) {
	var in []struct {
		Key   string          `json:"key"`
		Value json.RawMessage `json:"value"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	values := map[string]json.RawMessage{}
	for _, kv := range in {
		if kv.Value == nil {
			return 0, nil, manager.NewError(manager.CodeBadNamespace, manager.DetailRequired.Of("value"))
		}
		values[kv.Key] = kv.Value
	}
	return groupAnswer(h.manager.PutGroupConfiguration(r.Context(), r.principal.OperatorID, groupID(r), r.PathValue("namespace"), values))
}

func (h *handler) deleteGroupConfiguration(r *request) (int, any, error) {
	err := h.manager.DeleteGroupConfiguration(r.Context(), r.principal.OperatorID, groupID(r), r.PathValue("namespace"), r.PathValue("name"))
	return http.StatusNoContent, nil, err
}
