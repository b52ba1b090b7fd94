package store

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/simreach/simreach/manager"
)

const attachmentColumns = `session, manager, relay_id, kind, instance, address, first_port, last_port, region, draining, sequence, since, seen,
	live, opened, closed, up, down, rate`

// SyncAttachments implements manager.AttachmentStore.
func (s *Store) SyncAttachments(ctx context.Context, of string, own []manager.RelayAttachment, lapsed time.Time) ([]manager.RelayAttachment, error) {
	var all []manager.RelayAttachment
	err := s.write(ctx, func(t *tx) error {
		all = nil
		known, err := attachments(t)
		if err != nil {
			return err
		}
		stays := map[string]bool{}
		for _, a := range own {
			stays[a.Session] = true
		}
		var next int64 = 1
		was := map[string]manager.RelayAttachment{}
		changed := map[manager.RelayID]bool{}
		for _, a := range known {
			next = max(next, a.Sequence+1)
			was[a.Session] = a
			switch {
			case a.Manager == of && stays[a.Session]:
			case a.Manager == of || a.Seen.Before(lapsed):
				if _, err := t.exec(`DELETE FROM attachments WHERE session = ?`, a.Session); err != nil {
					return err
				}
				changed[a.Relay.ID] = true
			default:
				all = append(all, a)
			}
		}
		for _, a := range own {
			before, old := was[a.Session]
			a.Manager, a.Sequence = of, before.Sequence
			if !old {
				a.Sequence = next
				next++
			}
			if !old || before.Relay.Draining != a.Relay.Draining {
				changed[a.Relay.ID] = true
			}
			if err := t.putAttachment(a); err != nil {
				return err
			}
			all = append(all, a)
		}
		for id := range changed {
			t.notify(manager.Change{Kind: manager.ChangeRelay, Relay: id, Origin: of})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: attachments of manager %s: %w", of, err)
	}
	return all, nil
}

// putAttachment adds or replaces a row.
func (t *tx) putAttachment(a manager.RelayAttachment) error {
	r := a.Relay
	_, err := t.exec(`INSERT INTO attachments (`+attachmentColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (session) DO UPDATE SET draining = excluded.draining, seen = excluded.seen, live = excluded.live, opened = excluded.opened,
			closed = excluded.closed, up = excluded.up, down = excluded.down, rate = excluded.rate`,
		a.Session, a.Manager, string(r.ID), int64(r.Kind), r.Instance, r.Address.String(), r.Ports.First, r.Ports.Last, r.Region, r.Draining,
		a.Sequence, a.Since.UnixMilli(), a.Seen.UnixMilli(), int64(r.Live), signed(a.Opened), signed(a.Closed), signed(a.Up), signed(a.Down), signed(a.Rate))
	return err
}

// signed returns a counter as a column holds it: nothing counts further in practice.
func signed(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// Attachments implements manager.AttachmentStore.
func (s *Store) Attachments(ctx context.Context) ([]manager.RelayAttachment, error) {
	var all []manager.RelayAttachment
	err := s.view(ctx, func(t *tx) (err error) {
		all, err = attachments(t)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store: attachments: %w", err)
	}
	return all, nil
}

func attachments(t *tx) ([]manager.RelayAttachment, error) {
	rows, err := t.query(`SELECT ` + attachmentColumns + ` FROM attachments ORDER BY sequence`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []manager.RelayAttachment
	for rows.Next() {
		var a manager.RelayAttachment
		var address string
		var since, seen int64
		r := &a.Relay
		err := rows.Scan(&a.Session, &a.Manager, &r.ID, &r.Kind, &r.Instance, &address, &r.Ports.First, &r.Ports.Last, &r.Region, &r.Draining,
			&a.Sequence, &since, &seen, &r.Live, &a.Opened, &a.Closed, &a.Up, &a.Down, &a.Rate)
		if err != nil {
			return nil, err
		}
		if r.Address, err = netip.ParseAddrPort(address); err != nil {
			return nil, fmt.Errorf("attachment %s: %w", a.Session, err)
		}
		a.Since, a.Seen = time.UnixMilli(since).UTC(), time.UnixMilli(seen).UTC()
		all = append(all, a)
	}
	return all, rows.Err()
}
