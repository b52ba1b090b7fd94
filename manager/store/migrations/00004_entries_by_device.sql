-- +goose Up
CREATE INDEX entries_by_imsi ON entries (imsi, id);
CREATE INDEX entries_by_sim ON entries (sim_id, id) WHERE sim_id <> '';

-- +goose Down
DROP INDEX entries_by_sim;
DROP INDEX entries_by_imsi;
