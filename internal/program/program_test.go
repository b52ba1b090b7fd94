package program_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"go.uber.org/goleak"

	"github.com/simreach/simreach/internal/program"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestExitCodeAndOutput(t *testing.T) {
	var out bytes.Buffer
	p, err := program.Start(t.Context(), program.Spec{Args: []string{"sh", "-c", "cat; exit 3"}, Stdin: bytes.NewBufferString("in"), Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if code, err := p.Wait(); code != 3 || err != nil || out.String() != "in" {
		t.Errorf("want code 3 and the input, got %d, %v, %q", code, err, out.String())
	}
}

func TestStopReachesChildren(t *testing.T) {
	r, w := io.Pipe()
	p, err := program.Start(t.Context(), program.Spec{Args: []string{"sh", "-c", "trap '' TERM; cat & echo started; wait; wait"}, Stdin: nil, Stdout: w})
	if err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("started\n"))
	if _, err := io.ReadFull(r, line); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err == nil {
		t.Log("the shell ended by itself after its child")
	}
	w.Close()
}

func TestContextKills(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p, err := program.Start(ctx, program.Spec{Args: []string{"sleep", "60"}})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if code, err := p.Wait(); err == nil || code != -1 {
		t.Errorf("want the program killed, got code %d, %v", code, err)
	}
}

func TestMissingProgramIsNamed(t *testing.T) {
	if _, err := program.Start(t.Context(), program.Spec{Args: []string{"simreach-no-such-program"}}); err == nil {
		t.Error("want an error")
	}
}
