package smf

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/internal/wire/pfcp"
	"github.com/simreach/simreach/nf/sbi"
)

var cmpAddr = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// TestEstablishment follows one session through TS 23.502 clause 4.3.2.2.
func TestEstablishment(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		h.upf.want("association", pfcp.TypeAssociationSetupRequest)
		events := h.events(true)
		ref := h.create(imsi1)

		est := h.upf.want("step 10", pfcp.TypeSessionEstablishmentRequest)[0].m.(*pfcp.SessionEstablishmentRequest)
		qfi, ue := ident.QFI(1), ident.UEAddress{V4: netip.MustParseAddr("10.45.0.2")}
		want := pfcp.Rules{
			PDRs: []pfcp.PDR{
				{ID: 1, Precedence: 255, RemoveOuterHeader: true, FAR: 1, QERs: []uint32{1}, URRs: []uint32{1},
					PDI: pfcp.PDI{Source: pfcp.Access, ChooseTEID: true, UEAddress: &ue, UEIsSource: true, QFI: &qfi}},
				{ID: 2, Precedence: 255, FAR: 2, QERs: []uint32{1}, URRs: []uint32{1},
					PDI: pfcp.PDI{Source: pfcp.Core, NetworkInstance: "internet", UEAddress: &ue}},
			},
			FARs: []pfcp.FAR{
				{ID: 1, Action: pfcp.ActionForward, Forward: &pfcp.Forwarding{Destination: new(pfcp.Core), NetworkInstance: "internet"}},
				{ID: 2, Action: pfcp.ActionDrop},
			},
			QERs: []pfcp.QER{{ID: 1, QFI: 1, MBR: &mbps, Gates: &pfcp.GateStatus{}}},
			URRs: []pfcp.URR{{ID: 1, Volume: true}},
		}
		if d := cmp.Diff(want, est.Rules, cmpAddr); d != "" {
			t.Errorf("rules (-want +got):\n%s", d)
		}
		if est.Node.Addr != smfAddr.Addr() || est.FSEID.Addr != smfAddr.Addr() || est.FSEID.SEID == 0 {
			t.Errorf("got node %v F-SEID %v, want the SMF's address and a SEID", est.Node, est.FSEID)
		}

		m := h.amf.taken()
		if len(m) != 1 || m[0].supi != imsi1 || m[0].Session != 5 || m[0].SNSSAI != slice1 || m[0].N2Type != sbi.N2SetupRequest {
			t.Fatalf("step 11: got %+v, want one transfer of accept and setup request", m)
		}
		accept := decodeN1[*nas.PDUSessionEstablishmentAccept](t, m[0].N1)
		wantAccept := &nas.PDUSessionEstablishmentAccept{
			SMHeader: nas.SMHeader{PDUSessionID: 5, PTI: 9}, SessionType: ident.IPv4, SSCMode: 1,
			Rules: []nas.QoSRule{{ID: 1, Default: true, Precedence: 255, QFI: 1}},
			AMBR:  mbps, Address: ue, SNSSAI: &slice1, DNN: "internet", Flows: []nas.QoSFlow{{QFI: 1, FiveQI: 7}},
			PCO: &nas.PCO{DNS: []netip.Addr{netip.MustParseAddr("9.9.9.9")}, MTU: 1420},
		}
		if d := cmp.Diff(wantAccept, accept, cmpAddr); d != "" {
			t.Errorf("accept (-want +got):\n%s", d)
		}
		_, s := h.upf.only()
		setup, err := ngap.DecodeSetupRequestTransfer(m[0].N2)
		if err != nil {
			t.Fatal(err)
		}
		wantSetup := &ngap.SetupRequestTransfer{AMBR: &mbps, Uplink: s.uplink, Type: ident.IPv4, Flows: []ngap.QoSFlow{{QFI: 1, FiveQI: 7, ARPPriority: 3}}}
		if d := cmp.Diff(wantSetup, setup, cmpAddr); d != "" {
			t.Errorf("setup request (-want +got):\n%s", d)
		}
		wantStrings(t, "no event before the device can be reached", events())

		if out := h.update(ref, h.setupResponse(gnbA)); out.UPState != sbi.UPActivated || out.N1 != nil || out.N2 != nil {
			t.Errorf("got %+v, want ACTIVATED and nothing to send", out)
		}
		mod := h.upf.want("step 16", pfcp.TypeSessionModificationRequest)[0].m.(*pfcp.SessionModificationRequest)
		wantFAR := []pfcp.FAR{{ID: 2, Action: pfcp.ActionForward, Forward: &pfcp.Forwarding{Destination: new(pfcp.Access), Outer: &gnbA}}}
		if d := cmp.Diff(wantFAR, mod.Update.FARs, cmpAddr); d != "" {
			t.Errorf("FAR (-want +got):\n%s", d)
		}
		wantStrings(t, "directory", events(), "PDU_SES_EST 001/5 10.45.0.2 upf1")
		wantStrings(t, "registration", h.udm.registered, "+imsi-001010000000001/5 internet")

		got := h.session(imsi1)
		wantStatus := SessionStatus{SUPI: imsi1, Session: 5, DNN: "internet", SNSSAI: slice1, UPF: "upf1", Address: ue, SEID: got.SEID,
			Uplink: s.uplink, Downlink: gnbA, AMBR: mbps, State: "active", UserPlane: "activated",
			Created: got.Created, Measured: got.Created}
		if d := cmp.Diff(wantStatus, got, cmpAddr); d != "" {
			t.Errorf("status (-want +got):\n%s", d)
		}
	})
}

