package faulttest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
)

// The steps of the model. Each draws a call, makes it, and does to the model what the
// call is to do.

func (m *model) createEntry(t *rapid.T) {
	n := m.tenant(t)
	s, own := m.sim(t, n)
	port := rapid.SampledFrom([]float64{22, 80, 65535, 0, 65536, 22.5}).Draw(t, "port")
	seconds := rapid.SampledFrom([]float64{-1, 1, 60, 28800, 0, 28801, 1.5}).Draw(t, "duration") // -1: none
	ranges := rapid.SampledFrom([][]string{{"192.0.2.0/24"}, {"198.51.100.7/32", "2001:db8::/32"}, {"nonsense"}}).Draw(t, "ranges")
	in := api.CreateRequest{Destination: &api.Destination{IMSI: s.imsi, Port: port}, Source: &api.Source{IPRanges: ranges}}
	if seconds >= 0 {
		in.Duration = &seconds
	}
	// What is wrong by itself is found before what is not there, or after: either will do.
	if wrong := port < 1 || port > 65535 || port == 22.5 || seconds == 0 || seconds == 28801 || seconds == 1.5 || ranges[0] == "nonsense"; wrong {
		if !own {
			t.SkipNow()
		}
		m.ask(t, n.root, "POST", "/v1/port_mappings", in, http.StatusBadRequest, nil)
		return
	}
	var e api.PortMapping
	m.ask(t, n.root, "POST", "/v1/port_mappings", in, either(own, http.StatusCreated), &e)
	if !own {
		return
	}
	want := int64(seconds)
	if seconds < 0 {
		want = 30 * 60
	}
	if e.OperatorID != tenantID(n.index) || e.IMSI != s.imsi || e.Destination.Port != port || e.Duration != want || e.ExpiredTime != e.CreatedTime+want*1000 || !slices.Equal(e.Source.IPRanges, ranges) {
		fail(t, "the entry is not as asked for", "%+v: %+v", in, e)
	}
	if m.places[e.Endpoint] {
		fail(t, "the address is another's, or was a moment ago", "%s", e.Endpoint)
	}
	m.places[e.Endpoint] = true
	m.entries = append(m.entries, &entry{PortMapping: e, owner: n.index})
}

func (m *model) deleteEntry(t *rapid.T) {
	if len(m.entries) == 0 {
		t.SkipNow()
	}
	e := m.entries[rapid.IntRange(0, len(m.entries)-1).Draw(t, "which")]
	n := m.tenant(t)
	alive, sure := e.alive()
	if !sure {
		t.SkipNow()
	}
	mine := alive && e.owner == n.index
	m.ask(t, n.root, "DELETE", entryPath(e.Endpoint), nil, either(mine, http.StatusNoContent), nil)
	e.deleted = e.deleted || mine
}

// awaitEnd waits until the next entry has surely ended, if that is soon.
func (m *model) awaitEnd(t *rapid.T) {
	if rapid.IntRange(0, 4).Draw(t, "patience") > 0 { // it takes as long as a hundred other steps
		t.SkipNow()
	}
	for _, e := range m.entries {
		left := time.Until(time.UnixMilli(e.ExpiredTime))
		if e.deleted || left < -margin || left > 2*time.Second {
			continue
		}
		timer := time.NewTimer(left + 2*margin)
		defer timer.Stop()
		<-timer.C
		n := m.tenants[e.owner]
		m.ask(t, n.root, "DELETE", entryPath(e.Endpoint), nil, http.StatusNotFound, nil)
		return
	}
	t.SkipNow()
}

// pageEntries lists entries three at a time: the pages together are the list.
func (m *model) pageEntries(t *rapid.T) {
	n := m.tenant(t)
	var all []api.PortMapping
	for after := ""; ; {
		var page []api.PortMapping
		h := m.ask(t, n.root, "GET", "/v1/port_mappings?limit=3&last_evaluated_key="+after, nil, 200, &page)
		all = append(all, page...)
		next := h.Get(api.HeaderNextKey)
		if len(page) > 3 || len(page) < 3 && next != "" {
			t.Fatalf("a page of %d entries, next %q; want 3 but on the last", len(page), next)
		}
		if next == "" {
			break
		}
		after = next
	}
	m.sameEntries(t, n, all, func(*entry) bool { return true })
	if !slices.IsSortedFunc(all, func(a, b api.PortMapping) int { return int(a.CreatedTime - b.CreatedTime) }) {
		t.Fatal("the pages are not in the order of creation")
	}
}

