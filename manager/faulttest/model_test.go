package faulttest_test

import (
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/simreach/simreach/manager/api"
	"github.com/simreach/simreach/manager/store/pgtest"
)

// modelTime bounds the search on one engine; a failure that is found is shrunk beyond it.
// For a long search: -model-time 10m -rapid.checks 1000000.
var modelTime = flag.Duration("model-time", 4*time.Second, "how long to search for a failure on each engine of the store")

// margin is how near to its end an entry may be there or not.
const margin = 150 * time.Millisecond

func postgres(t *testing.T) string { return pgtest.Start(t).Database(t) }

// model is what the calls so far mean. Things are in slices in the order of creation, not
// in maps: their IDs differ from run to run, and a sequence must be repeatable.
type model struct {
	*rig
	tenants [tenantCount]*tenant
	entries []*entry // of all tenants, those that have ended too
	places  map[string]bool
	turn    int
}

type tenant struct {
	index       int
	root        api.AuthResponse
	sims        [simsEach]*sim
	groups      []*group
	users       []*user
	handlers    []*handler
	credentials []*credential
	// lastCredential is the last that was there before.
	lastCredential string
}

type entry struct {
	api.PortMapping
	owner   int
	deleted bool
}

type sim struct {
	imsi, status, group string
	tags                map[string]string
}

type group struct {
	id   string
	tags map[string]string
	gone bool
}

type user struct {
	name, description string
	permission        int // of permissions
	login             api.AuthResponse
	gone              bool
}

type handler struct {
	id, name, status string
	group            string // its target; empty: the operator
	gone             bool
}

type credential struct {
	id, name string
	revoked  bool
}

// permissions are what users are given: nothing, some calls, all, all but one.
var permissions = []string{
	``,
	`{"statements":[{"effect":"allow","api":["PortMapping:list*","Group:listGroups"]}]}`,
	`{"statements":[{"effect":"allow","api":"*"}]}`,
	`{"statements":[{"effect":"allow","api":"*"},{"effect":"deny","api":"PortMapping:*"}]}`,
}

// may is what permissions mean for calls of users.
var may = map[string][]bool{
	"/v1/port_mappings":     {false, true, true, false},
	"/v1/groups":            {false, true, true, true},
	"/v1/event_handlers":    {false, false, true, true},
	"/v1/simreach/outbox":   {false, false, false, false}, // for the root user only
	"/v1/audit_logs/napter": {false, false, false, false},
}

func modelTest(t *testing.T, r *rig) {
	begin, failed, runs, calls := time.Now(), false, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		if !failed && time.Since(begin) > *modelTime {
			return
		}
		runs++
		defer func() { failed = failed || t.Failed() }()
		m := newModel(t, r)
		actions := map[string]func(*rapid.T){
			"": m.compare, // after each of the others

			"create entry": m.createEntry, "create entry again": m.createEntry, "delete entry": m.deleteEntry, "wait for an end": m.awaitEnd,
			"page entries": m.pageEntries, "list entries of SIM": m.entriesOfSIM,
			"register credential": m.registerCredential, "revoke credential": m.revokeCredential,
			"set SIM status": m.setStatus, "put SIM tag": m.putSIMTag, "delete SIM tag": m.deleteSIMTag, "set SIM group": m.setGroup,
			"create group": m.createGroup, "delete group": m.deleteGroup, "put group tag": m.putGroupTag,
			"create user": m.createUser, "delete user": m.deleteUser, "set permission": m.setPermission, "call as user": m.callAsUser,
			"create handler": m.createHandler, "put handler": m.putHandler, "delete handler": m.deleteHandler,
		}
		for name, f := range actions {
			actions[name] = func(t *rapid.T) {
				if failed || time.Since(begin) <= *modelTime {
					calls++
					f(t)
				}
			}
		}
		t.Repeat(actions)
	})
	t.Logf("%d sequences, %d steps in %s", runs, calls, time.Since(begin).Round(time.Millisecond))
	if runs == 0 || calls < 50 {
		t.Errorf("%d sequences with %d steps are no test", runs, calls)
	}
}

