-- +goose Up
CREATE TABLE audit (
  id            TEXT    PRIMARY KEY,
  type          TEXT    NOT NULL,
  at            BIGINT  NOT NULL,
  operator_id   TEXT    NOT NULL,
  entry_id      TEXT    NOT NULL,
  connection_id TEXT    NOT NULL, -- '' for the life of an entry
  imsi          TEXT    NOT NULL,
  sim_id        TEXT    NOT NULL,
  relay_id      TEXT    NOT NULL,
  source        TEXT    NOT NULL, -- address and port, or ''
  destination   TEXT    NOT NULL,
  device_port   BIGINT  NOT NULL,
  tls           BOOLEAN NOT NULL,
  cause         TEXT    NOT NULL,
  failure       BOOLEAN NOT NULL, -- the cause is one: the error log shows it
  up            BIGINT  NOT NULL,
  down          BIGINT  NOT NULL
);
CREATE INDEX audit_by_time ON audit (operator_id, at, id);
CREATE INDEX audit_by_imsi ON audit (operator_id, imsi, at, id);
CREATE INDEX audit_failures ON audit (operator_id, at, id) WHERE failure;
CREATE INDEX audit_created ON audit (entry_id) WHERE type = 'CREATED';

-- Bytes of audit records that an operator has read, by month.
CREATE TABLE audit_exports (
  operator_id TEXT   NOT NULL,
  month       TEXT   NOT NULL, -- YYYYMM
  bytes       BIGINT NOT NULL,
  PRIMARY KEY (operator_id, month)
);

CREATE TABLE contracts (
  operator_id TEXT   NOT NULL,
  name        TEXT   NOT NULL,
  created     BIGINT NOT NULL,
  PRIMARY KEY (operator_id, name)
);

-- +goose Down
DROP TABLE contracts;
DROP TABLE audit_exports;
DROP TABLE audit;
