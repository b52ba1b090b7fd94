// Package audit keeps a relay's audit records until a manager has stored them (N7).
// [Spool.Record] never waits; records go to a log on disk within a
// millisecond and from there, in
// order and at least once, to the manager, which keeps one of each ID.
//
// The log survives the relay's death (SIGKILL): the next process hands over what is
// left, and ends in the log the connections that its predecessor had not ended. What a
// crash of the machine can take is what was recorded since the last sync.
//
// # On disk
//
// In Config.Dir, every process has a slot: a folder with a write-ahead log of
// tidwall/wal and a file beside it, locked while the process lives, so that a relay that
// is finishing its connections and the one that replaces it do not meet. A process takes
// over slots whose owner is gone. An entry of the log is a tag, an audit record (see
// appendRecord) and a CRC-32C. Records that were handed over are removed from the front
// when there are enough of them; those that began a connection which lives on are first
// written again at the end, with another tag.
//
// Goroutines: Run owns three, for writing, syncing and handing over.
package audit
