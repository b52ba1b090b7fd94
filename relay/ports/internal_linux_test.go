package ports

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/simreach/simreach/internal/testenv"
)

func TestCandidatesLieBesideTheRangeIfTheyCan(t *testing.T) {
	for _, tt := range []struct {
		first, last uint16
		n           int
		best        uint16
	}{
		{40000, 65000, 33, 65001},
		{1, math.MaxUint16, 17, 65535},
		{40000, math.MaxUint16, 17, 39999},
		{1026, 65530, 8, 65531},
		{80, 81, 17, 82},
	} {
		c := candidates(tt.first, tt.last)
		if len(c) != tt.n || c[0] != tt.best || c[len(c)-1] != 0 {
			t.Errorf("%d to %d: %v", tt.first, tt.last, c)
		}
		if c[0] != tt.last && slices.ContainsFunc(c, func(p uint16) bool { return tt.first <= p && p <= tt.last }) {
			t.Errorf("%d to %d: %v has a port of the range", tt.first, tt.last, c)
		}
	}
}

// diagAnswer is one answer of sock_diag.
func diagAnswer(kind uint16, body []byte) []byte {
	b := make([]byte, netlinkHeader, netlinkHeader+len(body))
	binary.NativeEndian.PutUint32(b, uint32(netlinkHeader+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	return append(b, body...)
}

func diagSocket(family byte, local netip.AddrPort) []byte {
	b := make([]byte, diagMessage)
	b[0], b[1] = family, stateSynRecv
	binary.BigEndian.PutUint16(b[diagID:], local.Port())
	copy(b[diagID+4:], local.Addr().AsSlice())
	return diagAnswer(diagByFamily, b)
}

func TestParseDiag(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("198.18.0.1:40001"), netip.MustParseAddrPort("[2001:db8::1]:40002")
	var got []netip.AddrPort
	each := func(_ handshake, local netip.AddrPort) { got = append(got, local) }
	done, err := parseDiag(append(diagSocket(unix.AF_INET, v4), diagSocket(unix.AF_INET6, v6)...), each)
	if done || err != nil || !slices.Equal(got, []netip.AddrPort{v4, v6}) {
		t.Errorf("%v, %v, %v", done, err, got)
	}
	if done, err := parseDiag(diagAnswer(unix.NLMSG_DONE, make([]byte, 4)), each); !done || err != nil {
		t.Errorf("done: %v, %v", done, err)
	}
	refused := make([]byte, 4)
	code := -int32(unix.EPERM)
	binary.NativeEndian.PutUint32(refused, uint32(code))
	if _, err := parseDiag(diagAnswer(unix.NLMSG_ERROR, refused), each); !errors.Is(err, unix.EPERM) {
		t.Errorf("error: %v", err)
	}
	for _, b := range [][]byte{diagAnswer(diagByFamily, make([]byte, diagMessage-1)), diagAnswer(unix.NLMSG_ERROR, nil), make([]byte, netlinkHeader)} {
		if _, err := parseDiag(b, each); !errors.Is(err, errDiag) {
			t.Errorf("malformed: %v", err)
		}
	}
}

// FuzzParseDiag: no answer makes the reader panic or report more than it holds.
func FuzzParseDiag(f *testing.F) {
	f.Add(diagSocket(unix.AF_INET, netip.MustParseAddrPort("198.18.0.1:40001")))
	f.Add(diagSocket(unix.AF_INET6, netip.MustParseAddrPort("[2001:db8::1]:40002")))
	f.Add(diagAnswer(unix.NLMSG_DONE, make([]byte, 4)))
	f.Add(diagAnswer(unix.NLMSG_ERROR, []byte{255, 255, 255, 255}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		_, _ = parseDiag(b, func(handshake, netip.AddrPort) { n++ })
		if n*(netlinkHeader+diagMessage) > len(b) {
			t.Errorf("%d sockets in %d bytes", n, len(b))
		}
	})
}

// compiler is what made the committed program: another version makes other bytes.
const compiler = "Debian clang version 14.0.6"

func TestGeneratedIsCommitted(t *testing.T) {
	version, err := exec.Command("clang", "--version").Output()
	if err == nil && !strings.HasPrefix(string(version), compiler) {
		err = errors.New("clang is another version")
	}
	testenv.Require(t, "clang", err)
	_, err = exec.LookPath("llvm-strip")
	testenv.Require(t, "clang", err)

	source, err := os.ReadFile("generate.go")
	if err != nil {
		t.Fatal(err)
	}
	_, line, ok := strings.Cut(string(source), "//go:generate go tool bpf2go ")
	if !ok {
		t.Fatal("generate.go does not say how")
	}
	line, flags, _ := strings.Cut(strings.TrimSpace(line), ` -cflags "`)
	flags, rest, _ := strings.Cut(flags, `"`)
	dir := t.TempDir()
	args := append([]string{"tool", "bpf2go", "-output-dir", dir, "-cflags", flags}, strings.Fields(line+rest)...)
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), "GOPACKAGE=ports")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	made, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(made) != 4 {
		t.Fatal(made, err)
	}
	for _, name := range made {
		want, err := os.ReadFile(filepath.Base(name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != string(want) {
			t.Errorf("%s is not what go generate makes: %v", filepath.Base(name), err)
		}
	}
}
