package nas

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	lib "github.com/free5gc/nas/security"
)

// One vector for each algorithm, of TS 33.401 annex C and the ETSI/SAGE
// specifications of EEA3 and EIA3; those whose length is no whole octet are
// compared as far as they are.
func TestCipherVectors(t *testing.T) {
	for _, c := range []struct {
		name              string
		nea               uint8
		count             uint32
		bearer, direction uint8
		key, in, out      string
	}{
		{"NEA1 set 3", 1, 0xfa556b26, 0x03, 1, "5acb1d644c0d51204ea5f1451010d852",
			"ad9c441f890b38c457a49d421407e8", "ba0f31300334c56b52a7497cbac046"},
		{"NEA2 set 1", 2, 0x398a59b4, 0x15, 1, "d3c5d592327fb11c4035c6680af8c6d1",
			"981ba6824c1bfb1ab485472029b71d808ce33e2cc3c0b5fc1f3de8a6dc66b1",
			"e9fed8a63d155304d71df20bf3e82214b20ed7dad2f233dc3c22d7bdeeed8e"},
		{"NEA3 set 1", 3, 0x66035492, 0x0f, 0, "173d14ba5003731d7a60049470f00a29",
			"6cf65340735552ab0c9752fa6f9025fe0bd675d9005875b2",
			"a6c85fc66afb8533aafc2518dfe784940ee1e4b030238cc8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := streamCipher(c.nea, [16]byte(unhex(t, c.key)), c.count, c.bearer, c.direction, unhex(t, c.in))
			if err != nil || !bytes.Equal(out, unhex(t, c.out)) {
				t.Errorf("got %x, %v; want %s", out, err, c.out)
			}
		})
	}
}

func TestMACVectors(t *testing.T) {
	for _, c := range []struct {
		name              string
		nia               uint8
		count             uint32
		bearer, direction uint8
		key, in, mac      string
	}{
		{"NIA1 set 1", 1, 0x38a6f056, 0x1f, 0, "2bd6459f82c5b300952c49104881ff48",
			"3332346263393861373479", "731f1165"},
		{"NIA2 set 2", 2, 0x398a59b4, 0x1a, 1, "d3c5d592327fb11c4035c6680af8c6d1",
			"484583d5afe082ae", "b93787e6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mac, err := messageMAC(c.nia, [16]byte(unhex(t, c.key)), c.count, c.bearer, c.direction, unhex(t, c.in))
			if err != nil || !bytes.Equal(mac[:], unhex(t, c.mac)) {
				t.Errorf("got %x, %v; want %s", mac, err, c.mac)
			}
		})
	}
	// All sets of EIA3 have odd lengths, which our messages never have.
	t.Run("NIA3 set 2", func(t *testing.T) {
		key := [16]byte(unhex(t, "47054125561eb2dda94059da05097850"))
		mac, err := lib.NIA3(key, 0x561eb2dd, 0x14, 0, make([]byte, 12), 90)
		if err != nil || !bytes.Equal(mac, unhex(t, "6719a088")) {
			t.Errorf("got %x, %v", mac, err)
		}
	})
}

var (
	encKey   = [16]byte([]byte("a ciphering key!"))
	integKey = [16]byte([]byte("an integrity key"))
)

func contexts(nea, nia uint8) (ue, amf *SecurityContext) {
	return NewSecurityContext(1, nea, nia, encKey, integKey, false),
		NewSecurityContext(1, nea, nia, encKey, integKey, true)
}

var plain = []byte{0x7e, 0, 0x64, 0x6f} // 5GMM STATUS

