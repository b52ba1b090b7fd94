package result

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	barWidth    = 6 * vg.Millimeter
	groupWidth  = 40 * vg.Millimeter
	panelHeight = 80 * vg.Millimeter
	margin      = 4 * vg.Millimeter
	valueSize   = vg.Length(7)
	labelWidth  = 20 // characters of a line under a group
	// mostRatio bounds what is drawn: beyond, the base is next to nothing, and bars of such
	// a height would hide all others.
	mostRatio = 10
)

// group is a case and a metric in the plot, with a bar for each variant.
type group struct {
	label  string
	ratios map[string]float64
}

// groups returns what there is to compare in one direction: each row as a ratio to the
// base, or to the first variant that has a value where the base has none. Of those that
// no bar is for it returns what they are, as text.
func (r Report) groups(b Better) (out []group, others []string) {
	type key struct{ name, metric string }
	var keys []key
	rows := map[key][]Row{}
	for _, row := range r.Rows {
		k := key{row.Case, row.Metric}
		if row.Better != b {
			continue
		}
		if rows[k] == nil {
			keys = append(keys, k)
		}
		rows[k] = append(rows[k], row)
	}
	for _, k := range keys {
		g := group{ratios: map[string]float64{}}
		base := slices.IndexFunc(rows[k], func(row Row) bool { return row.RatioToBase != 0 })
		if base < 0 {
			base = slices.IndexFunc(rows[k], func(row Row) bool { return row.Median > 0 })
		}
		if base < 0 || len(rows[k]) < 2 {
			continue
		}
		first := rows[k][base]
		highest, values := 0.0, make([]string, len(rows[k]))
		for i, row := range rows[k] {
			ratio := row.RatioToBase
			if first.RatioToBase == 0 {
				ratio = row.Median / first.Median
			}
			g.ratios[row.Variant], highest = ratio, max(highest, ratio)
			values[i] = fmt.Sprintf("%s %s %s", row.Variant, number(row.Median), row.Unit)
		}
		if highest > mostRatio {
			others = append(others, fmt.Sprintf("%s, %s: %s", k.name, k.metric, strings.Join(values, ", ")))
			continue
		}
		g.label = fmt.Sprintf("%s\n%s\n(1 = %s)", k.name, wrap(k.metric), first.Variant)
		out = append(out, g)
	}
	return out, others
}

// wrap breaks s between words into lines of labelWidth.
func wrap(s string) string {
	var b strings.Builder
	line := 0
	for i, word := range strings.Fields(s) {
		switch {
		case i == 0:
		case line+1+len(word) > labelWidth:
			b.WriteByte('\n')
			line = 0
		default:
			b.WriteByte(' ')
			line++
		}
		b.WriteString(word)
		line += len(word)
	}
	return b.String()
}

// WritePlot draws the report as an SVG: what is better when it is higher above what is
// better when it is lower, a group of bars for each case and metric, a bar for each
// variant, as ratios. What is many times the base is written under the bars instead. A
// report without a comparison has nothing to draw, which is an error.
func (r Report) WritePlot(w io.Writer) error {
	var variants []string
	for _, row := range r.Rows {
		if !slices.Contains(variants, row.Variant) {
			variants = append(variants, row.Variant)
		}
	}
	var panels []*plot.Plot
	var notes []string // under them
	most := 0
	for _, b := range []Better{Higher, Lower} {
		gs, others := r.groups(b)
		if len(gs) == 0 {
			continue
		}
		p, err := panel(gs, variants)
		if err != nil {
			return fmt.Errorf("plot of %s: %w", r.Bench, err)
		}
		p.Title.Text = fmt.Sprintf("%s, %d rounds, %s: %s is better", r.Bench, r.Rounds, r.Date.Format("2006-01-02"), b)
		note := ""
		if len(others) > 0 {
			note = fmt.Sprintf("no bars for what is more than %d times the base: %s", mostRatio, strings.Join(others, "; "))
		}
		notes = append(notes, note)
		panels, most = append(panels, p), max(most, len(gs))
	}
	if len(panels) == 0 {
		return fmt.Errorf("plot of %s: nothing to compare", r.Bench)
	}
	width, height := groupWidth*vg.Length(most+1)+2*margin, (panelHeight+2*margin)*vg.Length(len(panels))
	c := vgsvg.New(width, height)
	whole := draw.New(c)
	for i, p := range panels {
		p.X.Max = float64(most) + 0.5 // the legend has the room of a group
		top := height - (panelHeight+2*margin)*vg.Length(i)
		p.Draw(draw.Canvas{Canvas: whole.Canvas, Rectangle: vg.Rectangle{
			Min: vg.Point{X: margin, Y: top - panelHeight - margin}, Max: vg.Point{X: width - margin, Y: top - margin},
		}})
		style := p.X.Tick.Label
		style.XAlign, style.YAlign = text.XLeft, text.YBottom
		whole.FillText(style, vg.Point{X: margin, Y: top - panelHeight - 1.6*margin}, notes[i])
	}
	if _, err := c.WriteTo(w); err != nil {
		return fmt.Errorf("plot of %s: %w", r.Bench, err)
	}
	return nil
}

// panel draws groups beside each other, with a number on each bar.
func panel(gs []group, variants []string) (*plot.Plot, error) {
	p := plot.New()
	p.Y.Min = 0
	p.Legend.Top, p.Legend.Padding, p.Legend.XOffs = true, margin/2, -margin
	var names []string
	highest := 0.0
	for _, g := range gs {
		names = append(names, g.label)
		for _, v := range g.ratios {
			highest = max(highest, v)
		}
	}
	for i, v := range variants {
		offset := barWidth * vg.Length(2*i-len(variants)+1) / 2
		values := make(plotter.Values, len(gs))
		var numbers plotter.XYLabels
		for j, g := range gs {
			ratio, ok := g.ratios[v]
			if values[j] = ratio; ok {
				numbers.XYs = append(numbers.XYs, plotter.XY{X: float64(j), Y: ratio})
				numbers.Labels = append(numbers.Labels, fmt.Sprintf("%.2f", ratio))
			}
		}
		bars, err := plotter.NewBarChart(values, barWidth)
		if err != nil {
			return nil, err
		}
		bars.Color, bars.Offset = plotutil.Color(i), offset
		bars.LineStyle.Width = 0
		p.Add(bars)
		p.Legend.Add(v, bars)
		labels, err := plotter.NewLabels(numbers)
		if err != nil {
			return nil, err
		}
		labels.Offset = vg.Point{X: offset, Y: valueSize / 4}
		for k := range labels.TextStyle {
			labels.TextStyle[k].Font = font.From(labels.TextStyle[k].Font, valueSize)
			labels.TextStyle[k].XAlign = text.XCenter
		}
		p.Add(labels)
	}
	p.NominalX(names...)
	p.X.Min, p.Y.Max = -0.5, 1.08*highest // room for the numbers
	return p, nil
}
