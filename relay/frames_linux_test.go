package relay

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

// framed is bytes as a relay sends them: each text in a frame.
func framed(texts ...string) string {
	var f framing
	b := ""
	for _, text := range texts {
		b += string(f.wrapped([]byte(text)))
	}
	return b
}

func (f *framing) wrapped(text []byte) []byte {
	b := append(make([]byte, frameHead), text...)
	f.wrap(b, len(text))
	return b
}

func tail(heads ...uint16) string { return string(frames(heads...)) }

// What is wrapped is unwrapped, wherever the stream is cut, and the 16,384th byte is raw.
func TestFrames(t *testing.T) {
	for _, sizes := range [][]int{{1}, {1, 2, 3}, {frameMax}, {frameMax, 1}, {frameMax + 1, 7}, {frameMax - 1, 1, 1}, {frameMax - 1, 2, 70_000}} {
		for _, cut := range []int{1, 2, 3, 1000, 1 << 20} {
			sender, receiver := framing{framed: true}, framing{framed: true}
			var sent, stream, got []byte
			for k, size := range sizes {
				text := bytes.Repeat([]byte{byte(k + 1)}, size)
				sent = append(sent, text...)
				if !sender.framed {
					stream = append(stream, text...)
					continue
				}
				stream = append(stream, sender.wrapped(text)...)
			}
			if want := len(sent) <= frameMax; sender.framed != want {
				t.Errorf("%v: framed is %v after %d bytes", sizes, sender.framed, len(sent))
			}
			raw := !sender.framed
			if !raw {
				stream = append(stream, frames(frameFin, frameFree)...)
			}
			ended := false
			for len(stream) > 0 {
				n := min(cut, len(stream))
				piece := bytes.Clone(stream[:n])
				stream = stream[n:]
				if !receiver.framed {
					got = append(got, piece...)
					continue
				}
				payload, fin, e := receiver.unwrap(piece)
				if e != 0 {
					t.Fatalf("%v cut at %d: %v", sizes, cut, e)
				}
				got = append(got, payload...)
				if fin {
					ended = true
					break // what comes later, the pair does not read
				}
			}
			if !bytes.Equal(got, sent) || ended == raw || receiver.framed == raw {
				t.Errorf("%v cut at %d: %d bytes of %d, ended %v, framed %v", sizes, cut, len(got), len(sent), ended, receiver.framed)
			}
			if want := !raw && len(stream) == 0; receiver.free != want {
				t.Errorf("%v cut at %d: free is %v", sizes, cut, receiver.free)
			}
		}
	}
}

// What is no sequence of frames is said to be none.
func TestFramesThatAreNone(t *testing.T) {
	for _, stream := range []string{
		tail(0), tail(0x4000), tail(0x7fff), tail(0xffff), tail(frameFree), tail(frameBye), tail(frameFin, 1), framed("a") + tail(frameFin, frameFin),
		tail(frameFin, frameRaw), tail(frameFin, frameBye), tail(frameFin, frameFree, frameFree), tail(frameFin, frameFree, frameBye, frameBye),
	} {
		f := framing{framed: true}
		if payload, fin, e := f.unwrap([]byte(stream)); e != unix.EPROTO || len(payload) != 0 || fin {
			t.Errorf("%x: %q, %v, %v", stream, payload, fin, e)
		}
	}
	f := framing{framed: true}
	if payload, fin, e := f.unwrap([]byte(framed("last") + tail(frameFin, frameFree, frameBye))); e != 0 || string(payload) != "last" || !fin || f.free {
		t.Errorf("free and bye: %q, %v, %v, free %v", payload, fin, e, f.free)
	}
}

// Whatever comes, a direction is the same however it is cut.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(framed("hello", "you")+tail(frameFin, frameFree)), uint8(1), uint16(0))
	f.Add([]byte("ahead"+framed("hello")+tail(frameRaw)+"raw"), uint8(3), uint16(5))
	f.Add([]byte(tail(frameFin, frameFree, frameBye)), uint8(2), uint16(0))
	f.Fuzz(func(t *testing.T, stream []byte, cut uint8, ahead uint16) {
		read := func(size int) (got []byte, fin bool, e error) {
			f := framing{framed: true, count: ahead}
			for rest := bytes.Clone(stream); len(rest) > 0 && !fin; {
				n := min(size, len(rest))
				if !f.framed {
					return append(got, rest...), false, nil
				}
				payload, last, e := f.unwrap(rest[:n])
				if e != 0 {
					return nil, false, e
				}
				got, fin, rest = append(got, payload...), last, rest[n:]
			}
			return got, fin, nil
		}
		whole, fin, e := read(len(stream) + 1)
		pieces, finPieces, ePieces := read(int(cut) + 1)
		if len(whole) > len(stream) {
			t.Fatalf("%d bytes of %d", len(whole), len(stream))
		}
		if e == nil && (ePieces != nil || !bytes.Equal(whole, pieces) || fin != finPieces) {
			t.Fatalf("whole %q, %v; in pieces %q, %v, %v", whole, fin, pieces, finPieces, ePieces)
		}
		if ePieces != nil && e == nil {
			t.Fatalf("whole: no error; in pieces: %v", ePieces)
		}
	})
}
