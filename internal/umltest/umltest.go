// Package umltest boots a user-mode-linux kernel for a test that needs a peer
// which the host's kernel does not have: SCTP, GTP-U, netem. The guest sees the
// host's files read-only and has one interface, a TAP in a network namespace that
// is the test's own; nothing of it is visible outside. Boot owns the guest's
// processes and two goroutines and ends them when the test ends. It needs root,
// /dev/net/tun and Debian's packages user-mode-linux and kmod, and skips without
// them, unless SIMREACH_REQUIRE lists uml.
package umltest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/simreach/simreach/internal/testenv"
)

const (
	kernelBinary = "linux.uml"
	moduleTree   = "/usr/lib/uml/modules"
	device       = "tap0"
	bootTimeout  = 60 * time.Second
)

// Options say what the guest shall be.
type Options struct {
	Modules []string // loaded with modprobe, in this order
	Memory  int      // MiB; zero: 128
	// Script is shell text that runs once the interface is up; it fails the test if
	// its last command fails. Later commands go through Machine.Run.
	Script string
}

// Machine is a running guest. Run may be called from one goroutine at a time,
// the other methods from any.
type Machine struct {
	Host  netip.Addr // address of the TAP, on our side
	Guest netip.Addr // address of vec0, on the guest's side

	t      testing.TB
	stdin  *os.File
	lines  chan string   // the console, line by line; closed at its end
	ns     chan func()   // to the thread that is in the namespace
	nsDone chan struct{} // closed when that thread has ended
	serial int
}

// Boot starts a guest and returns when its shell answers. The guest ends with
// the test.
func Boot(t testing.TB, o Options) *Machine {
	t.Helper()
	testenv.Require(t, "uml", missing())
	if o.Memory == 0 {
		o.Memory = 128
	}
	m := &Machine{
		Host:   netip.AddrFrom4([4]byte{198, 18, 0, 1}), // RFC 2544's test network
		Guest:  netip.AddrFrom4([4]byte{198, 18, 0, 2}),
		t:      t,
		lines:  make(chan string, 4096),
		ns:     make(chan func()),
		nsDone: make(chan struct{}),
	}
	if err := m.enter(); err != nil {
		t.Fatalf("network namespace of the guest: %v", err)
	}
	if err := m.start(o); err != nil {
		t.Fatalf("start %s: %v", kernelBinary, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), bootTimeout)
	defer cancel()
	if out, err := m.Run(ctx, "true"); err != nil {
		t.Fatalf("guest does not come up: %v\n%s", err, out)
	}
	for _, mod := range o.Modules {
		if out, err := m.Run(ctx, "/mnt/modprobe "+mod); err != nil {
			t.Fatalf("modprobe %s: %v: %s", mod, err, out)
		}
	}
	if o.Script != "" {
		if out, err := m.Run(ctx, o.Script); err != nil {
			t.Fatalf("script: %v: %s", err, out)
		}
	}
	return m
}

// missing tells what the machine lacks.
func missing() error {
	if os.Geteuid() != 0 {
		return errors.New("not root")
	}
	for _, name := range []string{kernelBinary, "modprobe", "ip", "sh"} {
		if _, err := exec.LookPath(name); err != nil {
			return err
		}
	}
	if trees, err := filepath.Glob(moduleTree + "/*/modules.dep"); err != nil || len(trees) == 0 {
		return errors.New("no modules under " + moduleTree)
	}
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// In runs f on the thread that is in the guest's network namespace: sockets that
// f opens can talk to the guest, and stay there. f must not start goroutines that
// open sockets.
func (m *Machine) In(f func()) {
	done := make(chan struct{})
	m.ns <- func() {
		defer close(done) // also if f ends its goroutine, as t.Fatal does
		f()
	}
	<-done
}

// enter makes the namespace, on a thread that ends with the test, and with it the
// namespace and its TAP. What the thread starts is refused ptrace's XSTATE.
func (m *Machine) enter() error {
	ready := make(chan error, 1)
	go func() {
		defer close(m.nsDone)
		runtime.LockOSThread() // never unlocked: the runtime then ends the thread
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ready <- os.NewSyscallError("unshare", err)
			return
		}
		if err := m.openTAP(); err != nil {
			ready <- err
			return
		}
		if err := refuseXState(); err != nil {
			ready <- err
			return
		}
		ready <- nil
		for f := range m.ns {
			f()
		}
	}()
	if err := <-ready; err != nil {
		<-m.nsDone
		return err
	}
	m.t.Cleanup(func() {
		close(m.ns)
		<-m.nsDone
	})
	return nil
}

// ntX86XState is the register set with everything that XSAVE knows (elf.h, NT_X86_XSTATE).
const ntX86XState = 0x202

// refuseXState lets the calling thread, and what it starts, read no XSTATE register set by
// ptrace. The guest's kernel keeps its processes' floating point in a buffer of 2,696 bytes,
// which is too small where the processor has AMX: it could not start one process. Refused the
// set when it boots, it keeps the x87 and SSE registers only, on every processor, and the
// guest's programs must use no others (see sseInC).
func refuseXState() error {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	// ifNot skips that many instructions unless the loaded word is k.
	ifNot := func(k uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: skip, K: k}
	}
	end := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	// Offsets are those of struct seccomp_data on a little-endian machine: nr, arch,
	// instruction_pointer, args.
	filter := []unix.SockFilter{
		load(4), ifNot(unix.AUDIT_ARCH_X86_64, 7),
		load(0), ifNot(unix.SYS_PTRACE, 5),
		load(16), ifNot(unix.PTRACE_GETREGSET, 3),
		load(32), ifNot(ntX86XState, 1),
		end(unix.SECCOMP_RET_ERRNO | uint32(unix.EINVAL)),
		end(unix.SECCOMP_RET_ALLOW),
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
	return os.NewSyscallError("seccomp filter", err)
}

