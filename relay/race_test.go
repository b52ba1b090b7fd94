//go:build race

package relay

// raced: the race detector allocates by itself.
const raced = true
