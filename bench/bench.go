// Package bench has the benchmarks of the whole chain: they build a topology on the
// inproc backend and measure what its users wait for. `make bench` runs them with
// those of the packages. It starts nothing by itself.
package bench
