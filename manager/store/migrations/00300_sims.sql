-- +goose Up
CREATE TABLE sims (
  imsi          TEXT    PRIMARY KEY,
  sim_id        TEXT    UNIQUE, -- NULL: known by IMSI only
  operator_id   TEXT    NOT NULL, -- '' for nobody's
  status        TEXT    NOT NULL,
  speed_class   TEXT    NOT NULL,
  group_id      TEXT    NOT NULL, -- '' for none; this counts, not what doc says
  serial_number TEXT    NOT NULL,
  msisdn        TEXT    NOT NULL,
  iccid         TEXT    NOT NULL,
  -- In lower case, for searches.
  name          TEXT    NOT NULL,
  tags          TEXT    NOT NULL, -- a line for each, "name=value"
  bundles       TEXT    NOT NULL, -- a line for each
  subscription  TEXT    NOT NULL,
  module_type   TEXT    NOT NULL,
  online        BOOLEAN NOT NULL,
  supervised    BOOLEAN NOT NULL,
  dirty         BOOLEAN NOT NULL, -- the core must learn of a change
  version       BIGINT  NOT NULL,
  expires       BIGINT  NOT NULL, -- milliseconds since 1970, as all times here; 0: never, or done
  doc           TEXT    NOT NULL  -- JSON of all of it
);
CREATE INDEX sims_by_operator ON sims (operator_id, imsi);
CREATE INDEX sims_by_operator_and_id ON sims (operator_id, sim_id);
CREATE INDEX sims_by_group ON sims (group_id, imsi);
CREATE INDEX sims_dirty ON sims (imsi) WHERE dirty;
CREATE INDEX sims_supervised ON sims (imsi) WHERE supervised;
CREATE INDEX sims_by_expiry ON sims (expires) WHERE expires > 0;

CREATE TABLE sim_tags (
  imsi  TEXT NOT NULL,
  name  TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (imsi, name)
);

CREATE TABLE sim_statuses (
  id     TEXT   PRIMARY KEY,
  imsi   TEXT   NOT NULL,
  at     BIGINT NOT NULL,
  status TEXT   NOT NULL
);
CREATE INDEX sim_statuses_by_sim ON sim_statuses (imsi, id);

CREATE TABLE sim_groups (
  id          TEXT   PRIMARY KEY,
  operator_id TEXT   NOT NULL,
  name        TEXT   NOT NULL, -- in lower case
  doc         TEXT   NOT NULL
);
CREATE INDEX sim_groups_by_operator ON sim_groups (operator_id, id);

-- +goose Down
DROP TABLE sim_groups;
DROP TABLE sim_statuses;
DROP TABLE sim_tags;
DROP TABLE sims;