// TestRefusedAtOnce lists what the request alone shows (TS 24.501 clause 6.4.1.4).
func TestRefusedAtOnce(t *testing.T) {
	bubble(t, func(c *Config, _ *harness) {
		c.DNNs[0].SNSSAIs = []ident.SNSSAI{slice1}
	}, func(h *harness) {
		for _, tt := range []struct {
			name   string
			change func(*sbi.CreateSMContext, *nas.PDUSessionEstablishmentRequest)
			cause  nas.SMCause
		}{
			{"unknown DNN", func(c *sbi.CreateSMContext, _ *nas.PDUSessionEstablishmentRequest) { c.DNN = "ims" }, nas.SMMissingOrUnknownDNN},
			{"no DNN", func(c *sbi.CreateSMContext, _ *nas.PDUSessionEstablishmentRequest) { c.DNN = "" }, nas.SMMissingOrUnknownDNN},
			{"DNN not in the slice", func(c *sbi.CreateSMContext, _ *nas.PDUSessionEstablishmentRequest) { c.SNSSAI.SST = 2 }, nas.SMMissingDNNInSlice},
			{"IPv6 only", func(_ *sbi.CreateSMContext, m *nas.PDUSessionEstablishmentRequest) { m.SessionType = ident.IPv6 }, nas.SMIPv4OnlyAllowed},
			{"unstructured", func(_ *sbi.CreateSMContext, m *nas.PDUSessionEstablishmentRequest) { m.SessionType = 4 }, nas.SMUnknownPDUSessionType},
			{"SSC mode 2", func(_ *sbi.CreateSMContext, m *nas.PDUSessionEstablishmentRequest) { m.SSCMode = 2 }, nas.SMNotSupportedSSCMode},
			{"SSC mode 3", func(_ *sbi.CreateSMContext, m *nas.PDUSessionEstablishmentRequest) { m.SSCMode = 3 }, nas.SMNotSupportedSSCMode},
			{"another session ID", func(_ *sbi.CreateSMContext, m *nas.PDUSessionEstablishmentRequest) { m.PDUSessionID = 6 }, nas.SMInvalidPDUSessionIdentity},
		} {
			req, m := h.context(imsi1), request()
			tt.change(&req, m)
			req.N1 = n1(t, m)
			_, err := h.smf.CreateSMContext(h.t.Context(), req)
			var refusal *sbi.SessionRefusal
			if !errors.As(err, &refusal) || refusal.Problem.Status != 403 {
				t.Errorf("%s: got %v, want a SessionRefusal with status 403", tt.name, err)
				continue
			}
			reject := decodeN1[*nas.PDUSessionEstablishmentReject](t, refusal.N1)
			if reject.Cause != tt.cause || reject.PTI != m.PTI {
				t.Errorf("%s: got cause %d PTI %d, want cause %d PTI %d", tt.name, reject.Cause, reject.PTI, tt.cause, m.PTI)
			}
		}
		if s := h.smf.Status(); len(s.Sessions) != 0 || s.Counters.Refused != 8 {
			t.Errorf("got %d sessions, %d refused, want 0 and 8", len(s.Sessions), s.Counters.Refused)
		}

		t.Log("what is no establishment request")
		bad := h.context(imsi1)
		bad.N1 = n1(t, &nas.PDUSessionReleaseRequest{SMHeader: nas.SMHeader{PDUSessionID: 5, PTI: 1}})
		_, err := h.smf.CreateSMContext(h.t.Context(), bad)
		var refusal *sbi.SessionRefusal
		if !errors.As(err, &refusal) {
			t.Fatalf("got %v, want a SessionRefusal", err)
		}
		if st := decodeN1[*nas.SMStatus](t, refusal.N1); st.Cause != nas.SMTypeNotCompatible {
			t.Errorf("got status %d, want 98", st.Cause)
		}
		for _, c := range []func(*sbi.CreateSMContext){
			func(c *sbi.CreateSMContext) { c.N1 = nil },
			func(c *sbi.CreateSMContext) { c.N1 = []byte{0x2e, 5} },
			func(c *sbi.CreateSMContext) { c.SUPI = "nai-x" },
			func(c *sbi.CreateSMContext) { c.Session = 16 },
		} {
			bad := h.context(imsi1)
			c(&bad)
			_, err := h.smf.CreateSMContext(h.t.Context(), bad)
			var p *sbi.Problem
			if !errors.As(err, &p) {
				t.Errorf("got %v, want a Problem", err)
			}
		}
	})
}

