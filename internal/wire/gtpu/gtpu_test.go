package gtpu

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/wmnsk/go-gtp/gtpv1/message"

	"github.com/simreach/simreach/internal/ident"
)

// headers and their bytes, written out by hand from TS 29.281 and TS 38.415.
var headers = []struct {
	name    string
	header  Header
	payload []byte
	bytes   []byte
}{
	{"G-PDU", Header{Type: GPDU, TEID: 0x01020304}, []byte("ip"),
		[]byte{0x30, 255, 0, 2, 1, 2, 3, 4, 'i', 'p'}},
	{"G-PDU with sequence number", Header{Type: GPDU, TEID: 1, HasSequence: true, Sequence: 0x1234}, []byte("ip"),
		[]byte{0x32, 255, 0, 6, 0, 0, 0, 1, 0x12, 0x34, 0, 0, 'i', 'p'}},
	{"G-PDU, downlink, QFI 9", Header{Type: GPDU, TEID: 1, HasQFI: true, QFI: 9}, []byte("ip"),
		[]byte{0x34, 255, 0, 10, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0x00, 9, 0, 'i', 'p'}},
	{"G-PDU, uplink, QFI 63", Header{Type: GPDU, TEID: 1, HasQFI: true, QFI: 63, Uplink: true}, []byte("ip"),
		[]byte{0x34, 255, 0, 10, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0x10, 63, 0, 'i', 'p'}},
	{"G-PDU, sequence number and QFI", Header{Type: GPDU, TEID: 1, HasSequence: true, Sequence: 7, HasQFI: true, QFI: 1}, nil,
		[]byte{0x36, 255, 0, 8, 0, 0, 0, 1, 0, 7, 0, 0x85, 1, 0, 1, 0}},
	{"End Marker", Header{Type: EndMarker, TEID: 0xffffffff}, nil,
		[]byte{0x30, 254, 0, 0, 0xff, 0xff, 0xff, 0xff}},
}

func TestHeaderBothWays(t *testing.T) {
	for _, tt := range headers {
		t.Run(tt.name, func(t *testing.T) {
			b := make([]byte, tt.header.Size()+len(tt.payload))
			n := tt.header.Put(b, len(tt.payload))
			copy(b[n:], tt.payload)
			if !bytes.Equal(b, tt.bytes) {
				t.Errorf("Put: % x, want % x", b, tt.bytes)
			}
			h, payload, err := Parse(tt.bytes)
			if err != nil {
				t.Fatal(err)
			}
			if h != tt.header || !bytes.Equal(payload, tt.payload) {
				t.Errorf("Parse: %+v %q, want %+v %q", h, payload, tt.header, tt.payload)
			}
		})
	}
}

// TestAgainstLibrary checks our header code against one that is not ours.
func TestAgainstLibrary(t *testing.T) {
	for _, tt := range headers {
		lib, err := message.ParseHeader(tt.bytes)
		if err != nil {
			t.Errorf("%s: library: %v", tt.name, err)
			continue
		}
		if lib.Type != uint8(tt.header.Type) || lib.TEID != uint32(tt.header.TEID) || !bytes.Equal(lib.Payload, tt.payload) {
			t.Errorf("%s: library reads %v", tt.name, lib)
		}
	}
	container := message.NewExtensionHeader(message.ExtHeaderTypePDUSessionContainer, []byte{0x10, 5}, message.ExtHeaderTypeNoMoreExtensionHeaders)
	port := message.NewExtensionHeader(message.ExtHeaderTypeUDPPort, []byte{0x08, 0x68}, message.ExtHeaderTypePDUSessionContainer)
	b, err := message.NewHeaderWithExtensionHeaders(0x30, 255, 77, 0, []byte("ip"), port, container).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	h, payload, err := Parse(b)
	want := Header{Type: GPDU, TEID: 77, HasQFI: true, QFI: 5, Uplink: true}
	if err != nil || h != want || string(payload) != "ip" {
		t.Errorf("chain of two: %+v %q %v, want %+v", h, payload, err, want)
	}
}

