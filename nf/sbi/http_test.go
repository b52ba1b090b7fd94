package sbi

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/simreach/simreach/internal/ident"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	cmpAddr = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

	plmn   = ident.PLMN{MCC: "001", MNC: "01"}
	supi   = ident.SUPI("imsi-001010000000001")
	slice1 = ident.SNSSAI{SST: 1, SD: "010203"}
	slice2 = ident.SNSSAI{SST: 2}
	guami  = ident.GUAMI{PLMN: plmn, Region: 2, Set: 0x155, Pointer: 9}
	place  = ident.Location{
		NRCGI: ident.NRCGI{PLMN: plmn, Cell: 0x123456789},
		TAI:   ident.TAI{PLMN: plmn, TAC: 0x0a0b0c},
	}
)

// fake implements every service: it keeps what it was asked and answers out, err.
type fake struct {
	mu   sync.Mutex
	got  []any
	auth AuthenticationContext
	conf Confirmation
	am   AccessMobilityData
	sm   SessionData
	ref  SMContextRef
	upd  UpdatedSMContext
	err  error

	sessions []SessionEvent // that exist, for Subscribe
	silent   bool           // does not call Reported
	notify   map[int]func(SessionEvent)
	next     int
	ended    chan struct{} // receives one for each cancel
}

func (f *fake) keep(args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got = args
	return f.err
}

func (f *fake) Authenticate(_ context.Context, r AuthenticationRequest) (AuthenticationContext, error) {
	return f.auth, f.keep(r)
}
func (f *fake) Confirm(_ context.Context, id string, res []byte) (Confirmation, error) {
	return f.conf, f.keep(id, res)
}
func (f *fake) AccessMobility(_ context.Context, s ident.SUPI) (AccessMobilityData, error) {
	return f.am, f.keep(s)
}
func (f *fake) SessionManagement(_ context.Context, s ident.SUPI, n ident.SNSSAI, d ident.DNN) (SessionData, error) {
	return f.sm, f.keep(s, n, d)
}
func (f *fake) RegisterAMF(_ context.Context, s ident.SUPI, r AMFRegistration) error {
	return f.keep(s, r)
}
func (f *fake) DeregisterAMF(_ context.Context, s ident.SUPI, a NFID) error { return f.keep(s, a) }
func (f *fake) RegisterSMF(_ context.Context, s ident.SUPI, r SMFRegistration) error {
	return f.keep(s, r)
}
func (f *fake) DeregisterSMF(_ context.Context, s ident.SUPI, id ident.PDUSessionID) error {
	return f.keep(s, id)
}
func (f *fake) CreateSMContext(_ context.Context, r CreateSMContext) (SMContextRef, error) {
	return f.ref, f.keep(r)
}
func (f *fake) UpdateSMContext(_ context.Context, ref SMContextRef, r UpdateSMContext) (UpdatedSMContext, error) {
	return f.upd, f.keep(ref, r)
}
func (f *fake) ReleaseSMContext(_ context.Context, ref SMContextRef, c ReleaseCause) error {
	return f.keep(ref, c)
}
func (f *fake) N1N2Transfer(_ context.Context, s ident.SUPI, m N1N2Message) error {
	return f.keep(s, m)
}
func (f *fake) SMContextReleased(_ context.Context, s ident.SUPI, id ident.PDUSessionID) error {
	return f.keep(s, id)
}
func (f *fake) Deregister(_ context.Context, s ident.SUPI, again bool) error { return f.keep(s, again) }
func (f *fake) SetAMBR(_ context.Context, s ident.SUPI, id ident.PDUSessionID, a ident.AMBR) error {
	return f.keep(s, id, a)
}
func (f *fake) Release(_ context.Context, s ident.SUPI, id ident.PDUSessionID) error {
	return f.keep(s, id)
}

func (f *fake) Subscribe(_ context.Context, s EventSubscription, notify func(SessionEvent)) (func(), error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	if s.ImmediateReport {
		for _, e := range f.sessions {
			notify(e)
		}
		if s.Reported != nil && !f.silent {
			s.Reported()
		}
	}
	if f.notify == nil {
		f.notify = make(map[int]func(SessionEvent))
	}
	id := f.next
	f.next++
	f.notify[id] = notify
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.notify, id)
		if f.ended != nil {
			f.ended <- struct{}{}
		}
	}, nil
}

// emit notifies all subscribers, in order.
func (f *fake) emit(events ...SessionEvent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range events {
		for _, n := range f.notify {
			n(e)
		}
	}
}

