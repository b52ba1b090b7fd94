package aka

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"testing/iotest"
)

// Home network keys of TS 33.501 clauses C.4.3 and C.4.4.
const (
	privateAHex = "c53c22208b61860b06c62e5406a7b330c2b577aa5558981510d128247d38bd1d"
	publicAHex  = "5a8d38864820197c3394b92613b20b91633cbd897119273bf8e4a6f4eec0a650"
	privateBHex = "f1ab1074477ebcc7f554ea1c5fc368b1616730155e0041ac447d6301975fecda"
	publicBHex  = "0272da71976234ce833a6907425867b82e074d44ef907dfb4b3e21c1c2256ebcd1"
	publicBFull = "0472da71976234ce833a6907425867b82e074d44ef907dfb4b3e21c1c2256ebcd15a7ded52fcbb097a4ed250e036c7b9c8c7004c4eedc4f068cd7bf8d3f900e3b4"
	msinC4      = "00012080f6"
	usernameC4  = "766572796c6f6e67757365726e616d6531" // verylongusername1
	outputAMSIN = "b2e92f836055a255837debf850b528997ce0201cb82adfe4be1f587d07d8457dcb02352410cddd9e730ef3fa87"
	outputAName = "977d8b2fdaa7b64aa700d04227d5b440630ea4ec50f9082273a26bb678c922228e358a1582adb15322c10e515141d2039a12e1d7783a97f1ac"
	outputBMSIN = "039aab8376597021e855679a9778ea0b67396e68c66df32c0f41e9acca2da9b9d146a33fc2716ac7dae96aa30a4d"
	outputBName = "03759bb22c563d9f4a6b3c1419e543fc2f39d6823f02a9d71162b39399218b244bbe22d8b9f856a52ed381cd7eaf4cf2d5253cddc61a0a7882eb"
	ephAMSIN    = "c80949f13ebe61af4ebdbd293ea4f942696b9e815d7e8f0096bbf6ed7de62256"
	ephAName    = "be9eff3e9f22a4b42a3d236e7a6c500b3f2e7e0c7449988ba800d664bf4fcd97"
	ephBMSIN    = "99798858a1dc6a2c68637149a4b1dbfd1fdff5addd62a2142f06699ed7602529"
	ephBName    = "90a5898bd29ffa3f261e00e980067c70a2b1b992a21f5b4fef6d4df69fe804ad"
)

func TestSchemeOutputVectors(t *testing.T) {
	for _, c := range []struct {
		name                             string
		conceal                          func(pub, in []byte, eph *bytes.Reader) ([]byte, error)
		decrypt                          func(priv, out []byte) ([]byte, error)
		public, private, eph, in, output string
	}{
		{"C.4.3.1", concealA, DecryptA, publicAHex, privateAHex, ephAMSIN, msinC4, outputAMSIN},
		{"C.4.3.2", concealA, DecryptA, publicAHex, privateAHex, ephAName, usernameC4, outputAName},
		{"C.4.4.1", concealB, DecryptB, publicBHex, privateBHex, ephBMSIN, msinC4, outputBMSIN},
		{"C.4.4.1 uncompressed", concealB, DecryptB, publicBFull, privateBHex, ephBMSIN, msinC4, outputBMSIN},
		{"C.4.4.2", concealB, DecryptB, publicBHex, privateBHex, ephBName, usernameC4, outputBName},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.conceal(unhex(t, c.public), unhex(t, c.in), bytes.NewReader(unhex(t, c.eph)))
			if err != nil {
				t.Fatal(err)
			}
			is(t, "scheme output", got, c.output)
			plain, err := c.decrypt(unhex(t, c.private), unhex(t, c.output))
			if err != nil {
				t.Fatal(err)
			}
			is(t, "scheme input", plain, c.in)
		})
	}
}

func concealA(pub, in []byte, eph *bytes.Reader) ([]byte, error) { return ConcealA(pub, in, eph) }
func concealB(pub, in []byte, eph *bytes.Reader) ([]byte, error) { return ConcealB(pub, in, eph) }

func TestPublicKeys(t *testing.T) {
	a, err := PublicA(unhex(t, privateAHex))
	if err != nil {
		t.Fatal(err)
	}
	is(t, "profile A public key", a, publicAHex)
	b, err := PublicB(unhex(t, privateBHex))
	if err != nil {
		t.Fatal(err)
	}
	is(t, "profile B public key", b, publicBHex)
	for _, bad := range [][]byte{nil, make([]byte, 31), make([]byte, 33)} {
		if _, err := PublicA(bad); !errors.Is(err, ErrHomeKey) {
			t.Errorf("PublicA(%d octets) = %v, want ErrHomeKey", len(bad), err)
		}
		if _, err := PublicB(bad); !errors.Is(err, ErrHomeKey) {
			t.Errorf("PublicB(%d octets) = %v, want ErrHomeKey", len(bad), err)
		}
	}
	if _, err := PublicB(make([]byte, 32)); !errors.Is(err, ErrHomeKey) {
		t.Errorf("PublicB(0) = %v, want ErrHomeKey: zero is no P-256 scalar", err)
	}
}

