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

	infos     []SessionInfo
	subs      []Subscription
	sub       Subscription
	charging  ChargingRef
	equipment EquipmentStatus

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
func (f *fake) SMContextReleased(_ context.Context, s ident.SUPI, id ident.PDUSessionID, ref SMContextRef) error {
	return f.keep(s, id, ref)
}
func (f *fake) Deregister(_ context.Context, s ident.SUPI, r DeregistrationReason) error {
	return f.keep(s, r)
}
func (f *fake) SetAMBR(_ context.Context, s ident.SUPI, id ident.PDUSessionID, a ident.AMBR) error {
	return f.keep(s, id, a)
}
func (f *fake) Release(_ context.Context, s ident.SUPI, id ident.PDUSessionID) error {
	return f.keep(s, id)
}

func (f *fake) Recreate(_ context.Context, s ident.SUPI, id ident.PDUSessionID) error {
	return f.keep(s, id)
}
func (f *fake) SessionsOf(_ context.Context, s ident.SUPI) ([]SessionInfo, error) {
	return f.infos, f.keep(s)
}
func (f *fake) Subscriptions(context.Context) ([]Subscription, error) { return f.subs, f.keep() }
func (f *fake) Subscription(_ context.Context, s ident.SUPI) (Subscription, error) {
	return f.sub, f.keep(s)
}
func (f *fake) Provision(_ context.Context, s ident.SUPI, c SubscriptionChange) (Subscription, error) {
	return f.sub, f.keep(s, c)
}
func (f *fake) CreateCharging(_ context.Context, d ChargingData) (ChargingRef, error) {
	return f.charging, f.keep(d)
}
func (f *fake) UpdateCharging(_ context.Context, ref ChargingRef, d ChargingData) error {
	return f.keep(ref, d)
}
func (f *fake) ReleaseCharging(_ context.Context, ref ChargingRef, d ChargingData) error {
	return f.keep(ref, d)
}
func (f *fake) CheckEquipment(_ context.Context, s ident.SUPI, p ident.PEI) (EquipmentStatus, error) {
	return f.equipment, f.keep(s, p)
}
func (f *fake) EquipmentEvent(_ context.Context, e EquipmentEvent) error { return f.keep(e) }

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
	return Services{
		Authentication: f, SubscriberData: f, UEContext: f, Sessions: f, Communication: f, SessionEvents: f, SessionControl: f,
		Provisioning: f, Charging: f, EquipmentIdentity: f, EquipmentEvents: f,
		Events: EventLimits{SnapshotWait: 50 * time.Millisecond},
	}
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
	case []SessionInfo:
		f.infos = a
	case []Subscription:
		f.subs = a
	case Subscription:
		f.sub = a
	case ChargingRef:
		f.charging = a
	case EquipmentStatus:
		f.equipment = a
	}
}

// Each operation through client, loopback HTTP/2 and handler asks the
// implementation what the caller asked, and answers what it answered.
func TestOperationsAcrossHTTP(t *testing.T) {
	for _, c := range calls {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{}
			f.answering(c.answer, nil)
			client := dial(t, loopback(t, f.services()), ClientOptions{CallbackURL: callback})
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
	client := dial(t, loopback(t, f.services()), ClientOptions{CallbackURL: callback})
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
