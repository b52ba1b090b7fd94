-- +goose Up
ALTER TABLE entries ADD COLUMN tls BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE entries ADD COLUMN credential_id TEXT NOT NULL DEFAULT '';
ALTER TABLE entries ADD COLUMN proxy_protocol BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE entries ADD COLUMN targets TEXT NOT NULL DEFAULT ''; -- JSON; '' for one device

-- +goose Down
ALTER TABLE entries DROP COLUMN targets;
ALTER TABLE entries DROP COLUMN proxy_protocol;
ALTER TABLE entries DROP COLUMN credential_id;
ALTER TABLE entries DROP COLUMN tls;