func (m *model) entriesOfSIM(t *rapid.T) {
	n := m.tenant(t)
	s, _ := m.sim(t, n)
	any := false
	for _, e := range m.entries {
		if e.owner == n.index && e.IMSI == s.imsi {
			alive, sure := e.alive()
			if !sure {
				t.SkipNow()
			}
			any = any || alive
		}
	}
	var list []api.PortMapping
	m.ask(t, n.root, "GET", "/v1/port_mappings/subscribers/"+s.imsi, nil, either(any, 200), &list)
	m.sameEntries(t, n, list, func(e *entry) bool { return e.IMSI == s.imsi })
}

func (m *model) registerCredential(t *rapid.T) {
	n := m.tenant(t)
	if len(n.credentials) >= 5 { // they stay for good
		t.SkipNow()
	}
	in := api.CreateCredential{Name: rapid.SampledFrom([]string{"", "a", "名前"}).Draw(t, "name"), CACertificate: m.ca}
	var c api.Credential
	m.ask(t, n.root, "POST", "/v1/simreach/credentials", in, http.StatusCreated, &c)
	n.credentials = append(n.credentials, &credential{c.CredentialID, c.Name, false})
	if c.Name != in.Name || c.RevokedAt != nil {
		fail(t, "the credential is not as registered", "%+v", c)
	}
}

func (m *model) revokeCredential(t *rapid.T) {
	n := m.tenant(t)
	c, own := pick(t, m, n, func(n *tenant) []*credential { return n.credentials })
	m.ask(t, n.root, "DELETE", "/v1/simreach/credentials/"+c.id, nil, either(own, http.StatusNoContent), nil)
	c.revoked = c.revoked || own
}

func (m *model) setStatus(t *rapid.T) {
	n := m.tenant(t)
	s, own := m.sim(t, n)
	// Termination is for good, and not enabled.
	to := map[string]string{"activate": "active", "deactivate": "inactive", "set_to_standby": "standby", "suspend": "suspended", "terminate": ""}
	action := rapid.SampledFrom([]string{"activate", "deactivate", "set_to_standby", "suspend", "terminate"}).Draw(t, "action")
	status := either(own, 200)
	if own && to[action] == "" {
		status = http.StatusConflict
	}
	var got api.Subscriber
	m.ask(t, n.root, "POST", s.path(action), nil, status, &got)
	if status != 200 {
		return
	}
	if s.status = to[action]; got.Status != s.status {
		t.Fatalf("%s: the answer says %s", action, got.Status)
	}
}

var tagNames = []string{"name", "place", "a b"}

func drawTag(t *rapid.T) (name, value string) {
	return rapid.SampledFrom(tagNames).Draw(t, "tag"), rapid.SampledFrom([]string{"", "x", "東京", "%_'\""}).Draw(t, "value")
}

func tagBody(name, value string) any {
	return []map[string]string{{"tagName": name, "tagValue": value}}
}

func (m *model) putSIMTag(t *rapid.T) {
	n := m.tenant(t)
	s, own := m.sim(t, n)
	name, value := drawTag(t)
	m.ask(t, n.root, "PUT", s.path("tags"), tagBody(name, value), either(own, 200), nil)
	if own {
		s.tags[name] = value
	}
}

func (m *model) deleteSIMTag(t *rapid.T) {
	n := m.tenant(t)
	s, own := m.sim(t, n)
	name := rapid.SampledFrom(tagNames[:2]).Draw(t, "tag")
	_, is := s.tags[name]
	m.ask(t, n.root, "DELETE", s.path("tags/"+name), nil, either(own && is, http.StatusNoContent), nil)
	if own && is {
		dropTag(s.tags, name)
	}
}

// dropTag removes a tag; the name only becomes empty.
func dropTag(tags map[string]string, name string) {
	delete(tags, name)
	if name == "name" {
		tags[name] = ""
	}
}