func TestProtect(t *testing.T) {
	for nea := range uint8(4) {
		for nia := uint8(1); nia < 4; nia++ {
			t.Run(fmt.Sprintf("NEA%d NIA%d", nea, nia), func(t *testing.T) {
				ue, amf := contexts(nea, nia)
				for i := range uint32(300) { // past the wrap of the sequence number
					for _, d := range []struct {
						from, to  *SecurityContext
						direction uint8
					}{{ue, amf, 0}, {amf, ue, 1}} {
						pdu, err := d.from.Protect(plain, HeaderIntegrityCiphered)
						if err != nil {
							t.Fatal(err)
						}
						// The layout of TS 24.501 clause 8.2.28, by the algorithms alone.
						body, _ := streamCipher(nea, encKey, i, 1, d.direction, plain)
						mac, _ := messageMAC(nia, integKey, i, 1, d.direction, append([]byte{byte(i)}, body...))
						want := append(append(append([]byte{0x7e, 2}, mac[:]...), byte(i)), body...)
						if !bytes.Equal(pdu, want) {
							t.Fatalf("message %d:\n got %x\nwant %x", i, pdu, want)
						}
						got, h, err := d.to.Unprotect(pdu)
						if err != nil || h != HeaderIntegrityCiphered || !bytes.Equal(got, plain) {
							t.Fatalf("message %d: got %x, %d, %v", i, got, h, err)
						}
					}
				}
				for _, c := range []*SecurityContext{ue, amf} {
					if c.UplinkCount() != 299 || c.DownlinkCount() != 299 {
						t.Errorf("counts %d up, %d down; want 299", c.UplinkCount(), c.DownlinkCount())
					}
				}
			})
		}
	}
}

func TestUnprotectReplayAndLoss(t *testing.T) {
	ue, amf := contexts(2, 2)
	var pdus [][]byte
	for range 600 {
		pdu, err := ue.Protect(plain, HeaderIntegrity)
		if err != nil {
			t.Fatal(err)
		}
		pdus = append(pdus, pdu)
	}
	for _, step := range []struct {
		message int
		want    error
		why     string
	}{
		{0, nil, "the first"},
		{0, ErrReplay, "the same once more"},
		{10, nil, "nine were lost"},
		{9, ErrReplay, "older than the last one accepted"},
		{10, ErrReplay, "the last one accepted"},
		{265, nil, "254 were lost: the sequence number wrapped"},
		{265, ErrReplay, "again"},
		{11, ErrReplay, "from before the wrap"},
		{9, ErrMAC, "too far back to be recognised as a copy"},
		{522, ErrMAC, "256 were lost: more than the sequence number can tell"},
		{521, nil, "one less is the most"},
		{522, nil, "and so on"},
	} {
		_, _, err := amf.Unprotect(pdus[step.message])
		if !errors.Is(err, step.want) {
			t.Errorf("message %d (%s): %v, want %v", step.message, step.why, err, step.want)
		}
	}
	if got := amf.UplinkCount(); got != 522 {
		t.Errorf("uplink count %d, want 522", got)
	}
}

func TestUnprotectTampered(t *testing.T) {
	ue, amf := contexts(1, 3)
	pdu, err := ue.Protect(plain, HeaderIntegrityCiphered)
	if err != nil {
		t.Fatal(err)
	}
	for i := 2; i < len(pdu); i++ {
		bad := bytes.Clone(pdu)
		bad[i] ^= 1
		if _, _, err := amf.Unprotect(bad); !errors.Is(err, ErrMAC) {
			t.Errorf("octet %d changed: %v, want ErrMAC", i, err)
		}
	}
	for n := range len(pdu) {
		if _, _, err := amf.Unprotect(pdu[:n]); err == nil {
			t.Errorf("%d octets accepted", n)
		}
	}
	if _, _, err := amf.Unprotect(pdu); err != nil {
		t.Errorf("after all that the real message is refused: %v", err)
	}
	if _, _, err := ue.Unprotect(pdu); !errors.Is(err, ErrMAC) {
		t.Errorf("our own message reflected: %v, want ErrMAC", err)
	}
}

func TestCountEnds(t *testing.T) {
	ue, amf := contexts(0, 2)
	ue.sent.set(maxCount - 1)
	amf.received.set(maxCount - 1)
	pdu, err := ue.Protect(plain, HeaderIntegrity)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := amf.Unprotect(pdu); err != nil {
		t.Fatal(err)
	}
	if _, err := ue.Protect(plain, HeaderIntegrity); !errors.Is(err, ErrCount) {
		t.Errorf("after the last count: %v, want ErrCount", err)
	}
	if _, _, err := amf.Unprotect(pdu); !errors.Is(err, ErrCount) {
		t.Errorf("after the last count: %v, want ErrCount", err)
	}
}