func TestParseReceivedForms(t *testing.T) {
	tests := []struct {
		name string
		b    []byte
		want Header
		rest string
		err  error
	}{
		{"octets after the length are not payload", []byte{0x30, 255, 0, 1, 0, 0, 0, 1, 'a', 'b'}, Header{Type: GPDU, TEID: 1}, "a", nil},
		{"N-PDU number", []byte{0x31, 255, 0, 5, 0, 0, 0, 1, 9, 9, 9, 9, 'a'}, Header{Type: GPDU, TEID: 1}, "a", nil},
		{"sequence number only counts with its flag", []byte{0x34, 255, 0, 5, 0, 0, 0, 1, 9, 9, 9, 0, 'a'}, Header{Type: GPDU, TEID: 1}, "a", nil},
		{"long container with optional fields", []byte{0x34, 255, 0, 13, 0, 0, 0, 1, 0, 0, 0, 0x85, 2, 0x08, 0xc9, 1, 2, 3, 4, 0, 'a'},
			Header{Type: GPDU, TEID: 1, HasQFI: true, QFI: 9}, "a", nil},
		{"unknown extension nobody must understand", []byte{0x34, 255, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0x20, 1, 0, 0, 0, 'a'}, Header{Type: GPDU, TEID: 1}, "a", nil},
		{"unknown extension an intermediate node must understand", []byte{0x34, 255, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0x40, 1, 0, 0, 0, 'a'}, Header{Type: GPDU, TEID: 1}, "a", nil},
		{"unknown extension the endpoint must understand", []byte{0x34, 255, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0x84, 1, 0, 0, 0, 'a'}, Header{Type: GPDU, TEID: 1}, "", ErrUnknownExtension},
		{"the same with bit 7", []byte{0x34, 255, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0xc0, 1, 0, 0, 0, 'a'}, Header{Type: GPDU, TEID: 1}, "", ErrUnknownExtension},
		{"empty", nil, Header{}, "", ErrTooShort},
		{"seven octets", make([]byte, 7), Header{}, "", ErrTooShort},
		{"GTPv2", []byte{0x50, 1, 0, 0, 0, 0, 0, 0}, Header{}, "", ErrVersion},
		{"GTP'", []byte{0x20, 1, 0, 0, 0, 0, 0, 0}, Header{}, "", ErrProtocol},
		{"length past the end", []byte{0x30, 255, 0, 2, 0, 0, 0, 1, 'a'}, Header{}, "", ErrLength},
		{"optional fields missing", []byte{0x32, 255, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0}, Header{Type: GPDU, TEID: 1}, "", ErrLength},
		{"extension missing", []byte{0x34, 255, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0x85}, Header{Type: GPDU, TEID: 1}, "", ErrExtension},
		{"extension of length 0", []byte{0x34, 255, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0x20, 0, 0, 0, 0}, Header{Type: GPDU, TEID: 1}, "", ErrExtension},
		{"extension past the end", []byte{0x34, 255, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0x85, 2, 0, 0, 0}, Header{Type: GPDU, TEID: 1}, "", ErrExtension},
		{"chain without end", []byte{0x34, 255, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0x20, 1, 0, 0, 0x20}, Header{Type: GPDU, TEID: 1}, "", ErrExtension},
		{"container of unknown PDU type", []byte{0x34, 255, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0x20, 0, 0}, Header{Type: GPDU, TEID: 1}, "", ErrExtension},
	}
	for _, tt := range tests {
		h, payload, err := Parse(tt.b)
		if !errors.Is(err, tt.err) || h != tt.want || string(payload) != tt.rest {
			t.Errorf("%s: got %+v %q %v, want %+v %q %v", tt.name, h, payload, err, tt.want, tt.rest, tt.err)
		}
	}
}

