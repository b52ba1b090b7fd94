package manager

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/oklog/ulid/v2"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/manager/api"
)

const (
	askers = 64 // questions at one time in resolve-max
	// answerTimeout is an outer relay's, unless it is configured otherwise.
	answerTimeout = 5 * time.Second
	logins        = 4 // at one time
	auditBatch    = 1000
	longest       = int64(10 * time.Second / time.Microsecond)
)

// figures are what a case measured.
type figures struct {
	done    int64 // what was answered
	failed  int64
	first   error // of the failures
	took    time.Duration
	latency *hdrhistogram.Histogram // of what was answered, in microseconds
}

// tally collects figures of several goroutines.
type tally struct {
	mu sync.Mutex // guards f
	f  figures
}

func newTally() *tally {
	return &tally{f: figures{latency: hdrhistogram.New(1, longest, 3)}}
}

func (t *tally) note(n int64, took time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		if t.f.failed++; t.f.first == nil {
			t.f.first = err
		}
		return
	}
	t.f.done += n
	// It records all that is in its range, and this is.
	_ = t.f.latency.RecordValue(min(max(took.Microseconds(), 1), longest))
}

// closed has workers do one thing after another for a time.
func closed(ctx context.Context, workers int, length time.Duration, n int64, f func(ctx context.Context, worker, i int) error) (figures, error) {
	ending, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	t := newTally()
	var wg sync.WaitGroup
	begin := time.Now()
	for w := range workers {
		wg.Go(func() {
			for i := 0; ending.Err() == nil; i++ {
				// Not with ending: what was begun is finished and counted.
				start := time.Now()
				err := f(ctx, w, i)
				t.note(n, time.Since(start), err)
			}
		})
	}
	wg.Wait()
	t.f.took = time.Since(begin)
	return t.f, ctx.Err()
}

// question is about the i-th of all entries in an order that jumps about, of a relay.
func (b *bench) question(i int) (relay int, q manager.ResolveRequest) {
	k := b.entries[i*7919%len(b.entries)]
	return k.relay, manager.ResolveRequest{
		ConnectionID: "bench", Hit: k.hit, Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 40000),
	}
}

func (b *bench) resolveMax(ctx context.Context, length time.Duration) (figures, error) {
	var next atomic.Int64
	return closed(ctx, askers, length, 1, func(ctx context.Context, _, _ int) error {
		relay, q := b.question(int(next.Add(1)))
		_, err := b.fleet.outer[relay].Resolve(ctx, q)
		return err
	})
}

// resolveAt asks so many times a second, whether or not earlier questions were answered,
// and as an outer relay does: woken by a descriptor, as by a client's connection, and
// without a goroutine that waits for the answer.
func (b *bench) resolveAt(ctx context.Context, rate int, length time.Duration) (figures, error) {
	t := newTally()
	var wg sync.WaitGroup
	begin := time.Now()
	asked := 0
	err := paced(ctx, rate, length, func() {
		relay, q := b.question(asked)
		asked++
		wg.Add(1)
		start := time.Now()
		b.fleet.outer[relay].Ask(q, "", start.Add(answerTimeout), func(_ manager.Route, err error) {
			t.note(1, time.Since(start), err)
			wg.Done()
		})
	})
	wg.Wait()
	t.f.took = time.Since(begin)
	return t.f, err
}

// create makes entries by REST, which are on disk and open at a relay when it answers.
func (b *bench) create(ctx context.Context, length time.Duration) (figures, error) {
	var next atomic.Int64
	hours := manager.MaxDuration.Seconds()
	return closed(ctx, restClients, length, 1, func(ctx context.Context, _, _ int) error {
		device := imsi(int(next.Add(1)) * 7919 % b.size.subscribers)
		_, err := b.clients.api.Create(ctx, api.CreateRequest{
			Destination: &api.Destination{IMSI: string(device), Port: devicePort}, Duration: &hours, Source: &api.Source{IPRanges: []string{ranges[0].String()}},
		})
		return err
	})
}

// login authenticates by key, as a program does before each of its calls.
func (b *bench) login(ctx context.Context, length time.Duration) (figures, error) {
	return closed(ctx, logins, length, 1, func(ctx context.Context, _, _ int) error {
		_, err := b.clients.api.Login(ctx, b.clients.auth())
		return err
	})
}

// audit hands in the records of connections, each relay one batch after another. They
// are on disk when that is answered.
func (b *bench) audit(ctx context.Context, length time.Duration) (figures, error) {
	types := []manager.AuditType{manager.AuditAccess, manager.AuditConnected, manager.AuditClosed}
	return closed(ctx, outerRelays, length, auditBatch, func(ctx context.Context, relay, i int) error {
		batch := make([]manager.AuditRecord, auditBatch)
		var connection string
		for j := range batch {
			if j%len(types) == 0 {
				connection = ulid.Make().String()
			}
			k := b.entries[((i*auditBatch+j)/len(types)*outerRelays+relay)%len(b.entries)]
			batch[j] = manager.AuditRecord{
				ID: ulid.Make().String(), Type: types[j%len(types)], At: time.Now(), OperatorID: operator, EntryID: k.id, ConnectionID: connection,
				IMSI: k.imsi, RelayID: relayID(relay), Source: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(j)}), 40000),
				Destination: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), devicePort), DevicePort: devicePort,
			}
			if batch[j].Type == manager.AuditClosed {
				batch[j].Cause, batch[j].Up, batch[j].Down = manager.CauseClosed, 100, 1000
			}
		}
		return b.fleet.outer[relay].AddAudit(ctx, batch)
	})
}