func (f *fake) services() Services {
	return Services{f, f, f, f, f, f, f, nil, EventLimits{SnapshotWait: 50 * time.Millisecond}}
}

// loopback serves s on a real connection until the test ends.
func loopback(t testing.TB, s Services) (url string) {
	t.Helper()
	url, stop := start(t, "127.0.0.1:0", s)
	t.Cleanup(stop)
	return url
}

// start serves s at address until stop.
func start(t testing.TB, address string, s Services) (url string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := NewServer(ServerConfig{}, ServerDeps{Listener: l, Services: s})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	return "http://" + l.Addr().String(), sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Server.Run: %v", err)
		}
	})
}

func dial(t testing.TB, url string, o ClientOptions) *Client {
	t.Helper()
	c, err := NewClient(url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// calls is every operation of every service with arguments that use every field.
// want is what the implementation must be asked; answer what the caller must get.
var calls = []struct {
	name   string
	call   func(ctx context.Context, c allServices) (any, error)
	want   []any
	answer any // nil for operations without result
}{
	{
		"authenticate",
		func(ctx context.Context, c allServices) (any, error) { return c.Authenticate(ctx, authRequest) },
		[]any{authRequest}, authAnswer,
	},
	{
		"confirm",
		func(ctx context.Context, c allServices) (any, error) { return c.Confirm(ctx, "ctx/1", []byte{1, 2, 3}) },
		[]any{"ctx/1", []byte{1, 2, 3}}, Confirmation{Success: true, SUPI: supi, KSEAF: [32]byte{9, 8}},
	},
	{
		"am-data",
		func(ctx context.Context, c allServices) (any, error) { return c.AccessMobility(ctx, supi) },
		[]any{supi}, AccessMobilityData{
			AMBR: ident.AMBR{Uplink: 1_500_000, Downlink: 2_000_000_000}, DefaultSlices: []ident.SNSSAI{slice1},
			Slices: []ident.SNSSAI{slice1, slice2},
		},
	},
	{
		"sm-data",
		func(ctx context.Context, c allServices) (any, error) {
			return c.SessionManagement(ctx, supi, slice1, "internet")
		},
		[]any{supi, slice1, ident.DNN("internet")}, SessionData{
			Types: []ident.PDUSessionType{ident.IPv6, ident.IPv4}, AMBR: ident.AMBR{Uplink: 1, Downlink: 1_000_001},
			FiveQI: 9, ARPPriority: 8, UEGroup: "east",
			Static: ident.UEAddress{V4: netip.MustParseAddr("10.0.0.7"), V6: netip.MustParsePrefix("2001:db8:1::/64")},
		},
	},
	{
		"register-amf",
		func(ctx context.Context, c allServices) (any, error) {
			return nil, c.RegisterAMF(ctx, supi, AMFRegistration{AMF: "amf-1", GUAMI: guami, PEI: "imei-490154203237518"})
		},
		[]any{supi, AMFRegistration{AMF: "amf-1", GUAMI: guami, PEI: "imei-490154203237518"}}, nil,
	},
	{
		"deregister-amf",
		func(ctx context.Context, c allServices) (any, error) { return nil, c.DeregisterAMF(ctx, supi, "amf-1") },
		[]any{supi, NFID("amf-1")}, nil,
	},
	{
		"register-smf",
		func(ctx context.Context, c allServices) (any, error) {
			return nil, c.RegisterSMF(ctx, supi, SMFRegistration{SMF: "smf-1", Session: 5, SNSSAI: slice1, DNN: "internet", PLMN: plmn})
		},
		[]any{supi, SMFRegistration{SMF: "smf-1", Session: 5, SNSSAI: slice1, DNN: "internet", PLMN: plmn}}, nil,
	},
	{
		"deregister-smf",
		func(ctx context.Context, c allServices) (any, error) { return nil, c.DeregisterSMF(ctx, supi, 5) },
		[]any{supi, ident.PDUSessionID(5)}, nil,
	},
	{
		"create-sm-context",
		func(ctx context.Context, c allServices) (any, error) { return c.CreateSMContext(ctx, createRequest) },
		[]any{createRequest}, SMContextRef("ctx/7 ü"),
	},
	{
		"update-sm-context",
		func(ctx context.Context, c allServices) (any, error) {
			return c.UpdateSMContext(ctx, "ctx/7 ü", UpdateSMContext{N2: []byte{1, 0, 2}, N2Type: N2SetupResponse, Location: &place})
		},
		[]any{SMContextRef("ctx/7 ü"), UpdateSMContext{N2: []byte{1, 0, 2}, N2Type: N2SetupResponse, Location: &place}},
		UpdatedSMContext{N1: []byte("--n1\r\n"), N2: []byte{0}, N2Type: N2ReleaseCommand, UPState: UPActivating},
	},
	{
		"release-sm-context",
		func(ctx context.Context, c allServices) (any, error) {
			return nil, c.ReleaseSMContext(ctx, "7", ReleaseDeregistration)
		},
		[]any{SMContextRef("7"), ReleaseDeregistration}, nil,
	},
	{
		"n1-n2-transfer",
		func(ctx context.Context, c allServices) (any, error) { return nil, c.N1N2Transfer(ctx, supi, n1n2) },
		[]any{supi, n1n2}, nil,
	},
	{
		"sm-context-released",
		func(ctx context.Context, c allServices) (any, error) { return nil, c.SMContextReleased(ctx, supi, 5) },
		[]any{supi, ident.PDUSessionID(5)}, nil,
	},
	{
		"deregister",
		func(ctx context.Context, c allServices) (any, error) { return nil, c.Deregister(ctx, supi, true) },
		[]any{supi, true}, nil,
	},
	{
		"set-ambr",
		func(ctx context.Context, c allServices) (any, error) {
			return nil, c.SetAMBR(ctx, supi, 5, ident.AMBR{Uplink: 64_000, Downlink: 3})
		},
		[]any{supi, ident.PDUSessionID(5), ident.AMBR{Uplink: 64_000, Downlink: 3}}, nil,
	},
	{
		"release",
		func(ctx context.Context, c allServices) (any, error) { return nil, c.Release(ctx, supi, 5) },
		[]any{supi, ident.PDUSessionID(5)}, nil,
	},
}

type allServices interface {
	Authentication
	SubscriberData
	UEContext
	Sessions
	Communication
	SessionControl
}

var (
	authRequest = AuthenticationRequest{
		SUPIOrSUCI: "suci-0-001-01-0000-0-0-0000000001", ServingNetworkName: plmn.ServingNetworkName(),
		Resync: &Resync{RAND: [16]byte{1}, AUTS: [14]byte{2}},
	}
	authAnswer    = AuthenticationContext{ID: "ctx/1", RAND: [16]byte{1}, AUTN: [16]byte{2}, HXRESStar: [16]byte{3}}
	createRequest = CreateSMContext{
		SUPI: supi, PEI: "imei-490154203237518", Session: 5, DNN: "internet", SNSSAI: slice1,
		AMF: "amf-1", GUAMI: guami, Location: place, N1: []byte{0x2e, 5, 1, 0xc1},
	}
	n1n2 = N1N2Message{Session: 5, N1: []byte{0x2e}, N2: []byte{0, 1}, N2Type: N2SetupRequest, SNSSAI: slice2}
)

// answering sets the fake's result.
func (f *fake) answering(answer any, err error) {
	f.err = err
	switch a := answer.(type) {
	case AuthenticationContext:
		f.auth = a
	case Confirmation:
		f.conf = a
	case AccessMobilityData:
		f.am = a
	case SessionData:
		f.sm = a
	case SMContextRef:
		f.ref = a
	case UpdatedSMContext:
		f.upd = a
	}
}

// Each operation through client, loopback HTTP/2 and handler asks the
// implementation what the caller asked, and answers what it answered.
func TestOperationsAcrossHTTP(t *testing.T) {
	for _, c := range calls {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{}
			f.answering(c.answer, nil)
			client := dial(t, loopback(t, f.services()), ClientOptions{})
			got, err := c.call(t.Context(), client)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, f.got, cmpAddr); diff != "" {
				t.Errorf("the implementation was asked something else (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.answer, got, cmpAddr); diff != "" {
				t.Errorf("the caller got another answer (-want +got):\n%s", diff)
			}
		})
	}
}

