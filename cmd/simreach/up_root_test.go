package main

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/netns"
	"github.com/simreach/simreach/netns/netnstest"
)

// newHost makes a namespace that stands for the host, so that tests disturb neither
// the machine nor each other: the program joins the namespace that it runs in.
func newHost(t *testing.T) *netns.NS {
	t.Helper()
	netnstest.Require(t)
	h, err := netns.Create(netns.Prefix + "host" + strconv.Itoa(os.Getpid()) + "-" + strings.ToLower(t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(h.Close(), netns.Remove(h.Name())); err != nil {
			t.Error(err)
		}
	})
	return h
}

// up starts a topology and returns it with its run ID and what was printed.
func up(t *testing.T, host *netns.NS, file string) (p *process, run string, printed string) {
	t.Helper()
	p = startProcess(t, host.Start, "up", "--backend", "netns", file)
	printed = strings.Join(p.await("Ctrl-C ends it"), "\n")
	m := regexp.MustCompile(`(?m)^  run +([0-9a-f]{6})$`).FindStringSubmatch(printed)
	if m == nil {
		t.Fatalf("no run ID printed:\n%s", printed)
	}
	return p, m[1], printed
}

// wantNothing wants a run to have left nothing.
func wantNothing(t *testing.T, host *netns.NS, run, tmp string) {
	t.Helper()
	names, err := netns.List(netns.Prefix + run + "-")
	if err != nil || len(names) > 0 {
		t.Errorf("namespaces left behind: %v, %v", names, err)
	}
	links, err := host.Interfaces()
	if err != nil || !slices.Equal(links, []string{"lo"}) {
		t.Errorf("want lo only on the host, got %v, %v", links, err)
	}
	pids, err := host.Processes()
	if err != nil {
		t.Error(err)
	}
	for _, pid := range pids {
		text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		t.Errorf("process %d left behind: %q", pid, text)
	}
	if _, err := os.Stat("/run/simreach/" + run + ".lock"); err == nil {
		t.Error("the lock file is left behind")
	}
	wantEmpty(t, tmp)
}

// readmeCommands returns the curl commands of README, each on one line.
func readmeCommands(t *testing.T) (out []string) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		if c := strings.TrimSpace(line); strings.HasPrefix(line, "    curl ") {
			out = append(out, c)
		}
	}
	return out
}

// TestRootUpServesTheHost does what README says a client on the host can do, with
// README's own commands.
func TestRootUpServesTheHost(t *testing.T) {
	host := newHost(t)
	testenv.Program(t, "programs", "curl")
	p, run, printed := up(t, host, "../../scenarios/library/attach-and-connect.yaml")
	find := func(pattern, in string) string {
		t.Helper()
		m := regexp.MustCompile(pattern).FindStringSubmatch(in)
		if m == nil {
			t.Fatalf("no %q in:\n%s", pattern, in)
		}
		return m[1]
	}
	words := []string{
		"//API/", "//" + find(`manager's REST API +http://(\S+)`, printed) + "/",
		`"KEYID"`, `"` + find(`auth key +(\S+) `, printed) + `"`,
		`"KEY"`, `"` + find(`auth key +\S+ (\S+)`, printed) + `"`,
	}
	shell := func(command string) (string, error) {
		var out, errOut bytes.Buffer
		c := exec.Command("timeout", "20", "sh", "-c", strings.NewReplacer(words...).Replace(command))
		c.Stdout, c.Stderr = &out, &errOut
		err := host.Start(c)
		if err == nil {
			err = c.Wait()
		}
		if err != nil {
			return "", errors.New(err.Error() + ": " + errOut.String())
		}
		return out.String(), nil
	}
	must := func(command string) string {
		t.Helper()
		out, err := shell(command)
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		return out
	}
	commands := readmeCommands(t)
	if len(commands) != 4 {
		t.Fatalf("README has these curl commands: %q", commands)
	}
	login := must(commands[0])
	words = append(words, " APIKEY", " "+find(`"apiKey":"([^"]+)"`, login), " TOKEN", " "+find(`"token":"([^"]+)"`, login))
	mapping := must(commands[1])
	ip, port := find(`"ipAddress":"([^"]+)"`, mapping), find(`"port":([0-9]+),"source"`, mapping)
	words = append(words, "IPADDRESS:PORT", ip+":"+port, "IPADDRESS/PORT", ip+"/"+port)
	if got := find(`"ipRanges":\["([^"]+)"\]`, mapping); got != "198.18.0.6/32" {
		t.Errorf("the access must be for the caller's own address, got %s", got)
	}
	if got := must(commands[2]); !strings.Contains(got, "001010000000001") {
		t.Errorf("want the device to tell its IMSI, got %q", got)
	}
	const head = ` -H "X-Soracom-API-Key: APIKEY" -H "X-Soracom-Token: TOKEN"`
	if got := must("curl -sS http://API/v1/port_mappings" + head); !strings.Contains(got, `"endpoint":"`+ip+":"+port+`"`) {
		t.Errorf("the list must have the access, got %s", got)
	}
	if got := must(commands[3] + " -w '%{http_code}'"); got != "204" {
		t.Errorf("DELETE: want 204 without a body, got %s", got)
	}
	if out, err := shell(commands[2]); err == nil {
		t.Errorf("the deleted access must be refused, got %q", out)
	}
	if got := must("curl -sS http://API/v1/port_mappings" + head); strings.TrimSpace(got) != "[]" {
		t.Errorf("want no access left, got %s", got)
	}

	t.Run("exec", func(t *testing.T) { execOnNodes(t, run) })
	t.Run("second", func(t *testing.T) { secondUp(t, host, run) })
	t.Run("clean", func(t *testing.T) {
		code, out, stderr := output(t, host.Start, nil, "clean")
		if code != 0 || !strings.Contains(out, "run "+run+" is alive: left alone\n") {
			t.Errorf("clean must leave it alone: code %d, %s%s", code, out, stderr)
		}
	})
	if got := must(commands[0]); !strings.Contains(got, "apiKey") {
		t.Errorf("the topology must still answer, got %s", got)
	}

	p.signal(os.Interrupt)
	if code, rest := p.wait(); code != 0 || rest != "" || p.stderr.Len() > 0 {
		t.Errorf("want a quiet end with code 0, got %d, %q, %s", code, rest, p.stderr.String())
	}
	wantNothing(t, host, run, p.tmp)
}

