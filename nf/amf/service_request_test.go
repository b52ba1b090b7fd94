package amf

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/internal/wire/nas"
	"github.com/simreach/simreach/internal/wire/ngap"
	"github.com/simreach/simreach/nf/sbi"
)

func TestServiceRequest(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		u := tc.gnb(1).ue(alice)
		u.register()
		u.session(1)
		u.session(2)
		u.session(3)
		u.g.conn.Abort() // gNB loss
		b := tc.gnb(2)
		synctest.Wait()
		tc.calls()
		tc.onUpdate = func(_ context.Context, ref sbi.SMContextRef, req sbi.UpdateSMContext) (sbi.UpdatedSMContext, error) {
			if req.UPState != sbi.UPActivating {
				return sbi.UpdatedSMContext{}, nil
			}
			if ref == "sm-2" {
				return sbi.UpdatedSMContext{}, errors.New("UPF is down")
			}
			return sbi.UpdatedSMContext{UPState: sbi.UPActivating, N2: []byte(ref), N2Type: sbi.N2SetupRequest}, nil
		}
		u.g = b
		data, status := nas.SessionSet(1<<1|1<<2), nas.SessionSet(1<<1|1<<2)
		inner := &nas.ServiceRequest{NGKSI: u.sec.NGKSI(), ServiceType: 1, STMSI: u.guti.STMSI(), UplinkDataStatus: &data, PDUSessionStatus: &status}
		outer := &nas.ServiceRequest{NGKSI: inner.NGKSI, ServiceType: 1, STMSI: inner.STMSI}
		var err error
		if outer.NASContainer, err = u.sec.CipherContainer(u.encode(inner)); err != nil {
			t.Fatal(err)
		}
		u.connectProtected(outer)
		acc := wantDownlink[*nas.ServiceAccept](u, "service accept")
		if acc.ReactivationResult == nil || *acc.ReactivationResult != 1<<2 || acc.PDUSessionStatus == nil || *acc.PDUSessionStatus != 1<<1|1<<2 {
			t.Errorf("%+v: want session 2 not reactivated, sessions 1 and 2 active", acc)
		}
		if len(u.ics.Sessions) != 1 || u.ics.Sessions[0].ID != 1 || string(u.ics.Sessions[0].Transfer) != "sm-1" || u.ics.AMBR == nil {
			t.Errorf("INITIAL CONTEXT SETUP REQUEST %+v: want session 1 in it", u.ics)
		}
		if calls := tc.calls(); !slices.Contains(calls, "release sm-3 REL_DUE_TO_PS_STATUS_MISMATCH") {
			t.Errorf("calls %q: want session 3 released, which the UE does not have", calls)
		}
		u.g.write(&ngap.InitialContextSetupResponse{IDs: u.ids, Sessions: []ngap.SessionTransfer{{ID: 1, Transfer: []byte{1}}}})
		tc.wantCalls("the gNB's tunnel", "update sm-1 PDU_RES_SETUP_RSP n1=0")

		// In CM-CONNECTED: only the user plane.
		data = 1 << 1
		u.send(inner)
		wantDownlink[*nas.ServiceAccept](u, "service accept")
		want[*ngap.PDUSessionResourceSetupRequest](u.g, "user plane of session 1")
	})
}

// "If a SERVICE REQUEST message fails the integrity check [...] the AMF shall send the
// SERVICE REJECT message with 5GMM cause #9 [...] and keep the 5GMM-context and 5G
// NAS security context unchanged."
func TestServiceRequestNotVerified(t *testing.T) {
	bubble(t, nil, []*subscriber{alice}, func(t *testing.T, tc *testCore) {
		g := tc.gnb(1)
		u := g.ue(alice)
		u.register()
		u.session(1)
		v := g.ue(bob)
		for _, stmsi := range []ident.STMSI{u.guti.STMSI(), {Set: 1, Pointer: 3, TMSI: 1}, {Set: 9}} {
			v.connect(v.encode(&nas.ServiceRequest{STMSI: stmsi}))
			if m := wantDownlink[*nas.ServiceReject](v, "not verified"); m.Cause != nas.MMIdentityCannotBeDerived {
				t.Fatalf("cause %d, want 9", m.Cause)
			}
			v.wantRelease(ngap.NASUnspecified, "rejected")
		}
		if s, _ := u.status(); !s.Connected || s.State != "REGISTERED" || len(s.Sessions) != 1 {
			t.Errorf("%+v: want the real UE unchanged", s)
		}
	})
}
