package amf

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/sctp"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
)

func TestNGSetup(t *testing.T) {
	supported := func(p ident.PLMN, s ident.SNSSAI) []ngap.SupportedTA {
		return []ngap.SupportedTA{{TAC: 5, Broadcast: []ngap.BroadcastPLMN{{PLMN: p, Slices: []ident.SNSSAI{s}}}}}
	}
	for _, tt := range []struct {
		name  string
		list  []ngap.SupportedTA
		cause ngap.Cause // 0: accepted
	}{
		{"served PLMN and slice", supported(testPLMN, testSlice), 0},
		// "If the AMF does not identify any of the PLMNs/SNPNs indicated in the NG SETUP
		// REQUEST message, it shall reject the NG Setup procedure with an appropriate
		// cause value."
		{"unknown PLMN", supported(ident.PLMN{MCC: "999", MNC: "70"}, testSlice), ngap.MiscUnknownPLMN},
		{"no common slice", supported(testPLMN, ident.SNSSAI{SST: 200}), causeSliceNotSupported},
		{"one of two PLMNs", append(supported(ident.PLMN{MCC: "999", MNC: "70"}, testSlice), supported(testPLMN, testSlice)...), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, nil, nil, func(t *testing.T, tc *testCore) {
				g := tc.dial()
				m := setupRequest(1)
				m.Supported = tt.list
				g.write(m)
				if tt.cause != 0 {
					f := want[*ngap.NGSetupFailure](g, tt.name)
					if f.Cause != tt.cause || f.TimeToWait == 0 {
						t.Fatalf("%+v: want cause %v and a time to wait", f, tt.cause)
					}
					// The association stands: the gNB may try again.
					g.write(setupRequest(1))
					want[*ngap.NGSetupResponse](g, "second try")
					return
				}
				r := want[*ngap.NGSetupResponse](g, tt.name)
				cfg := testConfig()
				exp := &ngap.NGSetupResponse{AMFName: "amf1", GUAMIs: []ident.GUAMI{cfg.GUAMI}, Capacity: 255,
					PLMNs: []ngap.BroadcastPLMN{{PLMN: testPLMN, Slices: cfg.PLMNs[0].Slices}}}
				if d := cmp.Diff(exp, r); d != "" {
					t.Errorf("NG SETUP RESPONSE (-want +got):\n%s", d)
				}
				if st := tc.amf.Status().GNBs; len(st) != 1 || !st[0].Up || st[0].ID.Value != 1 {
					t.Errorf("gNBs %+v", st)
				}
			})
		})
	}
}

// NG Setup is the first procedure: anything before it is an error.
func TestBeforeNGSetup(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		g := tc.dial()
		u := g.ue(alice)
		u.connect(u.encode(u.initialRequest()))
		e := want[*ngap.ErrorIndication](g, "INITIAL UE MESSAGE before NG Setup")
		if e.Cause == nil || *e.Cause != ngap.ProtocolNotCompatibleState {
			t.Fatalf("cause %v", e.Cause)
		}
		// "The Procedure Code IE and the Triggering Message IE within the Criticality
		// Diagnostics IE shall then be included" (clause 10.4).
		if e.Diagnostics == nil || e.Diagnostics.Procedure != ngap.ProcInitialUEMessage {
			t.Errorf("diagnostics %+v, want the procedure", e.Diagnostics)
		}
		wantEmpty(tc)
	})
}

// A gNB that sets up again on a new association replaces the old one; UEs there go
// to CM-IDLE and stay registered.
func TestDuplicateGNB(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		a := tc.gnb(7)
		u := a.ue(alice)
		u.register()
		u.session(1)
		tc.calls()
		b := tc.gnb(7)
		a.wantClosed("the old association")
		if s, _ := u.status(); s.Connected || s.State != "REGISTERED" {
			t.Errorf("%+v: want registered and idle", s)
		}
		tc.wantCalls("SMF is told once", "update sm-1 DEACTIVATED n1=0")
		if st := tc.amf.Status().GNBs; len(st) != 1 {
			t.Errorf("gNBs %+v: want one", st)
		}
		u.g = b
		u.connectProtected(&nas.ServiceRequest{STMSI: u.guti.STMSI(), NGKSI: u.sec.NGKSI()})
		wantDownlink[*nas.ServiceAccept](u, "the UE comes back")
	})
}