func groupsOf(n *tenant) []*group { return n.groups }

func (m *model) setGroup(t *rapid.T) {
	n := m.tenant(t)
	s, own := m.sim(t, n)
	if rapid.Bool().Draw(t, "none") {
		m.ask(t, n.root, "POST", s.path("unset_group"), nil, either(own, 200), nil)
		if own {
			s.group = ""
		}
		return
	}
	g, ownGroup := pick(t, m, n, groupsOf)
	ok := own && ownGroup && !g.gone
	m.ask(t, n.root, "POST", s.path("set_group"), map[string]string{"groupId": g.id}, either(ok, 200), nil)
	if ok {
		s.group = g.id
	}
}

func (m *model) createGroup(t *rapid.T) {
	n := m.tenant(t)
	name, value := drawTag(t)
	var g api.Group
	m.ask(t, n.root, "POST", "/v1/groups", map[string]any{"tags": map[string]string{name: value}}, http.StatusCreated, &g)
	tags := map[string]string{"name": ""}
	tags[name] = value
	n.groups = append(n.groups, &group{id: g.GroupID, tags: tags})
}

// deleteGroup: its SIMs are in none then, and its event handlers go with it.
func (m *model) deleteGroup(t *rapid.T) {
	n := m.tenant(t)
	g, own := pick(t, m, n, groupsOf)
	ok := own && !g.gone
	m.ask(t, n.root, "DELETE", "/v1/groups/"+g.id, nil, either(ok, http.StatusNoContent), nil)
	if !ok {
		return
	}
	g.gone = true
	for _, s := range n.sims {
		if s.group == g.id {
			s.group = ""
		}
	}
	for _, h := range n.handlers {
		h.gone = h.gone || h.group == g.id
	}
}

func (m *model) putGroupTag(t *rapid.T) {
	n := m.tenant(t)
	g, own := pick(t, m, n, groupsOf)
	name, value := drawTag(t)
	ok := own && !g.gone
	m.ask(t, n.root, "PUT", "/v1/groups/"+g.id+"/tags", tagBody(name, value), either(ok, 200), nil)
	if ok {
		g.tags[name] = value
	}
}

func (m *model) createUser(t *rapid.T) {
	n := m.tenant(t)
	name := rapid.SampledFrom([]string{"ann", "bob@example.com", "c_+=,.-"}).Draw(t, "user")
	description := rapid.SampledFrom([]string{"", "説明"}).Draw(t, "description")
	path := n.userPath() + "/" + name
	for _, u := range n.users {
		if u.name == name && !u.gone {
			m.ask(t, n.root, "POST", path, nil, http.StatusBadRequest, nil)
			return
		}
	}
	m.ask(t, n.root, "POST", path, map[string]string{"description": description}, http.StatusCreated, nil)
	n.users = append(n.users, &user{name: name, description: description})
}

func (m *model) deleteUser(t *rapid.T) {
	n := m.tenant(t)
	u, own := pick(t, m, n, func(n *tenant) []*user { return n.users })
	if !own {
		// A path of another operator is none, whatever it names.
		m.ask(t, n.root, "DELETE", m.tenants[(n.index+1)%tenantCount].userPath()+"/"+u.name, nil, http.StatusNotFound, nil)
		return
	}
	again := u.gone && slices.ContainsFunc(n.users, func(o *user) bool { return o.name == u.name && !o.gone })
	if again { // the name is another user's now
		t.SkipNow()
	}
	m.ask(t, n.root, "DELETE", n.userPath()+"/"+u.name, nil, either(!u.gone, http.StatusNoContent), nil)
	u.gone = true
}

func (m *model) setPermission(t *rapid.T) {
	n := m.tenant(t)
	u, own := pick(t, m, n, func(n *tenant) []*user { return n.users })
	if !own || u.gone {
		t.SkipNow()
	}
	p := rapid.IntRange(0, len(permissions)-1).Draw(t, "permission")
	path := n.userPath() + "/" + u.name + "/permission"
	if p == 0 {
		if u.permission != 0 {
			m.ask(t, n.root, "DELETE", path, nil, http.StatusNoContent, nil)
		}
	} else {
		m.ask(t, n.root, "PUT", path, map[string]string{"permission": permissions[p]}, 200, nil)
	}
	u.permission = p
}

