package soak

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/simreach/simreach/bench/process"
)

// watched is a process that answers GET /metrics.
type watched struct {
	*process.Process
	metrics string // URL
}

// sample is what a process holds at one time.
type sample struct {
	at         time.Time
	rss        float64 // bytes
	files      int
	goroutines int
}

// sample asks the process, and proc(5).
func (p *watched) sample(ctx context.Context, c *http.Client) (sample, error) {
	s := sample{at: time.Now()}
	cost, err := process.CostOf(p.Process)
	if err != nil {
		return s, err
	}
	s.files = cost.Files
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.metrics, nil)
	if err != nil {
		return s, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return s, fmt.Errorf("%s: %w", p.Name(), err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		switch v, err := strconv.ParseFloat(value, 64); {
		case err != nil:
		case name == "go_goroutines":
			s.goroutines = int(v)
		case name == "process_resident_memory_bytes":
			s.rss = v
		}
	}
	if err := lines.Err(); err != nil {
		return s, fmt.Errorf("%s: %w", p.Name(), err)
	}
	if s.goroutines == 0 || s.rss == 0 {
		return s, fmt.Errorf("%s: no metrics of the process", p.Name())
	}
	return s, nil
}