// NG Setup again on the same association erases the UE contexts (TS 38.413 clause
// 8.7.1.1).
func TestNGSetupAgain(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(7)
		u := g.ue(alice)
		u.register()
		g.write(setupRequest(8))
		want[*ngap.NGSetupResponse](g, "NG Setup again")
		if s, _ := u.status(); s.Connected {
			t.Error("the UE is still connected")
		}
		if st := tc.amf.Status().GNBs; len(st) != 1 || st[0].ID.Value != 8 || st[0].UEs != 0 {
			t.Errorf("gNBs %+v: want gNB 8 without UEs", st)
		}
	})
}

func TestGNBLoss(t *testing.T) {
	for _, graceful := range []bool{true, false} {
		bubble(t, nil, []*subscriber{alice, bob}, func(t *testing.T, tc *testCore) {
			a, b := tc.gnb(1), tc.gnb(2)
			u, v := a.ue(alice), b.ue(bob)
			u.register()
			u.session(1)
			v.register()
			w := a.ue(newSubscriber("001010000000003")) // in the middle of authentication
			w.connect(w.encode(w.initialRequest()))
			synctest.Wait()
			tc.calls()
			if graceful {
				if err := a.conn.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else {
				a.conn.Abort()
			}
			tc.wantCalls("AN release: the user plane is deactivated, the session stays", "update sm-1 DEACTIVATED n1=0")
			if s, _ := u.status(); s.Connected || s.State != "REGISTERED" || len(s.Sessions) != 1 || s.Sessions[0].UP != "DEACTIVATED" {
				t.Errorf("%+v: want registered, idle, session 1 deactivated", s)
			}
			v.wantState("REGISTERED", "the other gNB's UE")
			if s, _ := v.status(); !s.Connected {
				t.Error("the other gNB's UE lost its connection")
			}
			if st := tc.amf.Status(); len(st.GNBs) != 1 || len(st.UEs) != 2 || st.Counters.GNBsLost != 1 {
				t.Errorf("%d gNBs, %d UEs, %d lost: want 1, 2, 1", len(st.GNBs), len(st.UEs), st.Counters.GNBsLost)
			}
		})
	}
}

// REGISTRATION ACCEPT was sent, then the gNB was lost: "the AMF shall locally abort
// the registration procedure, enter state 5GMM-REGISTERED and shall not resend the
// REGISTRATION ACCEPT", and both 5G-GUTIs are valid (TS 24.501 clause 5.5.1.2.8 a).
func TestLossBeforeRegistrationComplete(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		u := g.ue(alice)
		u.register()
		before := *u.guti
		u.connectProtected(u.gutiRequest(nas.RegistrationMobility))
		want[*ngap.UEContextReleaseCommand](g, "the connection before")
		u.takeAccept()
		g.write(&ngap.NGReset{Cause: ngap.RadioUnspecified, All: true})
		want[*ngap.NGResetAcknowledge](g, "reset")
		u.wantState("REGISTERED", "the procedure is aborted")
		for _, guti := range []*ident.GUTI{&before, u.guti} {
			if tc.amf.ueByGUTI(guti) == nil {
				t.Errorf("5G-GUTI %v is not valid", guti)
			}
		}
		sleep(time.Minute)
		g.wantIdle("nothing is resent")
	})
}

func TestNGReset(t *testing.T) {
	bubble(t, nil, []*subscriber{alice, bob}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		u, v := g.ue(alice), g.ue(bob)
		u.register()
		v.register()
		unknown := int64(4711)
		list := []ngap.PartialIDs{{AMF: &unknown}, {RAN: &u.ids.RAN}}
		g.writeOn(0, &ngap.NGReset{Cause: ngap.RadioUnspecified, Connections: list})
		// "the AMF shall include [...] all the UE-associated logical NG-connections in the
		// same order as received in the NG RESET message, and shall include also unknown
		// UE-associated logical NG-connections"
		if d := cmp.Diff(&ngap.NGResetAcknowledge{Connections: list}, want[*ngap.NGResetAcknowledge](g, "partial reset")); d != "" {
			t.Errorf("NG RESET ACKNOWLEDGE (-want +got):\n%s", d)
		}
		su, _ := u.status()
		sv, _ := v.status()
		if su.Connected || !sv.Connected {
			t.Errorf("connected: %v and %v, want only Bob", su.Connected, sv.Connected)
		}
		g.writeOn(0, &ngap.NGReset{Cause: ngap.RadioUnspecified, All: true})
		if a := want[*ngap.NGResetAcknowledge](g, "full reset"); len(a.Connections) != 0 {
			t.Errorf("acknowledge of a full reset lists %v", a.Connections)
		}
		if sv, _ = v.status(); sv.Connected || sv.State != "REGISTERED" {
			t.Errorf("Bob %+v: want registered and idle", sv)
		}
		if st := tc.amf.Status().GNBs[0]; st.UEs != 0 {
			t.Errorf("%d connections left", st.UEs)
		}
	})
}

