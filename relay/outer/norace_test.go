//go:build !race

package outer

const raceDetector = false