// TestRefusedLater lists what subscription, selection and UPF may say; the reject
// goes through the AMF, which is then told that the context is gone.
func TestRefusedLater(t *testing.T) {
	refusing := func(c pfcp.Cause) func(*Config, *harness) {
		return func(_ *Config, h *harness) {
			h.upf.setOverride(func(m pfcp.Message) (pfcp.Message, bool) {
				if _, ok := m.(*pfcp.SessionEstablishmentRequest); ok {
					return &pfcp.SessionEstablishmentResponse{Node: pfcp.NodeID{Addr: upfAddr.Addr()}, Cause: c}, true
				}
				return nil, true
			})
		}
	}
	udm := func(err error) func(*Config, *harness) { return func(_ *Config, h *harness) { h.udm.err = err } }
	for _, tt := range []struct {
		name    string
		prepare func(*Config, *harness)
		cause   nas.SMCause
	}{
		{"DNN not subscribed", udm(&sbi.Problem{Status: 403, Cause: sbi.CauseDNNNotAllowed}), nas.SMServiceNotSubscribed},
		{"slice not subscribed", udm(&sbi.Problem{Status: 403, Cause: sbi.CauseSNSSAINotAllowed}), nas.SMServiceNotSubscribed},
		{"unknown subscriber", udm(&sbi.Problem{Status: 404, Cause: sbi.CauseUserNotFound}), nas.SMServiceNotSubscribed},
		{"UDM away", udm(errors.New("connection refused")), nas.SMNetworkFailure},
		{"only IPv6 subscribed", func(_ *Config, h *harness) { h.udm.data.Types = []ident.PDUSessionType{ident.IPv6} }, nas.SMIPv6OnlyAllowed},
		{"no UPF in the slice", func(c *Config, _ *harness) { c.UPFs[0].DNNs[0].SNSSAIs = []ident.SNSSAI{{SST: 9}} }, nas.SMMissingDNNInSlice},
		{"no UPF for the group", func(c *Config, _ *harness) { c.UPFs[0].Groups = []string{"meters"} }, nas.SMMissingDNNInSlice},
		{"pool exhausted", func(c *Config, _ *harness) {
			c.UPFs[0].DNNs[0].Reserved = []netip.Prefix{netip.MustParsePrefix("10.45.0.0/16")}
		}, nas.SMInsufficientResources},
		{"static address in no pool", func(_ *Config, h *harness) {
			h.udm.static = map[ident.SUPI]netip.Addr{imsi1: netip.MustParseAddr("192.0.2.1")}
		}, nas.SMInsufficientResources},
		{"UPF without resources", refusing(pfcp.CauseNoResources), nas.SMInsufficientResources},
		{"UPF refuses the rules", refusing(pfcp.CauseRuleCreationFailure), nas.SMNetworkFailure},
		{"UPF gives no F-TEID", func(_ *Config, h *harness) {
			h.upf.setOverride(func(m pfcp.Message) (pfcp.Message, bool) {
				if _, ok := m.(*pfcp.SessionEstablishmentRequest); ok {
					return &pfcp.SessionEstablishmentResponse{Node: pfcp.NodeID{Addr: upfAddr.Addr()}, Cause: pfcp.CauseAccepted, FSEID: &pfcp.FSEID{SEID: 1, Addr: upfAddr.Addr()}}, true
				}
				return nil, true
			})
		}, nas.SMNetworkFailure},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, tt.prepare, func(h *harness) {
				h.create(imsi1)
				m := h.amf.taken()
				if len(m) != 1 || m[0].N2 != nil {
					t.Fatalf("got %+v, want one reject without N2", m)
				}
				if r := decodeN1[*nas.PDUSessionEstablishmentReject](t, m[0].N1); r.Cause != tt.cause || r.PTI != 9 {
					t.Errorf("got cause %d PTI %d, want cause %d PTI 9", r.Cause, r.PTI, tt.cause)
				}
				if h.amf.gone() != 1 || len(h.smf.Status().Sessions) != 0 {
					t.Errorf("got %d releases, %d sessions, want 1 and 0", h.amf.gone(), len(h.smf.Status().Sessions))
				}
				if n := h.smf.Status().UPFs[0].Sessions; n != 0 {
					t.Errorf("got %d sessions counted at the UPF, want 0", n)
				}
			})
		})
	}
}