func TestSignalling(t *testing.T) {
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	v4 := ident.FTEID{Addr: netip.MustParseAddr("192.0.2.1"), TEID: 0xcafe0001}
	v6 := ident.FTEID{Addr: netip.MustParseAddr("2001:db8::1"), TEID: 2}
	for _, tt := range []struct {
		name      string
		got, want []byte
	}{
		{"Echo Request", must(EncodeEchoRequest(0x0102)), []byte{0x32, 1, 0, 4, 0, 0, 0, 0, 1, 2, 0, 0}},
		{"Echo Response", must(EncodeEchoResponse(0x0102)), []byte{0x32, 2, 0, 6, 0, 0, 0, 0, 1, 2, 0, 0, 14, 0}},
		{"Error Indication", must(EncodeErrorIndication(v4)),
			[]byte{0x32, 26, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0xca, 0xfe, 0, 1, 133, 0, 4, 192, 0, 2, 1}},
		{"End Marker", EncodeEndMarker(0x0a0b0c0d), []byte{0x30, 254, 0, 0, 10, 11, 12, 13}},
		{"Supported Extension Headers Notification", must(EncodeSupportedExtensionHeaders()),
			[]byte{0x32, 31, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 141, 1, 0x85}},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		h, _, err := Parse(tt.got)
		if err != nil || h.Type.String() != tt.name {
			t.Errorf("Parse gives %v, %v, want %s", h.Type, err, tt.name)
		}
	}
	for _, want := range []ident.FTEID{v4, v6} {
		_, payload, err := Parse(must(EncodeErrorIndication(want)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeErrorIndication(payload); err != nil || got != want {
			t.Errorf("Error Indication: %v, %v, want %v", got, err, want)
		}
	}
	_, payload, _ := Parse(must(EncodeSupportedExtensionHeaders()))
	if got, err := DecodeSupportedExtensionHeaders(payload); err != nil || !bytes.Equal(got, Supported()) {
		t.Errorf("Supported Extension Headers: % x, %v", got, err)
	}
}

func TestSignallingErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		payload []byte
		want    error
	}{
		"nothing":               {nil, ErrMissingIE},
		"TEID only":             {[]byte{16, 0, 0, 0, 1}, ErrMissingIE},
		"address only":          {[]byte{133, 0, 4, 192, 0, 2, 1}, ErrMissingIE},
		"address of 5 octets":   {[]byte{16, 0, 0, 0, 1, 133, 0, 5, 1, 2, 3, 4, 5}, ErrMalformedIE},
		"length past the end":   {[]byte{16, 0, 0, 0, 1, 133, 0, 9, 1}, ErrMalformedIE},
		"TEID cut off":          {[]byte{16, 0, 0}, ErrMalformedIE},
		"length field cut off":  {[]byte{133, 0}, ErrMalformedIE},
		"private extension cut": {[]byte{255, 0}, ErrMalformedIE},
	} {
		if _, err := DecodeErrorIndication(tt.payload); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	if _, err := DecodeSupportedExtensionHeaders(nil); !errors.Is(err, ErrMissingIE) {
		t.Errorf("empty notification: %v, want ErrMissingIE", err)
	}
}

func TestPacketPathDoesNotAllocate(t *testing.T) {
	b := make([]byte, 1500)
	h := Header{Type: GPDU, TEID: 5, HasQFI: true, QFI: 9}
	h.Put(b, len(b)-h.Size())
	unknown := []byte{0x34, 255, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0x84, 1, 0, 0, 0}
	if n := testing.AllocsPerRun(100, func() {
		h, p, err := Parse(b)
		if err != nil || h.Put(b, len(p)) != GPDUWithQFISize {
			t.Error("round trip failed")
		}
		Parse(unknown)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, tt := range headers {
		f.Add(tt.bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, payload, err := Parse(b)
		if err != nil {
			return
		}
		again := make([]byte, h.Size()+len(payload))
		copy(again[h.Put(again, len(payload)):], payload)
		h2, payload2, err := Parse(again)
		if err != nil || h2 != h || !bytes.Equal(payload, payload2) {
			t.Errorf("re-encoded %+v %x reads as %+v %x, %v", h, payload, h2, payload2, err)
		}
	})
}

func FuzzSignalling(f *testing.F) {
	f.Add([]byte{16, 0, 0, 0, 1, 133, 0, 4, 192, 0, 2, 1})
	f.Add([]byte{141, 1, 0x85})
	f.Add([]byte{14, 0, 255, 0, 3, 0, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		DecodeSupportedExtensionHeaders(b)
		peer, err := DecodeErrorIndication(b)
		if err != nil {
			return
		}
		again, err := EncodeErrorIndication(peer)
		if err != nil {
			t.Fatal(err)
		}
		_, payload, err := Parse(again)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeErrorIndication(payload); err != nil || got.TEID != peer.TEID || got.Addr.Unmap() != peer.Addr.Unmap() {
			t.Errorf("re-encoded %v reads as %v, %v", peer, got, err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	p := make([]byte, 1400)
	h := Header{Type: GPDU, TEID: 5, HasQFI: true, QFI: 9, Uplink: true}
	h.Put(p, len(p)-h.Size())
	b.ReportAllocs()
	for b.Loop() {
		Parse(p)
	}
}

func BenchmarkPut(b *testing.B) {
	p := make([]byte, 1400)
	h := Header{Type: GPDU, TEID: 5, HasQFI: true, QFI: 9}
	b.ReportAllocs()
	for b.Loop() {
		h.Put(p, 1384)
	}
}