func TestNGResetByAMF(t *testing.T) {
	bubble(t, nil, []*subscriber{alice, bob}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		u, v := g.ue(alice), g.ue(bob)
		u.register()
		v.register()
		id := setupRequest(1).GNB
		done := make(chan error, 1)
		go func() { done <- tc.amf.ResetNG(t.Context(), id, alice.supi) }()
		m := want[*ngap.NGReset](g, "partial reset")
		if m.All || len(m.Connections) != 1 || *m.Connections[0].RAN != u.ids.RAN {
			t.Fatalf("%+v: want Alice's connection", m)
		}
		g.write(&ngap.NGResetAcknowledge{Connections: m.Connections})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if s, _ := u.status(); s.Connected {
			t.Error("Alice is still connected")
		}
		go func() { done <- tc.amf.ResetNG(t.Context(), id) }()
		if m = want[*ngap.NGReset](g, "full reset"); !m.All {
			t.Fatalf("%+v: want all", m)
		}
		start := time.Now()
		err := <-done
		if d := time.Since(start); d != 10*time.Second || !isErr(err, ErrNoAnswer) {
			t.Errorf("%v after %v, want ErrNoAnswer after 10 s", err, d)
		}
		if err := tc.amf.ResetNG(t.Context(), ident.GNBID{Value: 99}); !isErr(err, ErrUnknownGNB) {
			t.Errorf("%v, want ErrUnknownGNB", err)
		}
	})
}

// TS 38.413 clause 10.6: "an erroneous AP ID that is either an unknown local AP ID,
// or an inconsistent remote AP ID [...]: the node shall initiate an Error Indication
// procedure with inclusion of the received AP ID(s) [...]. Both nodes shall initiate
// a local release of any established UE-associated logical connection (for the same
// NG interface) having the erroneous AP ID". The other UEs of the sender keep working.
func TestUnknownUEIDs(t *testing.T) {
	bubble(t, nil, []*subscriber{alice, bob}, func(t *testing.T, tc *testCore) {
		g, other := tc.gnb(1), tc.gnb(2)
		u, v := g.ue(alice), g.ue(bob)
		u.register()
		v.register()
		check := func(from *testGNB, ids ngap.UEIDs, cause ngap.Cause, why string) {
			t.Helper()
			from.write(&ngap.UplinkNASTransport{IDs: ids, NAS: []byte{0x7e, 0, 0x43}, Location: ident.Location{
				NRCGI: ident.NRCGI{PLMN: testPLMN}, TAI: ident.TAI{PLMN: testPLMN, TAC: 1}}})
			e := want[*ngap.ErrorIndication](from, why)
			if e.Cause == nil || *e.Cause != cause || e.IDs.AMF == nil || *e.IDs.AMF != ids.AMF || e.IDs.RAN == nil || *e.IDs.RAN != ids.RAN {
				t.Fatalf("%s: %+v: want cause %v and the received identifiers", why, e, cause)
			}
		}
		check(g, ngap.UEIDs{AMF: 99999, RAN: 5}, ngap.RadioUnknownLocalUENGAPID, "unknown AMF UE NGAP ID")
		check(other, u.ids, ngap.RadioUnknownLocalUENGAPID, "another gNB's UE: unknown on this NG interface")
		if s, _ := u.status(); !s.Connected {
			t.Fatal("another gNB disconnected Alice")
		}
		check(g, ngap.UEIDs{AMF: v.ids.AMF, RAN: 77}, ngap.RadioInconsistentRemoteID, "nobody's RAN UE NGAP ID")
		check(g, ngap.UEIDs{AMF: v.ids.AMF, RAN: u.ids.RAN}, ngap.RadioInconsistentRemoteID, "Alice's RAN UE NGAP ID")
		if s, _ := u.status(); s.Connected || s.State != "REGISTERED" {
			t.Errorf("%+v: want the connection with the erroneous identifier released locally", s)
		}
		v.session(1)
		if c := tc.amf.Status().Counters; c.NGAPUnknownUE != 4 || c.ErrorIndicationsSent != 4 {
			t.Errorf("%d unknown, %d error indications, want 4", c.NGAPUnknownUE, c.ErrorIndicationsSent)
		}
		// The gNB says which identifier is erroneous: nobody's here, then Bob's. The
		// connection that has it is released here too, without answer.
		wrong := int64(99999)
		cause := ngap.RadioInconsistentRemoteID
		g.write(&ngap.ErrorIndication{IDs: ngap.PartialIDs{AMF: &wrong, RAN: &v.ids.RAN}, Cause: &cause})
		g.wantIdle("an error indication is never answered")
		if s, _ := v.status(); !s.Connected {
			t.Error("Bob was disconnected by an error about another's AMF UE NGAP ID")
		}
		cause = ngap.RadioUnknownLocalUENGAPID
		g.write(&ngap.ErrorIndication{IDs: ngap.PartialIDs{AMF: &v.ids.AMF, RAN: &v.ids.RAN}, Cause: &cause})
		g.wantIdle("an error indication is never answered")
		if s, _ := v.status(); s.Connected {
			t.Error("Bob is still connected")
		}
	})
}