func TestHeaders(t *testing.T) {
	smc, err := Encode(&SecurityModeCommand{Ciphering: 2, Integrity: 2, NGKSI: 1})
	if err != nil {
		t.Fatal(err)
	}
	complete, err := Encode(&SecurityModeComplete{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		network bool
		plain   []byte
		h       SecurityHeader
		ok      bool
	}{
		{"integrity", false, plain, HeaderIntegrity, true},
		{"plain is no protection", false, plain, HeaderPlain, false},
		{"reserved type", true, plain, 5, false},
		{"security mode command", true, smc, HeaderIntegrityNew, true},
		{"security mode command ciphered", true, smc, HeaderIntegrityCipheredNew, false},
		{"security mode command by a UE", false, smc, HeaderIntegrityNew, false},
		{"another message as if security mode command", true, plain, HeaderIntegrityNew, false},
		{"security mode complete", false, complete, HeaderIntegrityCipheredNew, true},
		{"security mode complete by the network", true, complete, HeaderIntegrityCipheredNew, false},
		{"5GSM message", false, []byte{0x2e, 5, 9, 0xd1}, HeaderIntegrity, false},
		{"protected twice", false, []byte{0x7e, 2, 0, 0, 0, 0, 0, 0x7e}, HeaderIntegrity, false},
		{"nothing", false, nil, HeaderIntegrity, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ue, amf := contexts(2, 2)
			from, to := ue, amf
			if c.network {
				from, to = amf, ue
			}
			pdu, err := from.Protect(c.plain, c.h)
			if !c.ok {
				if !errors.Is(err, ErrHeader) {
					t.Errorf("got %x, %v; want ErrHeader", pdu, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if h, err := PeekSecurityHeader(pdu); h != c.h || err != nil {
				t.Errorf("PeekSecurityHeader: %d, %v", h, err)
			}
			p, err := PeekPlain(pdu)
			if c.h.ciphered() != errors.Is(err, ErrHeader) || err == nil && !bytes.Equal(p, c.plain) {
				t.Errorf("PeekPlain: %x, %v", p, err)
			}
			if got, h, err := to.Unprotect(pdu); err != nil || h != c.h || !bytes.Equal(got, c.plain) {
				t.Errorf("Unprotect: %x, %d, %v", got, h, err)
			}
		})
	}
}

func TestNullIntegrity(t *testing.T) {
	ue, amf := contexts(0, 0)
	if _, err := ue.Protect(plain, HeaderIntegrity); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("NIA0 without permission: %v, want ErrAlgorithm", err)
	}
	if _, _, err := amf.Unprotect(append([]byte{0x7e, 1, 0, 0, 0, 0, 0}, plain...)); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("NIA0 without permission: %v, want ErrAlgorithm", err)
	}
	ue.AllowNullIntegrity()
	amf.AllowNullIntegrity()
	pdu, err := ue.Protect(plain, HeaderIntegrity)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := amf.Unprotect(pdu); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("NIA0 with permission: %x, %v", got, err)
	}
	bad := NewSecurityContext(1, 4, 2, encKey, integKey, false)
	if _, err := bad.Protect(plain, HeaderIntegrityCiphered); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("NEA4: %v, want ErrAlgorithm", err)
	}
}

func TestContainer(t *testing.T) {
	ue, amf := contexts(2, 2)
	for range 3 {
		c, err := ue.CipherContainer(plain)
		if err != nil || bytes.Equal(c, plain) {
			t.Fatalf("ciphered container %x, %v", c, err)
		}
		outer, err := Encode(&RegistrationRequest{Identity: MobileIdentity{GUTI: &guti}, NASContainer: c})
		if err != nil {
			t.Fatal(err)
		}
		pdu, err := ue.Protect(outer, HeaderIntegrity)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := amf.Unprotect(pdu)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Decode(got)
		if err != nil {
			t.Fatal(err)
		}
		inner, err := amf.DecipherContainer(m.(*RegistrationRequest).NASContainer)
		if err != nil || !bytes.Equal(inner, plain) {
			t.Errorf("deciphered container %x, %v; want %x", inner, err, plain)
		}
	}
}
