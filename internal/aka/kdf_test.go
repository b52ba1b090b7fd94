package aka

import (
	"testing"

	"github.com/simreach/simreach/internal/ident"
)

// A published run of the whole chain: made-up CK, IK, AK, SQN ff and a RES of 16
// octets in PLMN 001-01, then each key from the one before it.
func TestKeyHierarchy(t *testing.T) {
	snn := ident.PLMN{MCC: "001", MNC: "01"}.ServingNetworkName()
	ck := [16]byte(unhex(t, "0102030405060708090a0b0c0d0e0f00"))
	ik := [16]byte(unhex(t, "02030405060708090a0b0c0d0e0f0001"))
	ak := [6]byte{3, 4, 5, 6, 7, 8}

	resStar := RESStar(ck, ik, snn, [16]byte{}, unhex(t, "000102030405060708090a0b0c0d0e0f"))
	is(t, "RES*", resStar[:], "157248ef1b852f19c3e6a5e5bedb675c")
	kausf := KAUSF(ck, ik, snn, XorSQN(0xff, ak))
	is(t, "KAUSF", kausf[:], "20de4eb2b75c8dac301ad52773e2e37bd7b4b0c2fdb1c3751b98dd0df846aed5")
	kseaf := KSEAF(kausf, snn)
	is(t, "KSEAF", kseaf[:], "d2bbc63b0c141247341c0fca3dc3bffdc6bfc1813489342de8487e7e4dc3728b")
	kamf := KAMF(kseaf, "imsi-001010123456789", []byte{0, 0})
	is(t, "KAMF", kamf[:], "7e9f97707cef48318df182a7f9e7ba838a6fb36ab83a7d1baf2610b97a5b9dcf")
	kgnb := KGNB(kamf, 0)
	is(t, "KgNB", kgnb[:], "617c2f3db714a5a10597591a25feb21a159ea7796109292b0b2ca579d9002b0c")
	if KGNB(kamf, 1) == kgnb {
		t.Error("KgNB does not depend on the uplink NAS COUNT")
	}
}

// Another published run, of K = OP = RAND = 00112233..., in PLMN 001-01.
func TestHXRESStar(t *testing.T) {
	x := [16]byte(unhex(t, "00112233445566778899aabbccddeeff"))
	res, ck, ik, _ := NewMilenage(x, OPc(x, x)).F2345(x)
	resStar := RESStar(ck, ik, "5G:mnc001.mcc001.3gppnetwork.org", x, res[:])
	is(t, "RES*", resStar[:], "31b6d938a5290ccc65bc829f9820a8d9")
	h := HXRESStar(x, resStar)
	is(t, "HXRES*", h[:], "3308fb7cf06a35f1cd086b904ce82ecf")
}

func TestRESStarSet1(t *testing.T) {
	// Milenage of TS 35.207 set 1, in PLMN 001-01.
	m := NewMilenage([16]byte(unhex(t, "465b5ce8b199b49faa5f0a2ee238a6bc")), [16]byte(unhex(t, "cd63cb71954a9f4e48a5994e37a02baf")))
	rand := [16]byte(unhex(t, "23553cbe9637a89d218ae64dae47bf35"))
	res, ck, ik, _ := m.F2345(rand)
	got := RESStar(ck, ik, "5G:mnc001.mcc001.3gppnetwork.org", rand, res[:])
	is(t, "RES*", got[:], "f236a7417272bfb2d66d4d670733b527")
}

// The expected keys were computed with another language's HMAC from the text of
// TS 33.501 clause A.8.
func TestNASKeys(t *testing.T) {
	kamf := [32]byte(unhex(t, "7e9f97707cef48318df182a7f9e7ba838a6fb36ab83a7d1baf2610b97a5b9dcf"))
	for alg, want := range [][2]string{
		{"4b033d0d1b79520fedbc1ebead576ac1", "b12a63fa9ad507af60ee3759b447b08b"},
		{"c9f0488b259dac69d4b5c63c03223fda", "e08a6f5ca2e3eb1f56ce2b35140f0b66"},
		{"1c3a9de3b2c556a000e18df333ec8cbb", "425df2ab2139ed36baf2c30a641f94f9"},
		{"ca22ef3343655216110424e663217887", "265a42c68fa9b34b63e005220253394f"},
	} {
		enc, integ := NASKeys(kamf, uint8(alg), uint8(alg))
		is(t, "K_NASenc", enc[:], want[0])
		is(t, "K_NASint", integ[:], want[1])
	}
}
