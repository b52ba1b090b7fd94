-- +goose Up
CREATE TABLE credentials (
  id          TEXT   PRIMARY KEY,
  operator_id TEXT   NOT NULL,
  name        TEXT   NOT NULL,
  ca          TEXT   NOT NULL, -- DER, base64
  public_key  TEXT   NOT NULL, -- DER, base64
  created     BIGINT NOT NULL,
  revoked     BIGINT NOT NULL, -- 0: in force
  serials     TEXT   NOT NULL  -- hexadecimal, separated by spaces
);
CREATE INDEX credentials_by_operator ON credentials (operator_id, id);

-- +goose Down
DROP TABLE credentials;
