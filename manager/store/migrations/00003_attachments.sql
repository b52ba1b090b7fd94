-- +goose Up
CREATE TABLE attachments (
  session    TEXT    PRIMARY KEY,
  manager    TEXT    NOT NULL,
  relay_id   TEXT    NOT NULL,
  kind       BIGINT  NOT NULL, -- 1 outer, 2 inner
  instance   TEXT    NOT NULL,
  address    TEXT    NOT NULL, -- with the port
  first_port BIGINT  NOT NULL,
  last_port  BIGINT  NOT NULL,
  region     TEXT    NOT NULL,
  draining   BOOLEAN NOT NULL,
  sequence   BIGINT  NOT NULL,
  since      BIGINT  NOT NULL,
  seen       BIGINT  NOT NULL,
  live       BIGINT  NOT NULL,
  opened     BIGINT  NOT NULL,
  closed     BIGINT  NOT NULL,
  up         BIGINT  NOT NULL,
  down       BIGINT  NOT NULL,
  rate       BIGINT  NOT NULL
);

-- +goose Down
DROP TABLE attachments;
