package manager

import (
	"context"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// SIMStore keeps SIMs and what belongs to them. All methods may be called from any
// goroutine; each is one transaction. Errors that are not named are faults of the
// engine.
type SIMStore interface {
	// SeedSIMs adds those of sims whose IMSI and SIM ID are not there yet and returns
	// how many it added. Their first status goes into the history.
	SeedSIMs(ctx context.Context, sims []SIM) (int, error)
	// SIMByIMSI and SIMByID return one SIM. ErrNotFound.
	SIMByIMSI(ctx context.Context, imsi ident.IMSI) (SIM, error)
	SIMByID(ctx context.Context, id string) (SIM, error)
	// UpdateSIM has change make of a SIM what it shall be, and stores that. change may
	// run more than once, on fresh copies; its error aborts and is returned. A change
	// that CoreDiffers sees makes the SIM dirty with a new Version; a new status goes
	// into the history. It returns the SIM before and after. ErrNotFound; ErrNoGroup, with
	// the SIM as it would have been, if it was put into a group that its operator does not
	// have.
	UpdateSIM(ctx context.Context, imsi ident.IMSI, change func(*SIM) error) (before, after SIM, err error)
	// SIMs lists what q selects.
	SIMs(ctx context.Context, q SIMQuery) ([]SIM, error)
	// CountSIMs counts an operator's SIMs by status.
	CountSIMs(ctx context.Context, op OperatorID) (map[SIMStatus]int, error)
	// DirtySIMs returns up to limit SIMs that the core must learn of, after an IMSI.
	DirtySIMs(ctx context.Context, after ident.IMSI, limit int) ([]SIM, error)
	// SupervisedSIMs returns up to limit SIMs that are Supervised, after an IMSI.
	SupervisedSIMs(ctx context.Context, after ident.IMSI, limit int) ([]SIM, error)
	// MarkSynced says that the core has learnt a SIM's version. When the SIM has
	// another version by now it becomes dirty: the core may have learnt the older one
	// after the newer one.
	MarkSynced(ctx context.Context, imsi ident.IMSI, version int64) error
	// MarkDirty says that the core does not have what it should.
	MarkDirty(ctx context.Context, imsi ident.IMSI) error
	// NotePortMappings says when entries were made for devices. Earlier times than what
	// is stored, and devices without a SIM, change nothing.
	NotePortMappings(ctx context.Context, at map[ident.IMSI]time.Time) error
	// ExpiringSIMs returns up to limit SIMs whose expiry time has come at now and whose
	// action has not been taken.
	ExpiringSIMs(ctx context.Context, now time.Time, limit int) ([]SIM, error)
	// StatusHistory lists a SIM's changes of status.
	StatusHistory(ctx context.Context, q RecordQuery) ([]StatusRecord, error)

	ChargingStore
	GroupStore
	HandlerStore
}

// SIMQuery selects SIMs of one operator in ascending order of IMSI, or of SIM ID.
// All conditions hold at the same time unless Any is set, which concerns Terms only.
type SIMQuery struct {
	OperatorID OperatorID
	BySIMID    bool   // order by SIM ID, and leave out what has none
	After      string // an IMSI or SIM ID; empty: from the first
	Limit      int    // 0: all

	TagName, TagValue string // TagName empty: any
	TagPrefix         bool   // TagValue is the beginning of the value
	Statuses          []SIMStatus
	SpeedClasses      []SpeedClass
	Serials           []string
	GroupID           GroupID // empty: any
	Online            *bool
	Terms             []SearchTerm
	Any               bool // one of Terms suffices
}

// SearchTerm is one condition of a search: the field contains one of the values,
// regardless of case.
type SearchTerm struct {
	Field  SearchField
	Values []string
}

// SearchField is what a SearchTerm looks at.
type SearchField string

// Search fields.
const (
	SearchName         SearchField = "name"
	SearchGroup        SearchField = "group" // the group's name
	SearchGroupID      SearchField = "group_id"
	SearchSIMID        SearchField = "sim_id"
	SearchIMSI         SearchField = "imsi"
	SearchMSISDN       SearchField = "msisdn"
	SearchICCID        SearchField = "iccid"
	SearchSerial       SearchField = "serial_number"
	SearchTag          SearchField = "tag" // names and values of tags
	SearchBundles      SearchField = "bundles"
	SearchStatus       SearchField = "status"
	SearchSubscription SearchField = "subscription"
	SearchModuleType   SearchField = "module_type"
)

// RecordQuery selects records of one SIM by time.
type RecordQuery struct {
	IMSI       ident.IMSI
	From, To   time.Time // both inclusive; zero: unbounded
	After      string    // the ID of the record before the page; empty: from the start
	Limit      int       // 0: all
	Descending bool      // newest first
}

// ChargingStore keeps sessions and usage.
type ChargingStore interface {
	// ApplyCharging applies reports in their order, each exactly once, and returns an
	// outcome for each.
	ApplyCharging(ctx context.Context, reports []ChargingReport) ([]ChargingOutcome, error)
	// StaleSessions returns up to limit sessions that exist and were last heard of
	// before t.
	StaleSessions(ctx context.Context, t time.Time, limit int) ([]LiveSession, error)
	// TouchSession says that a session was seen at a time.
	TouchSession(ctx context.Context, id string, at time.Time) error
	// EndSession ends a session that the core no longer knows, as a release without
	// usage does. An unknown or ended one gives a zero outcome.
	EndSession(ctx context.Context, id string, at time.Time) (ChargingOutcome, error)
	// SessionRecords lists a SIM's session events.
	SessionRecords(ctx context.Context, q RecordQuery) ([]SessionRecord, error)
	// Usage lists bins of a subject in the order of time.
	Usage(ctx context.Context, q UsageQuery) ([]UsageBin, error)
	// UsageTotal sums what a subject used in bins of a period that start at a time, or
	// in all of its time for PeriodAll.
	UsageTotal(ctx context.Context, subject string, p Period, start time.Time) (Usage, error)
	// TrafficRanking returns the SIMs of an operator with the most traffic (the least
	// with ascending) in days from one to another, both inclusive.
	TrafficRanking(ctx context.Context, op OperatorID, from, to time.Time, limit int, ascending bool) ([]Ranked, error)
	// PurgeUsage forgets session events, ended sessions and 5-minute bins from before
	// `fine`, and bins of days from before `coarse`.
	PurgeUsage(ctx context.Context, fine, coarse time.Time) error
}

// ReportKind is which operation of the charging service brought a report.
type ReportKind uint8

// Kinds of charging reports.
const (
	ChargingCreate ReportKind = iota + 1
	ChargingUpdate
	ChargingRelease
)

// ChargingReport is one invocation of the charging service for the store.
type ChargingReport struct {
	Kind       ReportKind
	Ref        string // the session; for Create the ID that a new one gets
	ChargingID string
	Sequence   uint32
	IMSI       ident.IMSI
	Status     SessionStatus // ID is ignored
	At         time.Time     // when what was used was used; bins are chosen by it
	Used       Usage
}

// ChargingOutcome is what became of a report.
type ChargingOutcome struct {
	Ref     string // the session's; empty: an unknown one
	Known   bool   // the IMSI is a SIM's; Before and After are set
	Repeat  bool   // it had been applied before; nothing changed
	Before  SIM
	After   SIM
	Counted Usage // what was added
	Event   SessionEventKind
}

// LiveSession is a session that exists.
type LiveSession struct {
	ID      string
	IMSI    ident.IMSI
	Session ident.PDUSessionID
	Updated time.Time
}

// Usage is an amount of traffic: octets of IP packets, and packets.
type Usage struct {
	Up, Down               uint64
	UpPackets, DownPackets uint64
}

// Add returns the sum.
func (u Usage) Add(o Usage) Usage {
	return Usage{u.Up + o.Up, u.Down + o.Down, u.UpPackets + o.UpPackets, u.DownPackets + o.DownPackets}
}

// Total returns the octets both ways.
func (u Usage) Total() uint64 { return u.Up + u.Down }

// Period is the length of a usage bin.
type Period string

// Periods. Days and months are those of UTC.
const (
	PeriodMinutes Period = "minutes" // 5 minutes
	PeriodDay     Period = "day"
	PeriodMonth   Period = "month"
	PeriodAll     Period = "all" // since the SIM was registered
)

// Start returns the start of the bin that t is in.
func (p Period) Start(t time.Time) time.Time {
	t = t.UTC()
	switch p {
	case PeriodMinutes:
		return t.Truncate(5 * time.Minute)
	case PeriodDay:
		return t.Truncate(24 * time.Hour)
	case PeriodMonth:
		return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
	}
	return time.Unix(0, 0).UTC()
}

// UsageQuery selects bins. A subject is an IMSI, a group's ID or an operator's ID.
type UsageQuery struct {
	Subject  string
	Period   Period
	From, To time.Time // starts of bins, both inclusive
}

// UsageBin is what a subject used in one bin at one speed class.
type UsageBin struct {
	Start      time.Time
	SpeedClass SpeedClass
	Usage
}

// Ranked is a SIM's place in a traffic ranking.
type Ranked struct {
	IMSI   ident.IMSI
	Volume uint64 // octets both ways
}
