package result

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// Better says which way a metric is good.
type Better string

// Directions.
const (
	Higher Better = "higher"
	Lower  Better = "lower"
)

// Machine is where a report was made.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

// Row is one metric of one variant in one case. The ratios are medians of the ratios
// of each round, so that what disturbs a whole round disturbs both sides of them.
type Row struct {
	Case            string  `json:"case"`
	Variant         string  `json:"variant"`
	Metric          string  `json:"metric"`
	Unit            string  `json:"unit"`
	Better          Better  `json:"better"`
	Median          float64 `json:"median"`
	Min             float64 `json:"min"`
	Max             float64 `json:"max"`
	RatioToBase     float64 `json:"ratio_to_base,omitempty"`      // 0: there is no base
	RatioToBestPeer float64 `json:"ratio_to_best_peer,omitempty"` // of ours only
}

// Report is what a bench command prints.
type Report struct {
	Bench   string    `json:"bench"`
	Machine Machine   `json:"machine"`
	Date    time.Time `json:"date"`
	Rounds  int       `json:"rounds"`
	Absent  []string  `json:"absent"` // peers that are not installed
	Notes   []string  `json:"notes,omitempty"`
	Rows    []Row     `json:"rows"`
}

// Metric is one thing that a case measures.
type Metric struct {
	Name, Unit string
	Better     Better
}

// Samples collects what the rounds measured: by case, metric and variant, one value
// for each round. A variant that could not be measured in a round has none for it.
type Samples struct {
	cases  []string
	values map[string]map[Metric]map[string]map[int]float64
	order  map[string][]Metric
}

// NewSamples returns an empty collection.
func NewSamples() *Samples {
	return &Samples{values: map[string]map[Metric]map[string]map[int]float64{}, order: map[string][]Metric{}}
}

// Add keeps what a variant measured in a round of a case.
func (s *Samples) Add(round int, name string, m Metric, variant string, v float64) {
	if s.values[name] == nil {
		s.values[name] = map[Metric]map[string]map[int]float64{}
		s.cases = append(s.cases, name)
	}
	if s.values[name][m] == nil {
		s.values[name][m] = map[string]map[int]float64{}
		s.order[name] = append(s.order[name], m)
	}
	if s.values[name][m][variant] == nil {
		s.values[name][m][variant] = map[int]float64{}
	}
	s.values[name][m][variant][round] = v
}

// Rows turns the samples into rows. base, ours and peers are names of variants; base
// may be one of the peers.
func (s *Samples) Rows(variants []string, base, ours string, peers ...string) []Row {
	var out []Row
	for _, c := range s.cases {
		for _, m := range s.order[c] {
			by := s.values[c][m]
			for _, v := range variants {
				got := by[v]
				if len(got) == 0 {
					continue
				}
				all := sorted(got)
				r := Row{
					Case: c, Variant: v, Metric: m.Name, Unit: m.Unit, Better: m.Better,
					Median: median(all), Min: all[0], Max: all[len(all)-1], RatioToBase: medianRatio(got, by[base]),
				}
				if v == ours {
					r.RatioToBestPeer = toBestPeer(by, ours, peers, m.Better)
				}
				out = append(out, r)
			}
		}
	}
	return out
}

// toBestPeer returns our ratio to the peer whose median is the best.
func toBestPeer(by map[string]map[int]float64, ours string, peers []string, better Better) float64 {
	best, found := "", 0.0
	for _, v := range peers {
		if len(by[v]) == 0 {
			continue
		}
		m := median(sorted(by[v]))
		if best == "" || (better == Higher) == (m > found) {
			best, found = v, m
		}
	}
	if best == "" {
		return 0
	}
	return medianRatio(by[ours], by[best])
}

// medianRatio returns the median over the rounds of a/b; 0 if no round has both.
func medianRatio(a, b map[int]float64) float64 {
	var ratios []float64
	for round, v := range a {
		if w, ok := b[round]; ok && w != 0 {
			ratios = append(ratios, v/w)
		}
	}
	if len(ratios) == 0 {
		return 0
	}
	slices.Sort(ratios)
	return median(ratios)
}

func sorted(m map[int]float64) []float64 {
	var out []float64
	for _, v := range m {
		out = append(out, v)
	}
	slices.Sort(out)
	return out
}

// median of sorted values, of which there is at least one.
func median(v []float64) float64 {
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// ThisMachine describes the machine that the program runs on.
func ThisMachine() Machine {
	m := Machine{CPU: "unknown", Cores: runtime.NumCPU(), Kernel: "unknown", Go: runtime.Version()}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				m.CPU = strings.TrimSpace(v)
				break
			}
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return m
}

// WriteJSON writes the report as one object.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteTable writes the report for people.
func (r Report) WriteTable(w io.Writer) error {
	fmt.Fprintf(w, "%s, %d interleaved rounds, %s: %s, %d cores, kernel %s, %s\n\n",
		r.Bench, r.Rounds, r.Date.Format("2006-01-02"), r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "case\tmetric\tvariant\tmedian\t(min to max)\tx base\tx best peer\tbetter")
	last := ""
	for _, row := range r.Rows {
		name, what := row.Case, row.Metric
		if key := name + "\x00" + what; key == last {
			name, what = "", ""
		} else {
			last = key
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s %s\t(%s to %s)\t%s\t%s\t%s\n", name, what, row.Variant,
			number(row.Median), row.Unit, number(row.Min), number(row.Max), ratio(row.RatioToBase), ratio(row.RatioToBestPeer), row.Better)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(r.Absent) > 0 {
		fmt.Fprintf(w, "\nnot installed, so not measured: %s\n", strings.Join(r.Absent, ", "))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
	return nil
}

func number(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func ratio(v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", v)
}
