package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/manager/api"
)

// The input's end reaches the device, which answers only then; the access is given back.
func TestAccessConnectHalfClose(t *testing.T) {
	b := newTestbed(t)
	text := strings.Repeat("0123456789abcdef", 100_000)
	want := fmt.Sprintf("%d bytes for 11", len(text))
	for _, args := range [][]string{
		{"--imsi", ueOne, "--port", portLast},
		{"--sim", simOne + ":" + portLast},
		{"--imsi", ueOne, "--port", portLast, "--tls"},
		{b.create("--imsi", ueOne, "--port", portLast)},
		{b.create("--imsi", ueOne, "--port", portLast, "--tls"), "--tls", "--host", strings.ReplaceAll(b.net, ".", "-") + "2" + api.DefaultHostnameSuffix},
		{b.create("--imsi", ueOne, "--port", portLast, "--tls"), "--tls"}, // by address
	} {
		r := b.accessIn(strings.NewReader(text), append([]string{"connect"}, args...)...)
		if r.code != 0 || r.out != want || r.err != "" {
			t.Errorf("%q: code %d, %q, %q; want %q", args, r.code, r.out, r.err, want)
		}
	}
	var left []api.PortMapping
	if b.decode(b.must("list", "--json"), &left); len(left) != 3 {
		t.Errorf("%d accesses; want those three that connect did not ask for", len(left))
	}
}

