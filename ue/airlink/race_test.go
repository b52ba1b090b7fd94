//go:build race

package airlink

const raceEnabled = true
