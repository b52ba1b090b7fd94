package store

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/simreach/simreach/manager"
)

// SigningKeys implements manager.KeyStore.
func (s *Store) SigningKeys(ctx context.Context) ([]manager.SigningKey, error) {
	var keys []manager.SigningKey
	err := s.view(ctx, func(t *tx) (err error) {
		keys, err = signingKeys(t)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store: signing keys: %w", err)
	}
	return keys, nil
}

// AddSigningKey implements manager.KeyStore.
func (s *Store) AddSigningKey(ctx context.Context, k manager.SigningKey) (manager.SigningKey, error) {
	newest := k
	err := s.write(ctx, func(t *tx) error {
		keys, err := signingKeys(t)
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			newest = keys[0]
			return nil
		}
		newest = k
		_, err = t.exec(`INSERT INTO signing_keys (id, seed, created) VALUES (?, ?, ?)`, k.ID, base64.StdEncoding.EncodeToString(k.Seed), k.Created.UnixMilli())
		return err
	})
	if err != nil {
		return manager.SigningKey{}, fmt.Errorf("store: add signing key %s: %w", k.ID, err)
	}
	return newest, nil
}

func signingKeys(t *tx) ([]manager.SigningKey, error) {
	rows, err := t.query(`SELECT id, seed, created FROM signing_keys ORDER BY created DESC, id DESC`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var keys []manager.SigningKey
	for rows.Next() {
		var k manager.SigningKey
		var created int64
		var seed []byte
		if err := rows.Scan(&k.ID, &seed, &created); err != nil {
			return nil, err
		}
		// Databases of earlier versions have the bytes themselves.
		if k.Seed = seed; len(seed) != 32 {
			if k.Seed, err = base64.StdEncoding.DecodeString(string(seed)); err != nil {
				return nil, fmt.Errorf("key %s: %w", k.ID, err)
			}
		}
		k.Created = time.UnixMilli(created).UTC()
		keys = append(keys, k)
	}
	return keys, rows.Err()
}
