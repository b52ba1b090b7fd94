package store

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/simreach/simreach/manager"
)

// searchColumns are the columns of search fields; all are compared in lower case.
var searchColumns = map[manager.SearchField]string{
	manager.SearchName: `name`, manager.SearchGroupID: `group_id`, manager.SearchSIMID: `sim_id`, manager.SearchIMSI: `imsi`,
	manager.SearchMSISDN: `msisdn`, manager.SearchICCID: `iccid`, manager.SearchSerial: `serial_number`, manager.SearchTag: `tags`,
	manager.SearchBundles: `bundles`, manager.SearchStatus: `status`, manager.SearchSubscription: `subscription`, manager.SearchModuleType: `module_type`,
}

// conditions is a WHERE clause under way.
type conditions struct {
	texts []string
	args  []any
}

func (c *conditions) add(text string, args ...any) {
	c.texts, c.args = append(c.texts, text), append(c.args, args...)
}

// oneOf adds a condition that a column has one of the values; none is no condition.
func oneOf[T ~string](c *conditions, column string, values []T) {
	if len(values) == 0 {
		return
	}
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = string(v)
	}
	c.add(column+` IN (?`+strings.Repeat(`, ?`, len(values)-1)+`)`, args...)
}

// like returns a pattern that a text contains part, whatever part has in it.
func like(part string) string {
	return `%` + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(strings.ToLower(part)) + `%`
}

// SIMs implements manager.SIMStore.
func (s *Store) SIMs(ctx context.Context, q manager.SIMQuery) ([]manager.SIM, error) {
	var c conditions
	c.add(`operator_id = ?`, string(q.OperatorID))
	key := `imsi`
	if q.BySIMID {
		key = `sim_id`
		c.add(`sim_id IS NOT NULL`)
	}
	if q.After != "" {
		c.add(key+` > ?`, q.After)
	}
	if q.TagName != "" {
		cond, args := `sim_tags.value = ?`, []any{q.TagName, q.TagValue}
		if q.TagPrefix {
			cond, args = `substr(sim_tags.value, 1, ?) = ?`, []any{q.TagName, utf8.RuneCountInString(q.TagValue), q.TagValue}
		}
		c.add(`EXISTS (SELECT 1 FROM sim_tags WHERE sim_tags.imsi = sims.imsi AND sim_tags.name = ? AND `+cond+`)`, args...)
	}
	oneOf(&c, `status`, q.Statuses)
	oneOf(&c, `speed_class`, q.SpeedClasses)
	oneOf(&c, `serial_number`, q.Serials)
	if q.GroupID != "" {
		c.add(`group_id = ?`, string(q.GroupID))
	}
	if q.Online != nil {
		c.add(`online = ?`, *q.Online)
	}
	if len(q.Terms) > 0 {
		var terms conditions
		for _, term := range q.Terms {
			addTerm(&terms, term, q.OperatorID)
		}
		glue := ` AND `
		if q.Any {
			glue = ` OR `
		}
		c.add(`(`+strings.Join(terms.texts, glue)+`)`, terms.args...)
	}
	stmt := `SELECT ` + simColumns + ` FROM sims WHERE ` + strings.Join(c.texts, ` AND `) + ` ORDER BY ` + key
	if q.Limit > 0 {
		stmt, c.args = stmt+` LIMIT ?`, append(c.args, q.Limit)
	}
	sims, err := s.sims(ctx, stmt, c.args...)
	if err != nil {
		return nil, fmt.Errorf("of %s: %w", q.OperatorID, err)
	}
	return sims, nil
}

func addTerm(c *conditions, term manager.SearchTerm, op manager.OperatorID) {
	var texts []string
	var args []any
	for _, v := range term.Values {
		if term.Field == manager.SearchGroup {
			texts = append(texts, `group_id IN (SELECT id FROM sim_groups WHERE operator_id = ? AND name LIKE ? ESCAPE '\')`)
			args = append(args, string(op), like(v))
			continue
		}
		texts = append(texts, `LOWER(`+searchColumns[term.Field]+`) LIKE ? ESCAPE '\'`)
		args = append(args, like(v))
	}
	if len(texts) > 0 {
		c.add(`(`+strings.Join(texts, ` OR `)+`)`, args...)
	}
}
