//go:build race

package datapath

// bulk is what a transfer moves; the race detector makes it slow.
const bulk = 8 << 20
