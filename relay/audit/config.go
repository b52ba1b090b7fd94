package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/simreach/simreach/manager"
)

// What to do when MaxBytes of records wait to be handed over.
const (
	// Refuse has the relay turn connections away rather than let them go unaudited.
	Refuse = "refuse"
	// Drop lets connections in and loses records; the manager is told how many.
	Drop = "drop"
)

// Config configures a Spool.
type Config struct {
	// Dir is the folder of the log; it is created if missing. Processes of one relay
	// share it, two relays do not. Empty: a temporary folder, which Run removes: what
	// was not handed over ends with the process.
	Dir string `yaml:"dir"`
	// MaxBytes bounds the records that wait to be handed over; one takes about 200
	// bytes. 0: 256 MiB; at least 64 KiB.
	MaxBytes int64 `yaml:"max_bytes"`
	// OnFull is "refuse" or "drop". Empty: refuse.
	OnFull string `yaml:"on_full"`
	// SyncInterval is how often what was written is made to survive a crash of the
	// machine. 0: 200 ms.
	SyncInterval time.Duration `yaml:"sync_interval"`
	// Batch is how many records are handed over at one time. 0: 1000; at most 10,000.
	Batch int `yaml:"batch"`
	// DrainTimeout is how long Run goes on handing over when it is told to stop. What
	// is left then stays on disk for the next process. 0: 2 s.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}

const minBytes = 64 << 10

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	switch {
	case c.MaxBytes != 0 && c.MaxBytes < minBytes:
		return fmt.Errorf("audit spool: max_bytes %d: want at least %d", c.MaxBytes, minBytes)
	case c.OnFull != "" && c.OnFull != Refuse && c.OnFull != Drop:
		return fmt.Errorf("audit spool: on_full %q: want %s or %s", c.OnFull, Refuse, Drop)
	case c.SyncInterval < 0 || c.DrainTimeout < 0:
		return errors.New("audit spool: times must not be negative")
	case c.Batch < 0 || c.Batch > 10_000:
		return errors.New("audit spool: batch must be from 0 to 10000")
	}
	return nil
}

func (c Config) withDefaults() Config {
	c.MaxBytes = cmp.Or(c.MaxBytes, 256<<20)
	c.OnFull = cmp.Or(c.OnFull, Refuse)
	c.SyncInterval = cmp.Or(c.SyncInterval, 200*time.Millisecond)
	c.Batch = cmp.Or(c.Batch, 1000)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 2*time.Second)
	return c
}

// Sink takes records for good: when AddAudit returns nil they are stored. It is called
// from one goroutine. manager/rpc.Client is one.
type Sink interface {
	AddAudit(ctx context.Context, records []manager.AuditRecord) error
}

// SinkFunc is a function as a Sink.
type SinkFunc func(ctx context.Context, records []manager.AuditRecord) error

// AddAudit implements Sink.
func (f SinkFunc) AddAudit(ctx context.Context, records []manager.AuditRecord) error {
	return f(ctx, records)
}

// Deps is what a Spool needs of the world.
type Deps struct {
	Log   *slog.Logger // nil discards
	Sink  Sink
	Relay manager.RelayID // put into records that name none
	// Metrics gets the spool's metrics for as long as Run runs. nil: none.
	Metrics prometheus.Registerer
}
