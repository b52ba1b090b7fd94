package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"
)

// GroupID names a group of SIMs: a UUID.
type GroupID string

// Group is a set of SIMs of one operator with a configuration that they share. The
// manager keeps the configuration for clients; nothing here acts on it.
type Group struct {
	ID         GroupID
	OperatorID OperatorID
	Tags       map[string]string // "name" is the display name
	// Configuration has the values by namespace and key.
	Configuration map[string]map[string]json.RawMessage
	Created       time.Time
	Modified      time.Time
}

const (
	// MaxGroupConfiguration is how many bytes of JSON a group's configuration may have.
	MaxGroupConfiguration = 8 << 10
	// MaxGroups is how many groups an operator may have.
	MaxGroups = 1000
	maxTags   = 50
	maxTag    = 255 // bytes, of a name or a value
)

// namespaces are those of a group's configuration.
var namespaces = map[string]bool{
	"SoracomAir": true, "SoracomBeam": true, "SoracomEndorse": true, "SoracomFlux": true, "SoracomFunk": true, "SoracomFunnel": true,
	"SoracomHarvest": true, "SoracomHarvestFiles": true, "SoracomKrypton": true, "SoracomOrbit": true, "UnifiedEndpoint": true,
}

// GroupQuery selects groups of one operator in the order of their IDs.
type GroupQuery struct {
	OperatorID        OperatorID
	TagName, TagValue string // TagName empty: any
	TagPrefix         bool
	After             GroupID
	Limit             int // 0: all
}

// GroupStore keeps groups.
type GroupStore interface {
	// AddGroup adds g unless its operator has most of them: ErrTooMany.
	AddGroup(ctx context.Context, g Group, most int) error
	// Group returns one. ErrNotFound.
	Group(ctx context.Context, id GroupID) (Group, error)
	Groups(ctx context.Context, q GroupQuery) ([]Group, error)
	// UpdateGroup has change make of a group what it shall be, as UpdateSIM. ErrNotFound.
	UpdateGroup(ctx context.Context, id GroupID, change func(*Group) error) (Group, error)
	// DeleteGroup removes a group; its SIMs are in none then, and its event handlers go
	// with it. ErrNotFound.
	DeleteGroup(ctx context.Context, id GroupID) error
}

// CreateGroup makes a group. Errors: CodeBadTag, CodeBadNamespace, CodeGroupTooLarge,
// CodeTooManyGroups, CodeInternal.
func (s *Service) CreateGroup(ctx context.Context, op OperatorID, tags map[string]string, conf map[string]map[string]json.RawMessage) (Group, error) {
	t := now()
	g := Group{ID: GroupID(randomUUID()), OperatorID: op, Tags: map[string]string{"name": ""}, Configuration: conf, Created: t, Modified: t}
	for k, v := range tags {
		g.Tags[k] = v
	}
	if g.Configuration == nil {
		g.Configuration = map[string]map[string]json.RawMessage{}
	}
	maps.DeleteFunc(g.Configuration, func(_ string, values map[string]json.RawMessage) bool { return values == nil })
	if err := checkTags(g.Tags); err != nil {
		return Group{}, err
	}
	if err := g.checkConfiguration(); err != nil {
		return Group{}, err
	}
	err := s.store.AddGroup(ctx, g, MaxGroups)
	switch {
	case errors.Is(err, ErrTooMany):
		return Group{}, NewError(CodeTooManyGroups, MaxGroups)
	case err != nil:
		return Group{}, fault("add group", err)
	}
	return g, nil
}

func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return NewError(CodeBadTag, DetailManyTags.Of(maxTags))
	}
	for k, v := range tags {
		if unstorable(k) || unstorable(v) {
			return NewError(CodeBadText)
		}
		if k == "" || len(k) > maxTag || len(v) > maxTag {
			return NewError(CodeBadTag, DetailLongTag.Of(k, maxTag))
		}
	}
	return nil
}

func (g Group) checkConfiguration() error {
	for ns, values := range g.Configuration {
		if !namespaces[ns] {
			return NewError(CodeBadNamespace, DetailNotKnown.Of(fmt.Sprintf("%.64q", ns)))
		}
		if _, ok := values[""]; ok { // no call could remove it
			return NewError(CodeBadNamespace, DetailRequired.Of("key"))
		}
	}
	text, err := json.Marshal(g.Configuration)
	if err != nil {
		return NewError(CodeBadNamespace, DetailBadJSON)
	}
	if len(text) > MaxGroupConfiguration {
		return NewError(CodeGroupTooLarge, MaxGroupConfiguration)
	}
	return nil
}

