// Package store keeps the manager's state in SQL: in a SQLite file, for one manager,
// or in PostgreSQL, for several. The suite in storetest is what both must pass.
//
// Writes are durable when a method returns. Those that come at one time share a
// transaction, each in a savepoint, so that one sync of the disk serves them all; the
// first of them does the work for the others, in its own goroutine. The package starts
// no goroutine beyond those of database/sql; Watch blocks in its caller's.
//
// # Adding a table
//
// A file in migrations, with the next free number of its area: from 1 entries, keys and
// attachments, from 20 credentials and the audit log, from 40 accounts, from 60 SIMs
// and groups. Types are TEXT, BIGINT and BOOLEAN, bytes are base64 in TEXT, times are
// milliseconds since 1970. Statements use ? for their arguments and only what both
// engines understand; an argument that is not compared with or stored in a column needs
// a CAST on PostgreSQL. Rows are read to their end before the next statement.
package store