func execOnNodes(t *testing.T, run string) {
	for _, tt := range []struct {
		name        string
		args        []string
		in          string
		code        int
		out, stderr string // patterns
	}{
		{name: "a UE has its session's address", args: []string{"north-1", "--", "ip", "-4", "-o", "addr", "show", "pdu1"}, out: `inet 10\.45\.\d+\.\d+/32`},
		{name: "a gNB", args: []string{"gnb1", "--", "ip", "-4", "-o", "addr"}, out: `198\.18\.3\.10/24`},
		{name: "input, output and exit code are the program's", args: []string{"south-2", "--", "sh", "-c", "cat; exit 7"}, in: "hello", code: 7, out: "^hello$"},
		{name: "killed by a signal", args: []string{"gnb2", "--", "sh", "-c", "kill -TERM $$"}, code: -1},
		{name: "a UE reaches the N6 side through the core", args: []string{"north-1", "--", "timeout", "10", "bash", "-c", "echo > /dev/tcp/198.19.0.7/9"}, code: 1, stderr: "Connection refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testenv.Program(t, "programs", tt.args[2])
			code, out, stderr := output(t, (*exec.Cmd).Start, strings.NewReader(tt.in), append([]string{"exec", "--run", run}, tt.args...)...)
			if code != tt.code || !regexp.MustCompile(tt.out).MatchString(out) || !regexp.MustCompile(tt.stderr).MatchString(stderr) {
				t.Errorf("want code %d, %q and %q, got %d, %q, %q", tt.code, tt.out, tt.stderr, code, out, stderr)
			}
		})
	}
}

// secondUp wants a second topology to be refused while one is up: both would have
// the same addresses on the host.
func secondUp(t *testing.T, host *netns.NS, run string) {
	p := startProcess(t, host.Start, "up", "--backend", "netns", "testdata/small.yaml")
	code, rest := p.wait()
	if code != 2 || rest != "" || !strings.Contains(p.stderr.String(), "another topology (run "+run+") is up") {
		t.Errorf("want it refused with the name of the first: code %d, %q, %s", code, rest, p.stderr.String())
	}
	wantEmpty(t, p.tmp)
}

// TestRootUpRefusesATakenNetwork: the host uses the addresses itself.
func TestRootUpRefusesATakenNetwork(t *testing.T) {
	host := newHost(t)
	if err := host.AddBridge("lab0"); err != nil {
		t.Fatal(err)
	}
	if err := host.Configure("lab0", netip.MustParsePrefix("198.18.0.250/16")); err != nil {
		t.Fatal(err)
	}
	code, out, stderr := output(t, host.Start, nil, "up", "--backend", "netns", "testdata/small.yaml")
	if code != 2 || out != "" || !strings.Contains(stderr, "interface lab0 has an address in 198.18.0.0/24") {
		t.Errorf("want it refused with the interface's name: code %d, %q, %s", code, out, stderr)
	}
}

// TestRootInterruptedRun: Ctrl-C in the middle of a run leaves nothing.
func TestRootInterruptedRun(t *testing.T) {
	host := newHost(t)
	interrupt(t, "netns", host.Start)
	names, err := netns.List(netns.Prefix)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasSuffix(n, "-ue-waits") {
			t.Errorf("left behind: %s", n)
		}
	}
}

// TestRootUpInterruptedEarly: Ctrl-C while the topology is being built.
func TestRootUpInterruptedEarly(t *testing.T) {
	host := newHost(t)
	p := startProcess(t, host.Start, "up", "--backend", "netns", "--log-level", "debug", "testdata/waits.yaml")
	run := runOfProcess(t, p)
	p.signal(syscall.SIGTERM)
	if code, rest := p.wait(); code != codeInterrupted && code != 0 {
		t.Errorf("want exit code %d, got %d: %s%s", codeInterrupted, code, rest, p.stderr.String())
	}
	wantNothing(t, host, run, p.tmp)
}

// runOfProcess returns the ID of the run of a process that has not printed it: its
// directory is named after it.
func runOfProcess(t *testing.T, p *process) string {
	t.Helper()
	for t.Context().Err() == nil {
		dirs, err := filepath.Glob(filepath.Join(p.tmp, netns.Prefix+"*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range dirs {
			if m := regexp.MustCompile(`^` + netns.Prefix + `([0-9a-f]{6})-`).FindStringSubmatch(filepath.Base(d)); m != nil {
				return m[1]
			}
		}
		pause()
	}
	t.Fatal("no run began")
	return ""
}
