-- +goose Up
CREATE TABLE event_handlers (
  id          TEXT    PRIMARY KEY,
  operator_id TEXT    NOT NULL,
  kind        TEXT    NOT NULL,
  target      TEXT    NOT NULL,
  active      BOOLEAN NOT NULL,
  created     BIGINT  NOT NULL,
  doc         TEXT    NOT NULL
);
CREATE INDEX event_handlers_by_operator ON event_handlers (operator_id, created, id);
CREATE INDEX event_handlers_by_target ON event_handlers (target);

-- What has fired rests until a time.
CREATE TABLE event_firings (
  handler_id TEXT   NOT NULL,
  subject    TEXT   NOT NULL,
  mark       TEXT   NOT NULL,
  until      BIGINT NOT NULL,
  PRIMARY KEY (handler_id, subject)
);

CREATE TABLE event_ignores (
  handler_id TEXT NOT NULL,
  imsi       TEXT NOT NULL,
  PRIMARY KEY (handler_id, imsi)
);
CREATE INDEX event_ignores_by_sim ON event_ignores (imsi);

CREATE TABLE event_actions (
  id         TEXT   PRIMARY KEY,
  handler_id TEXT   NOT NULL,
  due        BIGINT NOT NULL, -- or until when a manager has claimed it
  attempts   BIGINT NOT NULL,
  doc        TEXT   NOT NULL
);
CREATE INDEX event_actions_by_time ON event_actions (due);
CREATE INDEX event_actions_by_handler ON event_actions (handler_id);

-- +goose Down
DROP TABLE event_actions;
DROP TABLE event_ignores;
DROP TABLE event_firings;
DROP TABLE event_handlers;