// newModel removes what the sequence before left, and begins anew.
func newModel(t *rapid.T, r *rig) *model {
	m := &model{rig: r, places: map[string]bool{}}
	for i := range m.tenants {
		n := &tenant{index: i, root: r.roots[i]}
		m.tenants[i] = n
		for _, e := range m.list(t, n) {
			m.ask(t, n.root, "DELETE", entryPath(e.Endpoint), nil, 204, nil)
		}
		var gs []api.Group
		m.ask(t, n.root, "GET", "/v1/groups", nil, 200, &gs)
		for _, g := range gs {
			m.ask(t, n.root, "DELETE", "/v1/groups/"+g.GroupID, nil, 204, nil)
		}
		var us []api.User
		m.ask(t, n.root, "GET", n.userPath(), nil, 200, &us)
		for _, u := range us {
			m.ask(t, n.root, "DELETE", n.userPath()+"/"+u.UserName, nil, 204, nil)
		}
		var hs []api.EventHandler
		m.ask(t, n.root, "GET", "/v1/event_handlers", nil, 200, &hs)
		for _, h := range hs {
			m.ask(t, n.root, "DELETE", "/v1/event_handlers/"+h.HandlerID, nil, 204, nil)
		}
		for j := range n.sims {
			s := &sim{imsi: imsiOf(i, j), status: "active", tags: map[string]string{"name": ""}}
			n.sims[j] = s
			var now api.Subscriber
			m.ask(t, n.root, "POST", s.path("activate"), nil, 200, &now)
			for _, k := range slices.Sorted(maps.Keys(now.Tags)) {
				m.ask(t, n.root, "DELETE", s.path("tags/"+k), nil, 204, nil)
			}
		}
		// Credentials stay for good: those of sequences before are passed over.
		for page := m.listCredentials(t, n); len(page) > 0; page = m.listCredentials(t, n) {
			n.lastCredential = page[len(page)-1].CredentialID
		}
	}
	return m
}

func (n *tenant) userPath() string { return "/v1/operators/" + tenantID(n.index) + "/users" }

func (s *sim) path(action string) string { return "/v1/subscribers/" + s.imsi + "/" + action }

func entryPath(endpoint string) string {
	a := netip.MustParseAddrPort(endpoint)
	_, port, _ := strings.Cut(a.String(), ":")
	return "/v1/port_mappings/" + a.Addr().String() + "/" + port
}

// tenant draws who calls.
func (m *model) tenant(t *rapid.T) *tenant {
	return m.tenants[rapid.IntRange(0, tenantCount-1).Draw(t, "tenant")]
}

// sim draws a SIM, now and then another tenant's. ok: it is n's.
func (m *model) sim(t *rapid.T, n *tenant) (s *sim, ok bool) {
	owner := n
	if rapid.IntRange(0, 9).Draw(t, "other") == 0 {
		owner = m.tenants[(n.index+1)%tenantCount]
	}
	return owner.sims[rapid.IntRange(0, simsEach-1).Draw(t, "sim")], owner == n
}

// pick draws one of a list, now and then of another tenant's. It gives the step up where
// there is none.
func pick[T any](t *rapid.T, m *model, n *tenant, of func(*tenant) []T) (x T, ok bool) {
	owner := n
	if rapid.IntRange(0, 9).Draw(t, "other") == 0 {
		owner = m.tenants[(n.index+1)%tenantCount]
	}
	list := of(owner)
	if len(list) == 0 {
		t.SkipNow()
	}
	return list[rapid.IntRange(0, len(list)-1).Draw(t, "which")], owner == n
}

// either is the status of a call that finds what it is about, or does not.
func either(found bool, status int) int {
	if found {
		return status
	}
	return http.StatusNotFound
}

// alive reports whether an entry is there; sure is false near its end.
func (e *entry) alive() (alive, sure bool) {
	left := time.Until(time.UnixMilli(e.ExpiredTime))
	return !e.deleted && left > 0, e.deleted || left < -margin || left > margin
}