func TestIPv4v6GetsIPv4(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		req, m := h.context(imsi1), request()
		m.SessionType, m.PCO = ident.IPv4v6, nil
		req.N1 = n1(t, m)
		if _, err := h.smf.CreateSMContext(h.t.Context(), req); err != nil {
			t.Fatal(err)
		}
		a := decodeN1[*nas.PDUSessionEstablishmentAccept](t, h.amf.taken()[0].N1)
		if a.SessionType != ident.IPv4 || a.Cause != nas.SMIPv4OnlyAllowed || a.PCO != nil {
			t.Errorf("got type %d cause %d PCO %v, want IPv4, cause 50 and no PCO", a.SessionType, a.Cause, a.PCO)
		}
	})
}

// TestNextUPF: a UPF that is silent or refuses is followed by the next one.
func TestNextUPF(t *testing.T) {
	for name, override := range map[string]func(pfcp.Message) (pfcp.Message, bool){
		"silent": func(m pfcp.Message) (pfcp.Message, bool) {
			_, ok := m.(*pfcp.SessionEstablishmentRequest)
			return nil, !ok
		},
		"refuses": func(m pfcp.Message) (pfcp.Message, bool) {
			if _, ok := m.(*pfcp.SessionEstablishmentRequest); ok {
				return &pfcp.SessionEstablishmentResponse{Node: pfcp.NodeID{Addr: upfAddr.Addr()}, Cause: pfcp.CauseSystemFailure}, true
			}
			return nil, true
		},
	} {
		t.Run(name, func(t *testing.T) {
			var second *testUPF
			bubble(t, func(c *Config, h *harness) {
				second = newTestUPF(h, up2Addr)
				u := c.UPFs[0]
				u.Name, u.N4, u.Priority = "upf2", up2Addr, 1
				c.UPFs = append(c.UPFs, u)
				h.upf.setOverride(override)
			}, func(h *harness) {
				defer second.kill()
				h.create(imsi1)
				h.advance(1600 * time.Millisecond) // T1 times N1
				if s := h.session(imsi1); s.UPF != "upf2" || s.State != "active" {
					t.Errorf("got %+v, want the session on upf2", s)
				}
				if n := h.smf.Status().UPFs[0]; n.Sessions != 0 || n.Pools[0].Used != 0 {
					t.Errorf("got %+v, want nothing left at upf1", n)
				}
			})
		})
	}
}