// The gNB uses a RAN UE NGAP ID again: it has forgotten the connection.
func TestRANIDReused(t *testing.T) {
	bubble(t, nil, []*subscriber{alice, bob}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		u := g.ue(alice)
		u.register()
		g.ran--
		v := g.ue(bob)
		v.register()
		if s, _ := u.status(); s.Connected || s.State != "REGISTERED" {
			t.Errorf("Alice %+v: want idle", s)
		}
	})
}

func TestUndecodableNGAP(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		u := g.ue(alice)
		u.register()
		for _, b := range [][]byte{{0xff}, {0x00, 0x2e, 0x40, 0x03, 0x00}, {}, {0x00, 0x2e, 0x40, 0x02, 0x00, 0x00}} {
			if len(b) == 0 {
				b = []byte{0}
			}
			g.writeBytes(0, b)
			want[*ngap.ErrorIndication](g, "undecodable message")
		}
		// ERROR INDICATION without any of its IEs' content: never answered.
		g.writeBytes(0, []byte{0x00, 0x09, 0x40, 0x04, 0x00, 0x00, 0x01, 0x00})
		g.wantIdle("an undecodable error indication")
		if err := g.conn.Send(t.Context(), sctp.Message{PPID: 61, Data: []byte{1}}); err != nil {
			t.Fatal(err)
		}
		g.wantIdle("another payload protocol is discarded")
		g.write(&ngap.NGSetupResponse{AMFName: "x", GUAMIs: []ident.GUAMI{testConfig().GUAMI}, Capacity: 1,
			PLMNs: []ngap.BroadcastPLMN{{PLMN: testPLMN, Slices: []ident.SNSSAI{testSlice}}}})
		g.wantIdle("a logical error in a response is for local error handling (clause 10.4)")
		g.writeBytes(0, []byte{0x20, 0x0e, 0x00, 0x03, 0x00, 0x00, 0x00})
		g.wantIdle("so are IEs missing in a response (clause 10.3.5)")
		g.write(&ngap.DownlinkNASTransport{IDs: u.ids, NAS: []byte{1}})
		e := want[*ngap.ErrorIndication](g, "a message only an AMF sends")
		if *e.Cause != ngap.ProtocolNotCompatibleState || e.Diagnostics == nil || e.Diagnostics.Procedure != ngap.ProcDownlinkNASTransport {
			t.Errorf("%+v: want not compatible with receiver state, naming the procedure", e)
		}
		if c := tc.amf.Status().Counters; c.NGAPUndecodable != 7 || c.NGAPNotCompatible != 2 {
			t.Errorf("%d undecodable, %d not compatible: want 7 and 2", c.NGAPUndecodable, c.NGAPNotCompatible)
		}
		u.session(1)
	})
}

func TestContextSetupFailure(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.toAccepted()
		u.g.write(&ngap.InitialContextSetupFailure{IDs: u.ids, Cause: ngap.RadioResourcesNotAvailable})
		u.wantRelease(ngap.RadioResourcesNotAvailable, "the connection is of no use")
		u.wantState("REGISTERED", "a lower layer failure after REGISTRATION ACCEPT")
	})
}