// compare compares all that one tenant can list with the model: each step another one.
func (m *model) compare(t *rapid.T) {
	n := m.tenants[m.turn%tenantCount]
	m.turn++
	m.sameEntries(t, n, m.list(t, n), func(*entry) bool { return true })

	var gs []api.Group
	m.ask(t, n.root, "GET", "/v1/groups", nil, 200, &gs)
	got, want := map[string]map[string]string{}, map[string]map[string]string{}
	for _, g := range gs {
		got[g.GroupID] = g.Tags
	}
	for _, g := range n.groups {
		if !g.gone {
			want[g.id] = g.tags
		}
	}
	same(t, "groups", got, want)

	var us []api.User
	m.ask(t, n.root, "GET", n.userPath(), nil, 200, &us)
	gotUsers, wantUsers := map[string]string{}, map[string]string{}
	for _, u := range us {
		gotUsers[u.UserName] = u.Description + " " + u.Permission
	}
	for _, u := range n.users {
		if !u.gone {
			wantUsers[u.name] = u.description + " " + permissions[u.permission]
		}
	}
	same(t, "users", gotUsers, wantUsers)

	var hs []api.EventHandler
	m.ask(t, n.root, "GET", "/v1/event_handlers", nil, 200, &hs)
	var gotHandlers, wantHandlers []string
	for _, h := range hs {
		gotHandlers = append(gotHandlers, h.HandlerID+" "+h.Name+" "+h.Status)
	}
	for _, h := range n.handlers {
		if !h.gone {
			wantHandlers = append(wantHandlers, h.id+" "+h.name+" "+h.status)
		}
	}
	slices.Sort(gotHandlers)
	slices.Sort(wantHandlers)
	same(t, "event handlers", gotHandlers, wantHandlers)

	var ss []api.Subscriber
	m.ask(t, n.root, "GET", "/v1/subscribers", nil, 200, &ss)
	gotSIMs, wantSIMs := map[string]sim{}, map[string]sim{}
	for _, s := range ss {
		one := sim{imsi: s.IMSI, status: s.Status, tags: s.Tags}
		if s.GroupID != nil {
			one.group = *s.GroupID
		}
		gotSIMs[s.IMSI] = one
	}
	for _, s := range n.sims {
		wantSIMs[s.imsi] = *s
	}
	same(t, "SIMs", gotSIMs, wantSIMs)

	gotCredentials, wantCredentials := map[string]credential{}, map[string]credential{}
	for _, c := range m.listCredentials(t, n) {
		gotCredentials[c.CredentialID] = credential{c.CredentialID, c.Name, c.RevokedAt != nil}
	}
	for _, c := range n.credentials {
		wantCredentials[c.id] = *c
	}
	same(t, "credentials", gotCredentials, wantCredentials)
}

func same[T any](t *rapid.T, what string, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got, cmp.AllowUnexported(sim{}, credential{})); d != "" {
		fail(t, what+" differ", "(- model, + manager):\n%s", d)
	}
}

// sameEntries compares a list with the tenant's entries that are in it.
func (m *model) sameEntries(t *rapid.T, n *tenant, list []api.PortMapping, in func(*entry) bool) {
	t.Helper()
	have := map[string]api.PortMapping{}
	for _, e := range list {
		have[e.Endpoint] = e
	}
	if len(have) != len(list) {
		t.Fatal("an address is listed twice")
	}
	for _, e := range m.entries {
		if e.owner != n.index || !in(e) {
			continue
		}
		got, is := have[e.Endpoint]
		delete(have, e.Endpoint)
		alive, sure := e.alive()
		if sure && is != alive {
			fail(t, fmt.Sprintf("an entry is listed: %v; want %v", is, alive), "%s", e.Endpoint)
		}
		if is {
			same(t, "entry", got, e.PortMapping)
		}
	}
	for _, e := range have {
		fail(t, "an entry is listed and not known", "%s", e.Endpoint)
	}
}

// list returns a tenant's entries.
func (m *model) list(t *rapid.T, n *tenant) (list []api.PortMapping) {
	m.ask(t, n.root, "GET", "/v1/port_mappings", nil, 200, &list)
	return list
}

func (m *model) listCredentials(t *rapid.T, n *tenant) (list []api.Credential) {
	m.ask(t, n.root, "GET", "/v1/simreach/credentials?limit=1000&last_evaluated_key="+n.lastCredential, nil, 200, &list)
	return list
}