// The program's output is closed when the device has said all, while its input is open:
// who reads it goes on.
func TestAccessConnectDeviceEnds(t *testing.T) {
	b := newTestbed(t)
	const port = "7009"
	heard := make(chan string, 1)
	b.device(b.net+"11:"+port, func(c *net.TCPConn) {
		io.WriteString(c, "that is all")
		c.CloseWrite()
		text, _ := io.ReadAll(c)
		heard <- string(text)
	})
	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := command(t, b.login("connect", "--imsi", ueOne, "--port", port)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, outW, os.Stderr
	if err := errors.Join(cmd.Start(), in.Close(), outW.Close()); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer late.Stop()
	if text, err := io.ReadAll(out); err != nil || string(text) != "that is all" {
		t.Errorf("read %q, %v", text, err)
	}
	io.WriteString(w, "and this from me")
	w.Close()
	if text := <-heard; text != "and this from me" {
		t.Errorf("the device heard %q", text)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	b.wantNone()
}

func TestAccessConnectRefused(t *testing.T) {
	b := newTestbed(t)
	other, err := pki.NewAuthority(pki.AuthorityConfig{})
	if err != nil {
		t.Fatal(err)
	}
	root, err := other.Pair()
	if err != nil {
		t.Fatal(err)
	}
	strange := b.write("strange.pem", string(root.Cert))
	deleted := b.create("--imsi", ueOne, "--port", portEcho)
	b.must("delete", deleted)
	denied := b.create("--imsi", ueOne, "--port", portEcho, "--range", "203.0.113.0/24")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--imsi", ueOne, "--port", "7999"}, 1, "simreach: NAP0122: The device refused the connection.\n"},
		{[]string{"--imsi", ueGone, "--port", "22"}, 1, "simreach: SEM0016: The specified subscriber is offline.\n"},
		{[]string{"--imsi", ueOne, "--port", portEcho, "--range", "203.0.113.0/24"}, 1, "simreach: NAP0106: "},
		{[]string{"--imsi", ueOne, "--port", "7999", "--tls"}, 1, "NAP0122"},
		{[]string{denied}, 1, "the relay cut the connection"},
		{[]string{deleted}, 1, "nothing is open at " + deleted},
		{[]string{"--imsi", ueOne, "--port", portEcho, "--tls", "--ca", strange}, 2, "certificate signed by unknown authority"},
		{[]string{"--imsi", ueOne, "--port", portEcho, "--tls", "--host", "other.example"}, 2, "other.example"},
		{[]string{"--many", ueOne + ":22=0", "--ca", strange}, 2, "certificate signed by unknown authority"},
		{[]string{"--many", ueOne + ":22=0," + ueOne + ":22=0"}, 1, "NAP0"},
		{[]string{"--imsi", ueOne, "--port", portEcho, "--listen", b.net + "1:8080"}, 2, "address already in use"},
	} {
		// Input stays open: what ends the command is the refusal.
		in, w := io.Pipe()
		r := b.accessIn(in, append([]string{"connect"}, c.args...)...)
		w.Close()
		if r.code != c.code || !strings.Contains(r.err, c.want) {
			t.Errorf("%q: code %d, %q; want code %d and %q", c.args, r.code, r.err, c.code, c.want)
		}
	}
	if out := b.must("list", "--json"); strings.Count(out, `"endpoint"`) != 1 {
		t.Errorf("accesses: %s; want that one that connect did not ask for", out)
	}
}

// When the access expires the connection is cut and the code says why.
func TestAccessConnectExpires(t *testing.T) {
	b := newTestbed(t)
	in, w := io.Pipe()
	defer w.Close()
	r := b.accessIn(in, "connect", "--imsi", ueOne, "--port", portEcho, "--duration", "1s")
	if r.code != 1 || !strings.Contains(r.err, "simreach: NAP0102: The port mapping expired.") {
		t.Errorf("code %d, %q; want that it expired", r.code, r.err)
	}
	r = b.access("connect", "--imsi", ueOne, "--port", portEcho, "--duration", "1s", "--listen", "127.0.0.1:0")
	if r.code != 1 || !strings.Contains(r.err, "NAP0020") {
		t.Errorf("a local port: code %d, %q; want that it expired", r.code, r.err)
	}
}

// dial connects to a local port.
func (b *testbed) dial(at string) *net.TCPConn {
	b.t.Helper()
	c, err := net.Dial("tcp", at)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// wantReset wants a connection to a local port to be reset, as soon as while it is made.
func (b *testbed) wantReset(at string) {
	b.t.Helper()
	c, err := net.Dial("tcp", at)
	if err == nil {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		b.t.Errorf("%s: %v; want a reset", at, err)
	}
}

func (b *testbed) wantEcho(c net.Conn, text string) {
	b.t.Helper()
	io.WriteString(c, text)
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		b.t.Fatalf("read %q, %v; want %q", got, err, text)
	}
}

// background runs connect in this process until stop is called, and returns what it
// printed first; told returns its standard error so far.
func (b *testbed) background(args ...string) (rows []forwarded, told func() string, stop func() ended) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	r, w := io.Pipe()
	cmd := rootCommand()
	cmd.SetArgs(b.login(append([]string{"connect", "--json"}, args...)...))
	var errOut lockedBuffer
	cmd.SetOut(w)
	cmd.SetErr(&errOut)
	over := make(chan error, 1)
	go func() {
		err := cmd.ExecuteContext(ctx)
		w.CloseWithError(io.EOF)
		over <- err
	}()
	d := json.NewDecoder(r)
	if err := d.Decode(&rows); err != nil {
		cancel()
		b.t.Fatalf("%v, %v: %s", err, <-over, errOut.String())
	}
	return rows, errOut.String, func() ended {
		cancel()
		if err := <-over; err != nil {
			return ended{code: 1, err: errOut.String() + err.Error()}
		}
		return ended{err: errOut.String()}
	}
}

// lockedBuffer is a buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type forwarded struct{ Listen, Device, Endpoint string }

func TestAccessConnectListen(t *testing.T) {
	b := newTestbed(t)
	for _, flags := range [][]string{nil, {"--tls"}} {
		rows, _, stop := b.background(append([]string{"--imsi", ueOne, "--port", portEcho, "--listen", "127.0.0.1:0"}, flags...)...)
		if len(rows) != 1 || rows[0].Device != ueOne+":"+portEcho {
			t.Fatalf("%+v", rows)
		}
		one, two := b.dial(rows[0].Listen), b.dial(rows[0].Listen)
		b.wantEcho(one, "one")
		b.wantEcho(two, "two")
		one.CloseWrite()
		if n, err := one.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("after half-close: %d, %v; want the device's end", n, err)
		}
		b.wantEcho(two, "still there")
		r := stop()
		if r.code != 0 || r.err != "" {
			t.Errorf("Ctrl-C ends it in order: code %d, %s", r.code, r.err)
		}
		if _, err := two.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a live connection at the end: %v; want a reset", err)
		}
		if c, err := net.Dial("tcp", rows[0].Listen); err == nil {
			c.Close()
			t.Error("the local port is still open")
		}
		b.wantNone()
	}
}