// Group returns one of the operator's groups. Errors: CodeUnknownGroup (also for
// another operator's), CodeInternal.
func (s *Service) Group(ctx context.Context, op OperatorID, id GroupID) (Group, error) {
	g, err := s.store.Group(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && g.OperatorID != op:
		return Group{}, NewError(CodeUnknownGroup, string(id))
	case err != nil:
		return Group{}, fault("find group", err)
	}
	return g, nil
}

// Groups lists an operator's groups. The only error is CodeInternal.
func (s *Service) Groups(ctx context.Context, q GroupQuery) ([]Group, error) {
	gs, err := s.store.Groups(ctx, q)
	if err != nil {
		return nil, fault("list groups", err)
	}
	return gs, nil
}

// DeleteGroup removes a group, also one that has SIMs: they stay, and are in none then.
// Errors: as Group.
func (s *Service) DeleteGroup(ctx context.Context, op OperatorID, id GroupID) error {
	if _, err := s.Group(ctx, op, id); err != nil {
		return err
	}
	if err := s.store.DeleteGroup(ctx, id); err != nil && !errors.Is(err, ErrNotFound) {
		return fault("delete group", err)
	}
	return nil
}

func (s *Service) changeGroup(ctx context.Context, op OperatorID, id GroupID, change func(*Group) error) (Group, error) {
	g, err := s.store.UpdateGroup(ctx, id, func(g *Group) error {
		if g.OperatorID != op {
			return ErrNotFound
		}
		if err := change(g); err != nil {
			return err
		}
		g.Modified = now()
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return Group{}, NewError(CodeUnknownGroup, string(id))
	}
	if err != nil {
		return Group{}, fault("change group", err)
	}
	return g, nil
}

// PutGroupTags sets tags of a group. Errors: as Group, CodeBadTag.
func (s *Service) PutGroupTags(ctx context.Context, op OperatorID, id GroupID, tags map[string]string) (Group, error) {
	return s.changeGroup(ctx, op, id, func(g *Group) error {
		for k, v := range tags {
			g.Tags[k] = v
		}
		return checkTags(g.Tags)
	})
}

// DeleteGroupTag removes a tag of a group; the name becomes empty. Errors: as Group,
// CodeNoTag.
func (s *Service) DeleteGroupTag(ctx context.Context, op OperatorID, id GroupID, name string) error {
	_, err := s.changeGroup(ctx, op, id, func(g *Group) error { return dropTag(g.Tags, name) })
	return err
}

func dropTag(tags map[string]string, name string) error {
	if _, ok := tags[name]; !ok {
		return NewError(CodeNoTag, fmt.Sprintf("%.64q", name))
	}
	delete(tags, name)
	if name == "name" {
		tags[name] = ""
	}
	return nil
}

// PutGroupConfiguration sets keys of a namespace. Errors: as Group,
// CodeBadNamespace, CodeGroupTooLarge.
func (s *Service) PutGroupConfiguration(ctx context.Context, op OperatorID, id GroupID, ns string, values map[string]json.RawMessage) (Group, error) {
	return s.changeGroup(ctx, op, id, func(g *Group) error {
		if g.Configuration[ns] == nil {
			g.Configuration[ns] = map[string]json.RawMessage{}
		}
		for k, v := range values {
			g.Configuration[ns][k] = v
		}
		return g.checkConfiguration()
	})
}

// DeleteGroupConfiguration removes a key of a namespace, or with an empty key the
// namespace. Errors: as Group, CodeNoConfiguration.
func (s *Service) DeleteGroupConfiguration(ctx context.Context, op OperatorID, id GroupID, ns, key string) error {
	_, err := s.changeGroup(ctx, op, id, func(g *Group) error {
		values, ok := g.Configuration[ns]
		if key != "" && ok {
			_, ok = values[key]
			delete(values, key)
		} else {
			delete(g.Configuration, ns)
		}
		if !ok {
			return NewError(CodeNoConfiguration)
		}
		return nil
	})
	return err
}
