package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket/pcapgo"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/netns"
)

var update = flag.Bool("update", false, "rewrite testdata/help.golden and the scripts' expected files")

// asMain makes the test binary behave as the program: for the scripts, and for the
// processes of the nodes, which are started from the program's own file.
const asMain = "SIMREACH_TEST_AS_MAIN=1"

func TestMain(m *testing.M) {
	if os.Getenv("SIMREACH_TEST_AS_MAIN") == "1" {
		os.Exit(run(os.Args[1:]))
	}
	testscript.Main(m, map[string]func(){"simreach": func() { os.Exit(run(os.Args[1:])) }})
}

// TestScripts runs the scripts of testdata/script: the program as a user without
// privileges meets it. As root it runs without the capability to make namespaces.
func TestScripts(t *testing.T) {
	var drop []string
	if netns.Available() == nil {
		// To run as one who may not make network namespaces.
		testenv.Program(t, "programs", "setpriv")
		drop = []string{"setpriv", "--bounding-set=-sys_admin,-net_admin"}
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(e *testscript.Env) error {
			for _, f := range []string{"small.yaml", "fails.yaml"} {
				text, err := os.ReadFile(filepath.Join("testdata", f))
				if err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(e.WorkDir, f), text, 0o644); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":     func(ts *testscript.TestScript, _ bool, args []string) { code(ts, drop, args) },
			"cmpplain": plain,
			"xmlok":    wellFormed,
			"pcapok":   captures,
		},
	})
}

// code runs the program without privileges and wants an exit code of it:
// "code 2 run x.yaml".
func code(ts *testscript.TestScript, drop, args []string) {
	want := args[0]
	args = append(append([]string{}, drop...), append([]string{"simreach"}, args[1:]...)...)
	got := 0
	if err := ts.Exec(args[0], args[1:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if want != fmt.Sprint(got) {
		ts.Fatalf("want exit code %s, got %d", want, got)
	}
}

var times = regexp.MustCompile(`\b[0-9.]+m?s\b`)

// plain compares standard output with a file, which has TIME for times.
func plain(ts *testscript.TestScript, _ bool, args []string) {
	got := times.ReplaceAllString(ts.ReadFile("stdout"), "TIME")
	if d := cmp.Diff(ts.ReadFile(args[0]), got); d != "" {
		ts.Fatalf("standard output differs (-want +got):\n%s", d)
	}
}

// wellFormed wants a file to be XML with the elements named after it:
// "xmlok out/junit.xml testcase failure".
func wellFormed(ts *testscript.TestScript, _ bool, args []string) {
	d := xml.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	seen := map[string]bool{}
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			ts.Fatalf("%s: %v", args[0], err)
		}
		if e, ok := tok.(xml.StartElement); ok {
			seen[e.Name.Local] = true
		}
	}
	for _, want := range args[1:] {
		if !seen[want] {
			ts.Fatalf("%s: no element %s", args[0], want)
		}
	}
}

// captures wants files to be packet captures with at least one packet that is not
// cut off.
func captures(ts *testscript.TestScript, _ bool, args []string) {
	for _, f := range args {
		r, err := pcapgo.NewReader(strings.NewReader(ts.ReadFile(f)))
		n := 0
		for err == nil {
			if _, _, err = r.ReadPacketData(); err == nil {
				n++
			}
		}
		if n == 0 || !errors.Is(err, io.EOF) {
			ts.Fatalf("%s: %d packets and then %v", f, n, err)
		}
	}
}

// TestHelp compares every command's help with testdata/help.golden.
func TestHelp(t *testing.T) {
	var got bytes.Buffer
	help := func(args ...string) {
		cmd := rootCommand()
		cmd.SetOut(&got)
		cmd.SetArgs(append(args, "--help"))
		fmt.Fprintf(&got, "$ simreach %s\n", strings.Join(append(args, "--help"), " "))
		if err := cmd.Execute(); err != nil {
			t.Error(err)
		}
		fmt.Fprintln(&got)
	}
	help()
	for _, c := range rootCommand().Commands() {
		help(c.Name())
	}
	const golden = "testdata/help.golden"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("the help changed; if that is meant, run 'go test ./cmd/simreach -run TestHelp -update' (-want +got):\n%s", d)
	}
}

// TestUnknownCommands: a command that does not exist was not done, at any depth.
func TestUnknownCommands(t *testing.T) {
	for _, args := range []string{"nosuch", "access nosuch", "access credential nosuch 1", "relay nosuch", "bench nosuch"} {
		cmd := rootCommand()
		cmd.SetOut(io.Discard)
		cmd.SetArgs(strings.Fields(args))
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), `unknown command "nosuch"`) {
			t.Errorf("simreach %s: %v; want a refusal that names what is unknown", args, err)
		}
	}
	for _, args := range []string{"access", "access credential", "relay", "bench"} {
		var out bytes.Buffer
		cmd := rootCommand()
		cmd.SetOut(&out)
		cmd.SetArgs(strings.Fields(args))
		if err := cmd.Execute(); err != nil || !strings.Contains(out.String(), "Available Commands:") {
			t.Errorf("simreach %s: %v, %s; want the help", args, err, out.String())
		}
	}
}
