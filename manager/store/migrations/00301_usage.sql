-- +goose Up
CREATE TABLE sim_sessions (
  id          TEXT   PRIMARY KEY, -- also the charging reference
  charging_id TEXT   NOT NULL UNIQUE,
  imsi        TEXT   NOT NULL,
  pdu_session BIGINT NOT NULL,
  sequence    BIGINT NOT NULL, -- of the invocation applied last
  updated     BIGINT NOT NULL,
  ended       BIGINT NOT NULL, -- 0: it exists
  doc         TEXT   NOT NULL
);
CREATE INDEX sim_sessions_by_sim ON sim_sessions (imsi, ended);
CREATE INDEX sim_sessions_by_age ON sim_sessions (ended, updated);

CREATE TABLE sim_session_events (
  id   TEXT   PRIMARY KEY,
  imsi TEXT   NOT NULL,
  at   BIGINT NOT NULL,
  doc  TEXT   NOT NULL
);
CREATE INDEX sim_session_events_by_sim ON sim_session_events (imsi, id);
CREATE INDEX sim_session_events_by_time ON sim_session_events (at);

CREATE TABLE sim_usage (
  subject      TEXT   NOT NULL, -- an IMSI, or the ID of a group or an operator
  period       TEXT   NOT NULL,
  bin          BIGINT NOT NULL, -- its start
  speed_class  TEXT   NOT NULL,
  up           BIGINT NOT NULL, -- octets
  down         BIGINT NOT NULL,
  up_packets   BIGINT NOT NULL,
  down_packets BIGINT NOT NULL,
  PRIMARY KEY (subject, period, bin, speed_class)
);
CREATE INDEX sim_usage_by_time ON sim_usage (period, bin);

-- +goose Down
DROP TABLE sim_usage;
DROP TABLE sim_session_events;
DROP TABLE sim_sessions;
