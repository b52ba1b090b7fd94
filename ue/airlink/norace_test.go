//go:build !race

package airlink

const raceEnabled = false
