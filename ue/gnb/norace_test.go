//go:build !race

package gnb

const raceEnabled = false