// TestSetupFails: without radio resources a new session ends with a reject.
func TestSetupFails(t *testing.T) {
	fail := func(h *harness, ref sbi.SMContextRef) {
		h.update(ref, sbi.UpdateSMContext{N2: n2(h.t, &ngap.UnsuccessfulTransfer{Cause: ngap.RadioResourcesNotAvailable}), N2Type: sbi.N2SetupFail})
	}
	for _, tt := range []struct {
		name string
		then func(h *harness, ref sbi.SMContextRef)
	}{
		{"the gNB refuses", fail},
		{"the gNB is silent for 10 s", func(h *harness, _ sbi.SMContextRef) {
			h.advance(10*time.Second - time.Nanosecond)
			if s := h.session(imsi1); s.State != "active" {
				h.t.Errorf("got %s before the timer ends, want active", s.State)
			}
			h.advance(time.Nanosecond)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, nil, func(h *harness) {
				events := h.events(true)
				ref := h.create(imsi1)
				h.amf.taken()
				tt.then(h, ref)
				m := h.amf.taken()
				if len(m) != 1 {
					t.Fatalf("got %+v, want a reject", m)
				}
				if r := decodeN1[*nas.PDUSessionEstablishmentReject](t, m[0].N1); r.Cause != nas.SMInsufficientResources {
					t.Errorf("got cause %d, want 26", r.Cause)
				}
				if h.upf.count() != 0 || h.amf.gone() != 1 || h.session(imsi1).State != "none" {
					t.Error("want the session gone at UPF, AMF and SMF")
				}
				wantStrings(t, "directory", events())
				wantStrings(t, "registration", h.udm.registered, "+imsi-001010000000001/5 internet", "-imsi-001010000000001/5")
			})
		})
	}
}

func TestAcceptUndelivered(t *testing.T) {
	bubble(t, func(_ *Config, h *harness) {
		h.amf.fail = func(sbi.N1N2Message) error { return &sbi.Problem{Status: 409, Cause: sbi.CauseUEUnreachable} }
	}, func(h *harness) {
		h.create(imsi1)
		if h.session(imsi1).State != "none" || h.upf.count() != 0 || h.amf.gone() != 1 {
			t.Error("want the session gone at SMF, UPF and AMF")
		}
	})
}

