package inproc

import (
	"bytes"
	"os"
	"testing"

	"github.com/simreach/simreach/scenarios/lab"
)

// TestDescribeNamesTheCA: a client that is started by hand finds what to trust, for as
// long as the topology is up.
func TestDescribeNamesTheCA(t *testing.T) {
	l, err := New().Start(t.Context(), worldSpec(t), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	file := ""
	for _, p := range l.Describe() {
		if p.What == "CA of the relays" {
			file = p.Where
		}
	}
	if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, l.Trust()) {
		t.Errorf("%q: %v; want the CA's certificate in it", file, err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}
