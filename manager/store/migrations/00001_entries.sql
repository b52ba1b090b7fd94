-- Types are those that both engines know: TEXT, BIGINT, BOOLEAN.
-- +goose Up
CREATE TABLE entries (
  id          TEXT    PRIMARY KEY,
  operator_id TEXT    NOT NULL,
  imsi        TEXT    NOT NULL,
  sim_id      TEXT    NOT NULL, -- '' unless made by SIM ID
  strategy    TEXT    NOT NULL,
  device_port BIGINT  NOT NULL,
  relay_id    TEXT    NOT NULL,
  address     TEXT    NOT NULL, -- of the relay, as published
  port        BIGINT  NOT NULL,
  ranges      TEXT    NOT NULL, -- CIDR, separated by spaces
  created     BIGINT  NOT NULL, -- milliseconds since 1970, as all times here
  expires     BIGINT  NOT NULL,
  UNIQUE (address, port)
);
CREATE INDEX entries_by_operator ON entries (operator_id, id);
CREATE INDEX entries_by_relay ON entries (relay_id);
CREATE INDEX entries_by_expiry ON entries (expires);

-- Addresses that rest after their entry ended.
CREATE TABLE quarantine (
  address TEXT    NOT NULL,
  port    BIGINT  NOT NULL,
  until   BIGINT  NOT NULL,
  PRIMARY KEY (address, port)
);
CREATE INDEX quarantine_by_end ON quarantine (until);

CREATE TABLE signing_keys (
  id      TEXT    PRIMARY KEY,
  seed    TEXT    NOT NULL, -- base64
  created BIGINT  NOT NULL
);

-- +goose Down
DROP TABLE signing_keys;
DROP TABLE quarantine;
DROP TABLE entries;
