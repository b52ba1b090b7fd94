-- +goose Up
CREATE TABLE accounts (
  operator_id  TEXT   NOT NULL,
  user_name    TEXT   NOT NULL, -- '': the root user
  email        TEXT   NOT NULL, -- '' unless of a root user
  description  TEXT   NOT NULL,
  password     TEXT   NOT NULL, -- argon2id; '': none
  permission   TEXT   NOT NULL, -- JSON; '': none. Of a root user: the default of the SAM users
  trust_policy TEXT   NOT NULL, -- JSON; '': none
  mfa_status   TEXT   NOT NULL,
  mfa_secret   TEXT   NOT NULL,
  mfa_backups  TEXT   NOT NULL, -- separated by spaces
  mfa_step     BIGINT NOT NULL,
  generation   BIGINT NOT NULL,
  created      BIGINT NOT NULL,
  updated      BIGINT NOT NULL,
  PRIMARY KEY (operator_id, user_name)
);
CREATE UNIQUE INDEX accounts_by_email ON accounts (email) WHERE email <> '';

CREATE TABLE auth_keys (
  id          TEXT    PRIMARY KEY,
  operator_id TEXT    NOT NULL,
  user_name   TEXT    NOT NULL,
  hash        TEXT    NOT NULL,
  created     BIGINT  NOT NULL,
  last_used   BIGINT  NOT NULL, -- 0: never
  deleted     BOOLEAN NOT NULL  -- kept, so that the configuration does not bring it back
);
CREATE INDEX auth_keys_by_owner ON auth_keys (operator_id, user_name);

CREATE TABLE roles (
  operator_id TEXT   NOT NULL,
  id          TEXT   NOT NULL,
  description TEXT   NOT NULL,
  permission  TEXT   NOT NULL,
  created     BIGINT NOT NULL,
  updated     BIGINT NOT NULL,
  PRIMARY KEY (operator_id, id)
);

CREATE TABLE user_roles (
  operator_id TEXT NOT NULL,
  user_name   TEXT NOT NULL,
  role_id     TEXT NOT NULL,
  PRIMARY KEY (operator_id, user_name, role_id)
);
CREATE INDEX user_roles_by_role ON user_roles (operator_id, role_id);

-- Tokens that were given back before they ended.
CREATE TABLE revoked_tokens (
  id          TEXT   PRIMARY KEY,
  operator_id TEXT   NOT NULL,
  user_name   TEXT   NOT NULL,
  expires     BIGINT NOT NULL
);
CREATE INDEX revoked_tokens_by_user ON revoked_tokens (operator_id, user_name);
CREATE INDEX revoked_tokens_by_end ON revoked_tokens (expires);

CREATE TABLE messages (
  id          TEXT   PRIMARY KEY,
  operator_id TEXT   NOT NULL,
  recipient   TEXT   NOT NULL,
  kind        TEXT   NOT NULL,
  token       TEXT   NOT NULL,
  digest      TEXT   NOT NULL,
  created     BIGINT NOT NULL,
  expires     BIGINT NOT NULL
);
CREATE UNIQUE INDEX messages_by_digest ON messages (digest);
CREATE INDEX messages_by_operator ON messages (operator_id, id);

CREATE TABLE api_calls (
  id          TEXT   PRIMARY KEY,
  operator_id TEXT   NOT NULL,
  user_name   TEXT   NOT NULL,
  api         TEXT   NOT NULL,
  path        TEXT   NOT NULL,
  status      BIGINT NOT NULL,
  source      TEXT   NOT NULL,
  at          BIGINT NOT NULL
);
CREATE INDEX api_calls_by_operator ON api_calls (operator_id, id);

-- +goose Down
DROP TABLE api_calls;
DROP TABLE messages;
DROP TABLE revoked_tokens;
DROP TABLE user_roles;
DROP TABLE roles;
DROP TABLE auth_keys;
DROP TABLE accounts;