func TestRoundTripAnyMSIN(t *testing.T) {
	for n := 1; n <= 10; n++ {
		msin := strings.Repeat("9", n)
		bcd, err := MSINToBCD(msin)
		if err != nil {
			t.Fatal(err)
		}
		outA, err := ConcealA(unhex(t, publicAHex), bcd, nil)
		if err != nil {
			t.Fatal(err)
		}
		outB, err := ConcealB(unhex(t, publicBHex), bcd, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range [][]byte{must(DecryptA(unhex(t, privateAHex), outA)), must(DecryptB(unhex(t, privateBHex), outB))} {
			if s, err := MSINFromBCD(got); err != nil || s != msin {
				t.Errorf("a concealed MSIN came back as %q, %v, want %q", s, err, msin)
			}
		}
	}
}

func must(b []byte, _ error) []byte { return b }

func TestDecryptRefusals(t *testing.T) {
	a, b := unhex(t, outputAMSIN), unhex(t, outputBMSIN)
	flip := func(in []byte, i int) []byte {
		out := bytes.Clone(in)
		out[i] ^= 1
		return out
	}
	lowOrder := append(make([]byte, 32), a[32:]...)
	offCurve := flip(b, 0)
	offCurve[0] = 5
	for _, c := range []struct {
		name string
		err  error
		got  func() ([]byte, error)
	}{
		{"A too short", ErrSchemeOutput, func() ([]byte, error) { return DecryptA(unhex(t, privateAHex), a[:40]) }},
		{"A nil", ErrSchemeOutput, func() ([]byte, error) { return DecryptA(unhex(t, privateAHex), nil) }},
		{"A low order point", ErrSchemeOutput, func() ([]byte, error) { return DecryptA(unhex(t, privateAHex), lowOrder) }},
		{"A altered ciphertext", ErrMACTag, func() ([]byte, error) { return DecryptA(unhex(t, privateAHex), flip(a, 34)) }},
		{"A altered tag", ErrMACTag, func() ([]byte, error) { return DecryptA(unhex(t, privateAHex), flip(a, 40)) }},
		{"A other key", ErrMACTag, func() ([]byte, error) { return DecryptA(flip(unhex(t, privateAHex), 5), a) }},
		{"A no key", ErrHomeKey, func() ([]byte, error) { return DecryptA(nil, a) }},
		{"B too short", ErrSchemeOutput, func() ([]byte, error) { return DecryptB(unhex(t, privateBHex), b[:41]) }},
		{"B not a point", ErrSchemeOutput, func() ([]byte, error) { return DecryptB(unhex(t, privateBHex), offCurve) }},
		{"B altered tag", ErrMACTag, func() ([]byte, error) { return DecryptB(unhex(t, privateBHex), flip(b, 45)) }},
		{"B no key", ErrHomeKey, func() ([]byte, error) { return DecryptB(nil, b) }},
	} {
		if plain, err := c.got(); !errors.Is(err, c.err) || plain != nil {
			t.Errorf("%s: got %x, %v, want nothing and %v", c.name, plain, err, c.err)
		}
	}
	if _, err := ConcealA(unhex(t, publicBHex), []byte{1}, nil); !errors.Is(err, ErrHomeKey) {
		t.Errorf("ConcealA with a profile B key = %v, want ErrHomeKey", err)
	}
	if _, err := ConcealB(unhex(t, publicAHex), []byte{1}, nil); !errors.Is(err, ErrHomeKey) {
		t.Errorf("ConcealB with a profile A key = %v, want ErrHomeKey", err)
	}
	if _, err := ConcealB(unhex(t, publicBHex), []byte{1}, iotest.ErrReader(errors.New("no entropy"))); err == nil {
		t.Error("ConcealB succeeded without randomness")
	}
	if _, err := ConcealB(unhex(t, publicBHex), []byte{1}, bytes.NewReader(make([]byte, 32*8))); err == nil {
		t.Error("ConcealB used zero as its ephemeral key")
	}
}

func TestMSINBCD(t *testing.T) {
	for msin, want := range map[string]string{"001002086": msinC4, "1": "f1", "0000000001": "0000000010"} {
		got, err := MSINToBCD(msin)
		if err != nil {
			t.Fatal(err)
		}
		is(t, "BCD of "+msin, got, want)
		if back, err := MSINFromBCD(got); err != nil || back != msin {
			t.Errorf("MSINFromBCD(%x) = %q, %v, want %q", got, back, err, msin)
		}
	}
	for _, bad := range []string{"", "12345678901", "12a4", "12 4", "１"} {
		if _, err := MSINToBCD(bad); !errors.Is(err, ErrMSIN) {
			t.Errorf("MSINToBCD(%q) = %v, want ErrMSIN", bad, err)
		}
	}
	for _, bad := range []string{"", "010203040506", "f101", "0f", "a1", "1a", "ff"} {
		if _, err := MSINFromBCD(unhex(t, bad)); !errors.Is(err, ErrMSIN) {
			t.Errorf("MSINFromBCD(%s) = %v, want ErrMSIN", bad, err)
		}
	}
}

func FuzzDecryptA(f *testing.F) {
	fuzzDecrypt(f, privateAHex, DecryptA, outputAMSIN, outputAName)
}

func FuzzDecryptB(f *testing.F) {
	fuzzDecrypt(f, privateBHex, DecryptB, outputBMSIN, outputBName)
}

// fuzzDecrypt: whatever comes in, exactly one of plaintext and typed error comes out.
func fuzzDecrypt(f *testing.F, private string, decrypt func(priv, out []byte) ([]byte, error), seeds ...string) {
	for _, s := range seeds {
		f.Add(unhex(f, s))
	}
	f.Add([]byte{})
	priv := unhex(f, private)
	f.Fuzz(func(t *testing.T, out []byte) {
		plain, err := decrypt(priv, out)
		typed := errors.Is(err, ErrSchemeOutput) || errors.Is(err, ErrMACTag)
		if (err == nil) == (plain == nil) || (err != nil && !typed) {
			t.Fatalf("decrypt(%x) = %x, %v", out, plain, err)
		}
		if err == nil {
			_, _ = MSINFromBCD(plain)
		}
	})
}
