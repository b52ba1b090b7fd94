package result

import (
	"fmt"
	"io"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	barWidth   = 9 * vg.Millimeter / 4
	groupWidth = 34 * vg.Millimeter
	plotHeight = 110 * vg.Millimeter
)

// WritePlot draws the ratios to the base as an SVG, a group of bars for each case and
// metric, a bar for each variant. A report without a base has nothing to draw, which
// is an error.
func (r Report) WritePlot(w io.Writer) error {
	var groups, variants []string
	ratios := map[string]map[string]float64{}
	for _, row := range r.Rows {
		if row.RatioToBase == 0 {
			continue
		}
		g := row.Case + "\n" + row.Metric
		if ratios[g] == nil {
			ratios[g] = map[string]float64{}
			groups = append(groups, g)
		}
		ratios[g][row.Variant] = row.RatioToBase
		if !slices.Contains(variants, row.Variant) {
			variants = append(variants, row.Variant)
		}
	}
	if len(groups) == 0 {
		return fmt.Errorf("plot of %s: no ratio to a base", r.Bench)
	}
	p := plot.New()
	p.Title.Text = fmt.Sprintf("%s: ratio to the base of the same round (%d rounds, %s)", r.Bench, r.Rounds, r.Date.Format("2006-01-02"))
	p.Y.Label.Text = "× base"
	p.Y.Min = 0
	p.Legend.Top = true
	for i, v := range variants {
		values := make(plotter.Values, len(groups))
		for j, g := range groups {
			values[j] = ratios[g][v]
		}
		bars, err := plotter.NewBarChart(values, barWidth)
		if err != nil {
			return fmt.Errorf("plot of %s: %w", r.Bench, err)
		}
		bars.Color = plotutil.Color(i)
		bars.LineStyle.Width = 0
		bars.Offset = barWidth * vg.Length(2*i-len(variants)+1) / 2
		p.Add(bars)
		p.Legend.Add(v, bars)
	}
	p.NominalX(groups...)
	c := vgsvg.New(groupWidth*vg.Length(len(groups)), plotHeight)
	p.Draw(draw.New(c))
	if _, err := c.WriteTo(w); err != nil {
		return fmt.Errorf("plot of %s: %w", r.Bench, err)
	}
	return nil
}