// callAsUser calls with a user's token: of one that is gone it is void, and else counts
// what the user's permission says now.
func (m *model) callAsUser(t *rapid.T) {
	n := m.tenant(t)
	u, own := pick(t, m, n, func(n *tenant) []*user { return n.users })
	path := rapid.SampledFrom([]string{"/v1/port_mappings", "/v1/groups", "/v1/event_handlers", "/v1/simreach/outbox", "/v1/audit_logs/napter"}).Draw(t, "path")
	if !own || u.gone && u.login.Token == "" {
		t.SkipNow()
	}
	if u.login.Token == "" {
		var key api.NewAuthKey
		m.ask(t, n.root, "POST", n.userPath()+"/"+u.name+"/auth_keys", nil, 200, &key)
		m.ask(t, api.AuthResponse{}, "POST", "/v1/auth", api.AuthRequest{AuthKeyID: key.AuthKeyID, AuthKey: key.AuthKey}, 200, &u.login)
	}
	status := http.StatusForbidden
	switch {
	case u.gone:
		status = http.StatusUnauthorized
	case may[path][u.permission]:
		status = 200
	}
	m.ask(t, u.login, "GET", path, nil, status, nil)
}

// handlerBody is of a handler that nothing here sets off.
func (h *handler) body(n *tenant) any {
	property := func(kv ...string) map[string]json.RawMessage {
		out := map[string]json.RawMessage{}
		for i := 0; i < len(kv); i += 2 {
			out[kv[i]] = json.RawMessage(fmt.Sprintf("%q", kv[i+1]))
		}
		return out
	}
	b := api.EventHandler{
		Name: h.name, Status: h.status,
		RuleConfig: manager.Typed{Type: "SubscriberDailyTrafficRule", Properties: property("limitTotalTrafficMegaByte", "10", "inactiveTimeoutDateConst", "NEVER")},
		Actions:    []manager.Typed{{Type: "SuspendAction", Properties: property("executionDateTimeConst", "IMMEDIATELY")}},
	}
	if h.group != "" {
		b.TargetGroupID = &h.group
	} else {
		op := tenantID(n.index)
		b.TargetOperatorID = &op
	}
	return b
}

func (m *model) createHandler(t *rapid.T) {
	n := m.tenant(t)
	h := &handler{name: rapid.SampledFrom([]string{"h", "警報"}).Draw(t, "name"), status: rapid.SampledFrom([]string{"active", "inactive"}).Draw(t, "status")}
	ok := true
	if rapid.Bool().Draw(t, "of a group") {
		g, own := pick(t, m, n, groupsOf)
		h.group, ok = g.id, own && !g.gone
	}
	have := 0
	for _, o := range n.handlers {
		if !o.gone && o.group == h.group {
			have++
		}
	}
	if ok && have >= manager.MaxHandlers {
		t.SkipNow()
	}
	var made api.EventHandler
	m.ask(t, n.root, "POST", "/v1/event_handlers", h.body(n), either(ok, http.StatusCreated), &made)
	if ok {
		h.id = made.HandlerID
		n.handlers = append(n.handlers, h)
	}
}

func (m *model) putHandler(t *rapid.T) {
	n := m.tenant(t)
	h, own := pick(t, m, n, func(n *tenant) []*handler { return n.handlers })
	changed := *h
	changed.status = rapid.SampledFrom([]string{"active", "inactive"}).Draw(t, "status")
	owner := n
	if !own {
		owner = m.tenants[(n.index+1)%tenantCount]
	}
	ok := own && !h.gone
	m.ask(t, n.root, "PUT", "/v1/event_handlers/"+h.id, changed.body(owner), either(ok, 200), nil)
	if ok {
		h.status = changed.status
	}
}

func (m *model) deleteHandler(t *rapid.T) {
	n := m.tenant(t)
	h, own := pick(t, m, n, func(n *tenant) []*handler { return n.handlers })
	ok := own && !h.gone
	m.ask(t, n.root, "DELETE", "/v1/event_handlers/"+h.id, nil, either(ok, http.StatusNoContent), nil)
	h.gone = h.gone || ok
}