// A connection that fails is told, with the code, and the others go on.
func TestAccessConnectListenReports(t *testing.T) {
	b := newTestbed(t)
	rows, told, stop := b.background("--imsi", ueOne, "--port", "7999", "--listen", "127.0.0.1:0")
	b.wantReset(rows[0].Listen)
	b.eventually(func() bool { return strings.Contains(told(), "}") })
	if r := stop(); r.code != 0 || !strings.Contains(r.err, `"code": "NAP0122"`) {
		t.Errorf("code %d, %s", r.code, r.err)
	}
}

func TestAccessConnectMany(t *testing.T) {
	b := newTestbed(t)
	many := fmt.Sprintf("%s:%s=0,%s:%s=127.0.0.1:0,%s:7999=0,%s:22=0", ueOne, portEcho, ueTwo, portLast, ueOne, ueGone)
	existing := b.create("--many", "--imsi", ueOne+":"+portEcho, "--imsi", ueTwo+":"+portLast, "--imsi", ueOne+":7999", "--imsi", ueGone+":22")
	host := strings.ReplaceAll(b.net, ".", "-") + "2" + api.DefaultHostnameSuffix
	for _, args := range [][]string{{"--many", many}, {existing, "--host", host, "--many", many}} {
		rows, told, stop := b.background(args...)
		if len(rows) != 4 || rows[1].Device != ueTwo+":"+portLast || rows[0].Endpoint != rows[3].Endpoint {
			t.Fatalf("%+v", rows)
		}
		one, other := b.dial(rows[0].Listen), b.dial(rows[1].Listen)
		b.wantEcho(one, "one")
		io.WriteString(other, "four")
		other.CloseWrite()
		if text, err := io.ReadAll(other); err != nil || string(text) != "4 bytes for 12" {
			t.Errorf("the other device: %q, %v", text, err)
		}
		for _, r := range rows[2:] {
			b.wantReset(r.Listen)
		}
		b.wantEcho(one, "still there")
		b.eventually(func() bool { return strings.Count(told(), "}") == 2 })
		r := stop()
		if r.code != 0 || !strings.Contains(r.err, `"NAP0122"`) || !strings.Contains(r.err, `"SEM0016"`) {
			t.Errorf("code %d, %s; want both refusals told", r.code, r.err)
		}
		if _, err := one.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a live connection at the end: %v; want a reset", err)
		}
	}
	if out := b.must("list", "--json"); strings.Count(out, `"endpoint"`) != 1 {
		t.Errorf("accesses: %s; want that one that connect did not ask for", out)
	}
}

// Whatever ends the program, the access is given back.
func TestAccessConnectSignals(t *testing.T) {
	b := newTestbed(t)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		p := startProcess(t, start, b.login("connect", "--imsi", ueOne, "--port", portEcho, "--listen", "127.0.0.1:0")...)
		at, _, _ := strings.Cut(p.await(" -> ")[0], " ")
		c := b.dial(at)
		b.wantEcho(c, "hello")
		p.signal(s)
		if code, rest := p.wait(); code != 0 || rest != "" || p.stderr.Len() != 0 {
			t.Errorf("%s: code %d, %s%s", s, code, rest, p.stderr.String())
		}
		b.wantNone()
	}
	// Standard input is silent, and stays open.
	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGHUP} {
		var first [5]byte
		out, outW, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := command(t, b.login("connect", "--imsi", ueOne, "--port", portEcho)...)
		cmd.Stdin, cmd.Stdout = in, outW
		if err := errors.Join(cmd.Start(), outW.Close()); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		io.WriteString(w, "hello")
		if _, err := io.ReadFull(out, first[:]); err != nil || string(first[:]) != "hello" {
			t.Errorf("%q, %v", first, err)
		}
		cmd.Process.Signal(s)
		_ = cmd.Wait()
		late.Stop()
		out.Close()
		if code := cmd.ProcessState.ExitCode(); s == os.Interrupt && code != codeInterrupted || code == -1 {
			t.Errorf("%s: exit code %d; want %d", s, code, codeInterrupted)
		}
		b.wantNone()
	}
	in.Close()
}

