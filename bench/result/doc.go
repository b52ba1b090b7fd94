// Package result is what bench commands print: samples of interleaved rounds become
// rows with medians, spread and ratios within a round, as a table, JSON and an SVG
// plot. It runs and measures nothing.
package result