// openTAP makes a persistent TAP, to which the guest then attaches itself, and
// brings it and the loopback up.
func (m *Machine) openTAP() error {
	tun, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open /dev/net/tun", err)
	}
	defer unix.Close(tun)
	req, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(tun, unix.TUNSETIFF, req); err != nil {
		return os.NewSyscallError("TUNSETIFF", err)
	}
	if err := unix.IoctlSetInt(tun, unix.TUNSETPERSIST, 1); err != nil {
		return os.NewSyscallError("TUNSETPERSIST", err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	host := m.Host.As4()
	for _, step := range []struct {
		name string
		op   uint
		ip   []byte
	}{
		{"SIOCSIFADDR", unix.SIOCSIFADDR, host[:]},
		{"SIOCSIFNETMASK", unix.SIOCSIFNETMASK, []byte{255, 255, 255, 0}},
	} {
		if err := req.SetInet4Addr(step.ip); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(s, step.op, req); err != nil {
			return os.NewSyscallError(step.name, err)
		}
	}
	for _, name := range []string{device, "lo"} {
		up, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		up.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, up); err != nil {
			return os.NewSyscallError("SIOCSIFFLAGS "+name, err)
		}
	}
	return nil
}

// The guest's programs keep to SSE, those in C by the first variable and those in Go by the
// second: its kernel saves no wider registers (see refuseXState).
const (
	sseInC  = "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512BW,-AVX512VL,-AVX_Fast_Unaligned_Load"
	sseInGo = "GODEBUG=cpu.all=off"
)

// initScript is the guest's process 1. The console is its standard input, from
// which it takes commands for ever. The kernel, too, shall find the modules: its
// SCTP wants sha1 when it listens.
const initScript = `#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/root/lib
ln -s %s /mnt/root/lib/modules
printf '#!/bin/sh\nexport %s\nexec /sbin/modprobe -d /mnt/root "$@"\n' >/mnt/modprobe
chmod +x /mnt/modprobe
echo /mnt/modprobe >/proc/sys/kernel/modprobe
ip link set lo up
ip addr add %s/24 dev vec0
ip link set vec0 up
stty -echo
exec sh
`

func (m *Machine) start(o Options) error {
	dir := m.t.TempDir()
	script := filepath.Join(dir, "init")
	if err := os.WriteFile(script, fmt.Appendf(nil, initScript, moduleTree, sseInC, m.Guest), 0o755); err != nil {
		return err
	}
	in, stdin, err := os.Pipe()
	if err != nil {
		return err
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		return errors.Join(err, in.Close(), stdin.Close())
	}
	cmd := exec.Command(kernelBinary,
		"root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "init="+script,
		"mem="+strconv.Itoa(o.Memory)+"M", "con=null", "con0=fd:0,fd:1", "quiet", "umid=simreach-"+strconv.Itoa(os.Getpid())+"-"+filepath.Base(dir),
		"uml_dir="+dir, sseInC, sseInGo, "vec0:transport=tap,ifname="+device,
	)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, stdout, stdout
	cmd.Env = append(os.Environ(), "TMPDIR=/dev/shm", "HOME=/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL} // one group, to be ended as one
	m.In(func() { err = cmd.Start() })
	_ = in.Close()
	_ = stdout.Close()
	if err != nil {
		return errors.Join(err, stdin.Close(), out.Close())
	}
	m.stdin = stdin
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(m.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case m.lines <- strings.TrimRight(s.Text(), "\r"):
			default: // nobody wants the console: the guest must not block on it
			}
		}
	}()
	m.t.Cleanup(func() {
		_ = stdin.Close()
		// The guest's processes are children of the kernel's and share its group.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait() // ends by our signal
		for end := time.Now().Add(5 * time.Second); syscall.Kill(-cmd.Process.Pid, 0) == nil && time.Now().Before(end); {
			<-time.After(5 * time.Millisecond) // until process 1 has reaped the rest of the group
		}
		_ = out.SetReadDeadline(time.Now().Add(5 * time.Second))
		<-read
		_ = out.Close()
	})
	return nil
}

var doneMark = regexp.MustCompile(`__done_(\d+)_(\d+)$`)

// Run has the guest's shell run text and returns what the console showed
// meanwhile. The error tells a status other than zero, the end of ctx or of the
// guest. After the end of ctx the shell may still be busy.
func (m *Machine) Run(ctx context.Context, text string) (string, error) {
	m.serial++
	// Split, so that an echo of the command is not taken for its end.
	if _, err := fmt.Fprintf(m.stdin, "{ %s\n}; echo __done\"\"_%d_$?\n", text, m.serial); err != nil {
		return "", fmt.Errorf("guest console: %w", err)
	}
	var out strings.Builder
	for {
		select {
		case line, ok := <-m.lines:
			if !ok {
				return out.String(), errors.New("guest has ended")
			}
			if f := doneMark.FindStringSubmatch(line); f != nil && f[1] == strconv.Itoa(m.serial) {
				out.WriteString(strings.TrimSuffix(line, f[0]))
				if f[2] != "0" {
					return out.String(), fmt.Errorf("guest command: status %s", f[2])
				}
				return out.String(), nil
			}
			out.WriteString(line + "\n")
		case <-ctx.Done():
			return out.String(), ctx.Err()
		}
	}
}

// Build compiles a Go package of this module for the guest, statically, and
// returns the program's path, which is the same in the guest.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return path
}