// A reader of the output that goes away ends the program, which gives the access back.
func TestAccessConnectBrokenPipe(t *testing.T) {
	b := newTestbed(t)
	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	out, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(t, b.login("connect", "--imsi", ueOne, "--port", portEcho)...)
	cmd.Stdin, cmd.Stdout = in, outW
	if err := errors.Join(cmd.Start(), outW.Close(), in.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer late.Stop()
	io.WriteString(w, "hello")
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 2 {
		t.Errorf("exit code %d; want 2", code)
	}
	b.wantNone()
}

// Credentials: whose certificate is let in, and whose is not (R14).
func TestAccessCredential(t *testing.T) {
	b := newTestbed(t)
	clients, err := pki.NewAuthority(pki.AuthorityConfig{Name: "clients"})
	if err != nil {
		t.Fatal(err)
	}
	root, err := clients.Pair()
	if err != nil {
		t.Fatal(err)
	}
	caFile := b.write("clients.pem", string(root.Cert))
	issue := func(a *pki.Authority, name string) (cert, key string) {
		p, err := a.Issue(pki.Client(name))
		if err == nil {
			cert, key, err = p.WriteFiles(b.dir, name)
		}
		if err != nil {
			t.Fatal(err)
		}
		return cert, key
	}
	good, goodKey := issue(clients, "good")
	bad, badKey := issue(b.ca, "bad")

	if r := b.access("credential", "register", b.write("both.pem", string(root.Cert)+string(root.Key))); r.code != 2 || !strings.Contains(r.err, "nothing was sent") {
		t.Errorf("a private key: code %d, %s", r.code, r.err)
	}
	if r := b.access("credential", "register", good); r.code != 1 || !strings.Contains(r.err, "NAP0031") {
		t.Errorf("not a CA: code %d, %s", r.code, r.err)
	}
	id := strings.TrimSpace(b.must("credential", "register", caFile, "--name", "field engineers"))
	b.golden("credentials.txt", b.must("credential", "list"))

	args := func(cert, key string) []string {
		return []string{"connect", "--imsi", ueOne, "--port", portLast, "--credential", id, "--cert", cert, "--key", key}
	}
	if r := b.accessIn(strings.NewReader("abc"), args(good, goodKey)...); r.code != 0 || r.out != "3 bytes for 11" {
		t.Errorf("the right certificate: code %d, %q, %s", r.code, r.out, r.err)
	}
	if r := b.access(args(bad, badKey)...); r.code != 1 || !strings.Contains(r.err, "NAP0115") {
		t.Errorf("another CA's certificate: code %d, %s", r.code, r.err)
	}
	if r := b.access("connect", "--imsi", ueOne, "--port", portLast, "--credential", id); r.code != 1 || !strings.Contains(r.err, "NAP0113") {
		t.Errorf("no certificate: code %d, %s", r.code, r.err)
	}
	// With TLS 1.3 the relay's word comes after the handshake: with the first stream.
	rows, told, stop := b.background("--many", ueOne+":22=0", "--credential", id)
	b.wantReset(rows[0].Listen)
	b.eventually(func() bool { return strings.Contains(told(), "}") })
	if r := stop(); !strings.Contains(r.err, "NAP0113") {
		t.Errorf("no certificate, for several devices: %s", r.err)
	}
	serial := serialOf(t, good)
	if r := b.access("credential", "revoke-serial", id, "xyz"); r.code != 1 || !strings.Contains(r.err, "NAP0036") {
		t.Errorf("not a serial number: code %d, %s", r.code, r.err)
	}
	b.must("credential", "revoke-serial", id, serial)
	if r := b.access(args(good, goodKey)...); r.code != 1 || !strings.Contains(r.err, "NAP0117") {
		t.Errorf("a revoked certificate: code %d, %s", r.code, r.err)
	}
	b.must("credential", "revoke", id)
	if r := b.access(args(good, goodKey)...); r.code != 1 || !strings.Contains(r.err, "NAP0035") {
		t.Errorf("a revoked credential: code %d, %s", r.code, r.err)
	}
	var cs []api.Credential
	if b.decode(b.must("credential", "list", "--json"), &cs); len(cs) != 1 || cs[0].RevokedAt == nil || len(cs[0].RevokedSerials) != 1 {
		t.Errorf("%+v", cs)
	}
}