func TestContextSetupTimeout(t *testing.T) {
	bubble(t, func(c *Config) { c.T3550 = time.Minute }, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.toAccepted()
		sleep(10*time.Second - 1)
		u.g.wantIdle("N2Timeout has not passed")
		sleep(1)
		u.wantRelease(ngap.RadioUnspecified, "the gNB did not answer")
		u.wantState("REGISTERED", "a lower layer failure after REGISTRATION ACCEPT")
	})
}

// A gNB that never completes a release does not keep the connection for ever.
func TestReleaseNotCompleted(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		u := g.ue(alice)
		u.register()
		g.write(&ngap.UEContextReleaseRequest{IDs: u.ids, Cause: ngap.RadioConnectionWithUELost})
		want[*ngap.UEContextReleaseCommand](g, "release")
		u.send(&nas.RegistrationComplete{})
		g.wantIdle("what still comes is ignored")
		if n := tc.amf.Status().GNBs[0].UEs; n != 1 {
			t.Errorf("%d connections, want 1 until the release is completed", n)
		}
		sleep(10 * time.Second)
		if n := tc.amf.Status().GNBs[0].UEs; n != 0 {
			t.Errorf("%d connections, want 0 after N2Timeout", n)
		}
	})
}

func TestNASNonDelivery(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.register()
		u.g.write(&ngap.NASNonDeliveryIndication{IDs: u.ids, NAS: []byte{1, 2, 3}, Cause: ngap.RadioUnspecified})
		synctest.Wait()
		if n := tc.amf.Status().Counters.NASNonDeliveries; n != 1 {
			t.Errorf("%d counted, want 1", n)
		}
	})
}

// Beyond MaxUEs a gNB is told that the AMF is overloaded.
func TestOverload(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxUEs = 1 }, []*subscriber{alice, bob}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		u, v := g.ue(alice), g.ue(bob)
		u.register()
		v.connect(v.encode(v.initialRequest()))
		e := want[*ngap.ErrorIndication](g, "full")
		if *e.Cause != ngap.MiscControlOverload || e.IDs.RAN == nil || *e.IDs.RAN != v.ids.RAN {
			t.Errorf("%+v: want control processing overload for the UE", e)
		}
		u.session(1)
	})
}

// The downlink of a UE goes on the stream its uplink came on (TS 38.412 clause 7).
func TestStreamPerUE(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		u := g.ue(alice)
		g.writeOn(9, &ngap.InitialUEMessage{RAN: 1, NAS: u.encode(u.initialRequest()),
			Location: ident.Location{NRCGI: ident.NRCGI{PLMN: testPLMN}, TAI: g.tai}})
		synctest.Wait()
		m, err := g.conn.Recv(t.Context())
		if err != nil || m.Stream != 9 || m.PPID != sctp.PPIDNGAP {
			t.Errorf("stream %d, PPID %d (%v): want 9 and 60", m.Stream, m.PPID, err)
		}
	})
}

// NG SETUP REQUEST without its mandatory IEs is answered with the procedure's own
// failure message (TS 38.413 clause 10.3.5).
func TestNGSetupMissingIEs(t *testing.T) {
	bubble(t, nil, nil, func(t *testing.T, tc *testCore) {
		g := tc.dial()
		g.writeBytes(0, []byte{0x00, 0x15, 0x00, 0x08, 0x00, 0x00, 0x01, 0x00, 0x15, 0x40, 0x01, 0x40}) // paging DRX alone
		m := want[*ngap.NGSetupFailure](g, "mandatory IEs missing")
		if m.Cause.Group() != ngap.CauseProtocol {
			t.Errorf("cause %v, want a protocol error", m.Cause)
		}
		// "the Information Element Criticality Diagnostics IE shall be included [...] for
		// each reported IE": global RAN node ID and supported TA list.
		if m.Diagnostics == nil || len(m.Diagnostics.IEs) != 2 || m.Diagnostics.IEs[0].ID != 27 || !m.Diagnostics.IEs[0].Missing {
			t.Errorf("diagnostics %+v, want the two missing IEs", m.Diagnostics)
		}
		g.write(setupRequest(1))
		want[*ngap.NGSetupResponse](g, "a correct request")
	})
}
