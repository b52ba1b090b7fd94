// Package manager is `simreach bench manager`: a manager as a process of its own, with
// 50,000 entries and 100,000 subscribers in its store, and what relays and clients ask of
// it, beside what the bare exchange of such messages costs. Relays and clients are in the
// process that measures, on the same machine, and speak to the manager over loopback as
// real ones do: RPC and REST. Everything that was started is ended, and the data is
// removed. It needs no root.
package manager