// Each operation's errors cross the process boundary.
func TestErrorsAcrossHTTP(t *testing.T) {
	for _, c := range calls {
		f := &fake{}
		client := dial(t, loopback(t, f.services()), ClientOptions{})
		for _, want := range []error{
			&Problem{Status: 404, Cause: CauseContextNotFound, Detail: "no ctx \"ü\""},
			&Problem{Status: 403, Cause: CauseAuthenticationRejected, Detail: "x"},
			&Problem{Status: 409, Cause: "UE_IN_CM_IDLE_STATE"},
			&Problem{Status: 503, Cause: CauseInsufficientResources},
			&SessionRefusal{Problem: Problem{Status: 403, Cause: CauseDNNNotAllowed, Detail: "d"}, N1: []byte{0x2e, 5, 1, 0xc3}},
		} {
			f.answering(nil, want)
			_, err := c.call(t.Context(), client)
			if diff := cmp.Diff(want, err); diff != "" {
				t.Errorf("%s: another error came back (-want +got):\n%s", c.name, diff)
			}
			var p *Problem
			if !errors.As(err, &p) {
				t.Errorf("%s: errors.As finds no *Problem in %v", c.name, err)
			}
		}
		f.answering(nil, errors.New("disk full"))
		_, err := c.call(t.Context(), client)
		if diff := cmp.Diff(error(&Problem{Status: 500, Cause: CauseSystemFailure, Detail: "disk full"}), err); diff != "" {
			t.Errorf("%s: an untyped error came back otherwise (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestWrongRESIsNoError(t *testing.T) {
	client := dial(t, loopback(t, (&fake{}).services()), ClientOptions{})
	got, err := client.Confirm(t.Context(), "1", []byte{1})
	if err != nil || got != (Confirmation{}) {
		t.Errorf("Confirm = %+v, %v, want the zero Confirmation and no error", got, err)
	}
}

// recorder keeps what goes over the wire, readably.
type recorder struct {
	http.RoundTripper
	host string // varies
	text strings.Builder
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	body, _ := req.GetBody()
	b, _ := io.ReadAll(body)
	r.write(req.Method+" "+req.URL.RequestURI(), req.Header.Get("Content-Type"), "", string(b))
	resp, err := r.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	b, _ = io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(strings.NewReader(string(b)))
	r.write(resp.Status, resp.Header.Get("Content-Type"), resp.Header.Get("Location"), string(b))
	return resp, nil
}

func (r *recorder) write(line, contentType, location, body string) {
	if _, after, ok := strings.Cut(contentType, "boundary="); ok {
		boundary, _, _ := strings.Cut(after, ";")
		contentType = strings.ReplaceAll(contentType, boundary, "BOUNDARY")
		body = strings.ReplaceAll(body, boundary, "BOUNDARY")
	}
	r.text.WriteString(line + "\n")
	if contentType != "" {
		r.text.WriteString("Content-Type: " + contentType + "\n")
	}
	if location != "" {
		r.text.WriteString("Location: " + strings.ReplaceAll(location, r.host, "HOST") + "\n")
	}
	body = strings.ReplaceAll(body, r.host, "HOST")
	body = strings.ReplaceAll(body, "\r\n", "\n")
	for i := range len(body) {
		if b := body[i]; b != '\n' && (b < ' ' || b > '~') {
			fmt.Fprintf(&r.text, `\x%02x`, b)
		} else {
			if i == 0 {
				r.text.WriteByte('\n')
			}
			r.text.WriteByte(b)
		}
	}
	r.text.WriteString("\n\n")
}

// The golden files are what a reviewer compares with TS 29.502, 29.503, 29.509 and
// 29.518: paths, media types and attribute names.
func TestGoldenWire(t *testing.T) {
	f := &fake{}
	client := dial(t, loopback(t, f.services()), ClientOptions{CallbackURL: "http://amf.example:7777"})
	r := &recorder{RoundTripper: client.http.Transport, host: strings.TrimPrefix(client.base, "http://")}
	client.http.Transport = r
	for _, c := range calls {
		r.text.Reset()
		f.answering(c.answer, nil)
		if _, err := c.call(t.Context(), client); err != nil {
			t.Fatal(err)
		}
		golden(t, c.name, r.text.String())
	}
	r.text.Reset()
	f.answering(nil, &Problem{Status: 404, Cause: CauseUserNotFound, Detail: "no such subscriber"})
	_, _ = client.AccessMobility(t.Context(), supi)
	golden(t, "problem", r.text.String())
	r.text.Reset()
	f.answering(nil, &SessionRefusal{Problem: Problem{Status: 403, Cause: CauseDNNNotAllowed}, N1: []byte("n1")})
	_, _ = client.CreateSMContext(t.Context(), createRequest)
	golden(t, "refusal", r.text.String())
	r.RoundTripper.(*http.Transport).CloseIdleConnections()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".txt")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not what %s has (-want +got); -update rewrites it:\n%s", name, path, diff)
	}
}
