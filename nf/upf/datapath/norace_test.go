//go:build !race

package datapath

// bulk is what a transfer moves.
const bulk = 50 << 20