// TestSecondCreate: one SM context per SUPI and session ID.
func TestSecondCreate(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		events := h.events(true)
		first := h.active(imsi1)
		second := h.active(imsi1)
		if first == second {
			t.Fatal("want a new reference")
		}
		if _, err := h.smf.UpdateSMContext(h.t.Context(), first, sbi.UpdateSMContext{UPState: sbi.UPDeactivated}); !isProblem(err, 404) {
			t.Errorf("update of the first: got %v, want 404", err)
		}
		if h.upf.count() != 1 || h.amf.gone() != 0 || len(h.smf.Status().Sessions) != 1 {
			t.Errorf("got %d at the UPF, %d releases told, %d sessions, want 1, 0 and 1", h.upf.count(), h.amf.gone(), len(h.smf.Status().Sessions))
		}
		wantStrings(t, "release before establishment", events(),
			"PDU_SES_EST 001/5 10.45.0.2 upf1", "PDU_SES_REL 001/5 10.45.0.2 upf1", "PDU_SES_EST 001/5 10.45.0.3 upf1")
		wantStrings(t, "the successor's registration stays", h.udm.registered,
			"+imsi-001010000000001/5 internet", "+imsi-001010000000001/5 internet")
	})
}

func TestStaticAddress(t *testing.T) {
	fixed := netip.MustParseAddr("10.45.0.3")
	bubble(t, func(c *Config, h *harness) { h.udm.static = map[ident.SUPI]netip.Addr{supi(9): fixed} }, func(h *harness) {
		h.active(supi(1)) // .2
		h.active(supi(9))
		h.active(supi(2))
		if a := h.session(supi(9)).Address.V4; a != fixed {
			t.Errorf("got %s, want the subscribed %s", a, fixed)
		}
		if a := h.session(supi(2)).Address.V4; a != netip.MustParseAddr("10.45.0.4") {
			t.Errorf("got %s, want 10.45.0.4: .3 belongs to a subscription", a)
		}
		h.active(supi(9)) // again, while the old session is being removed
		if a := h.session(supi(9)).Address.V4; a != fixed {
			t.Errorf("after re-establishment: got %s, want %s", a, fixed)
		}
	})
}

// TestTEIDsOfTheSMF: a UPF with a configured N3 address is told its F-TEIDs.
func TestTEIDsOfTheSMF(t *testing.T) {
	n3 := netip.MustParseAddr("10.0.3.1")
	bubble(t, func(c *Config, _ *harness) { c.UPFs[0].N3 = n3 }, func(h *harness) {
		h.active(supi(1))
		h.active(supi(2))
		a, b := h.session(supi(1)).Uplink, h.session(supi(2)).Uplink
		if a.Addr != n3 || b.Addr != n3 || a.TEID == 0 || a.TEID == b.TEID {
			t.Errorf("got %v and %v, want different TEIDs on %s", a, b, n3)
		}
	})
}

func TestStopped(t *testing.T) {
	bubble(t, nil, func(h *harness) {
		ref := h.active(imsi1)
		h.stop()
		synctest.Wait()
		if _, err := h.smf.CreateSMContext(h.t.Context(), h.context(supi(2))); !errors.Is(err, ErrStopped) {
			t.Errorf("create: got %v, want ErrStopped", err)
		}
		if _, err := h.smf.UpdateSMContext(h.t.Context(), ref, sbi.UpdateSMContext{UPState: sbi.UPDeactivated}); !isProblem(err, 404) {
			t.Errorf("update: got %v, want 404", err)
		}
		if _, err := h.smf.Subscribe(h.t.Context(), sbi.EventSubscription{}, nil); !errors.Is(err, ErrStopped) {
			t.Errorf("subscribe: got %v, want ErrStopped", err)
		}
	})
	t.Run("never started", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := &harness{t: t}
			a := machineSMF(t, testConfig())
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := a.CreateSMContext(ctx, h.context(imsi1)); !errors.Is(err, ErrStopped) {
				t.Errorf("got %v, want ErrStopped", err)
			}
			if n := len(a.Status().Sessions); n != 0 {
				t.Errorf("got %d sessions left, want 0", n)
			}
		})
	})
}

func isProblem(err error, status int) bool {
	var p *sbi.Problem
	return errors.As(err, &p) && p.Status == status
}
