// Package lab is what a scenario's steps see of a running topology: a Backend
// starts a Lab, and a Lab has UEs, clients, a manager and nodes. Its two
// implementations are scenarios/inproc and scenarios/netnsrun. The package itself
// runs nothing.
package lab

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/scenarios/spec"
)

// Backend builds topologies.
type Backend interface {
	// Name is "inproc" or "netns".
	Name() string
	// Check returns nil if this machine can run the scenario, or an error that
	// says what is missing and how to go on without it.
	Check(s *spec.Spec) error
	// Start builds the topology and returns once every network function is ready.
	// On error nothing is left behind.
	Start(ctx context.Context, s *spec.Spec, o Options) (Lab, error)
}

// Options go with Start.
type Options struct {
	Log *slog.Logger // nil discards
	// Dir receives a pcap per link, the spans of the manager and the relays, and the logs
	// of the nodes; empty keeps none of them.
	Dir string
	// Scratch is the run's directory for the files of its steps, if it has one. Its
	// maker removes it; a backend that outlives a crash notes it for that case.
	Scratch string
	// Capture captures the networks also without Dir, for Lab.Captured.
	Capture bool
	// HostAccess makes the manager's API and the outer relays reachable from the
	// host's own namespace.
	HostAccess bool
}

// Lab is a running topology. Its methods may be called from several goroutines.
type Lab interface {
	UE(name string) (UE, bool)
	Client(name string) (Client, bool)
	// Node finds any node by name: a network function, a relay, a client or a UE.
	Node(name string) (Node, bool)
	Manager() Manager
	// Trust returns the certificate of the CA that the outer relays' certificates come
	// from, PEM.
	Trust() []byte
	// Captured reports, for each needle, whether a packet with it has crossed a network
	// so far. It fails where that network is not captured.
	Captured(ctx context.Context, network string, needles [][]byte) ([]bool, error)
	// Describe tells a person how to reach each part.
	Describe() []Place
	// Close stops and removes everything, and returns once that is done. What has not
	// ended by itself when ctx ends is killed, or given up where there is no process.
	Close(ctx context.Context) error
}

// Place is one line of "how to reach it".
type Place struct{ What, Where string }

// FileCA is what a backend calls the file with Trust in its own directory, for clients
// that are started by hand.
const FileCA = "relay-ca.pem"

// UE controls one device.
type UE interface {
	// Register registers and establishes the sessions of the UE's configuration.
	// A refusal comes back as *Rejected. gnb is where to camp; empty takes the
	// UE's own preference.
	Register(ctx context.Context, gnb string) error
	Deregister(ctx context.Context, switchOff bool) error
	Status(ctx context.Context) (UEStatus, error)
	// Await returns when the UE's status satisfies ok, without polling where the
	// UE is in this process; it returns the last status with ctx's error.
	Await(ctx context.Context, ok func(UEStatus) bool) (UEStatus, error)
}

// UEStatus is a UE as a scenario sees it.
type UEStatus struct {
	IMSI       ident.IMSI      `json:"imsi"`
	Registered bool            `json:"registered"`
	Connected  bool            `json:"connected"` // CM-CONNECTED
	GNB        string          `json:"gnb"`
	Sessions   []SessionStatus `json:"sessions"`
}

// SessionStatus is one PDU session of a UE.
type SessionStatus struct {
	ID      ident.PDUSessionID `json:"id"`
	DNN     string             `json:"dnn"`
	Address netip.Addr         `json:"address"`
}

// Rejected is a refusal by the network, with the 5GMM or 5GSM cause number of
// TS 24.501 (0 when the procedure has none, as for an authentication reject).
type Rejected struct {
	Procedure string `json:"procedure"` // registration, authentication, session, service
	Cause     int    `json:"cause"`
	Text      string `json:"text"`
}

// Error implements error.
func (r *Rejected) Error() string {
	return fmt.Sprintf("%s rejected with cause #%d (%s)", r.Procedure, r.Cause, r.Text)
}

// Client is a host outside the core.
type Client interface {
	// Address is the client's source address.
	Address() netip.Addr
	// Dial opens TCP from the client.
	Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

// Manager is the manager as an operator reaches it from a client.
type Manager interface {
	// Operator is the ID of the tenant that owns the scenario's SIMs.
	Operator() string
	// Create asks for access. A refusal comes back as *APIError.
	Create(ctx context.Context, from Client, r AccessRequest) (Access, error)
	Delete(ctx context.Context, a Access) error
	// AwaitDirectory returns when the directory says that the IMSI has a session,
	// or has none.
	AwaitDirectory(ctx context.Context, imsi ident.IMSI, attached bool) (Attachment, error)
	// Call makes any request of the REST API. An error answer is an answer, not an error.
	Call(ctx context.Context, from Client, r APIRequest) (APIAnswer, error)
	// KeepLogin keeps the answer of a login under a name, for later calls.
	KeepLogin(name string, answer []byte) error
}

// Nobody is an APIRequest.As without credentials.
const Nobody = "nobody"

// APIRequest is one request of the REST API.
type APIRequest struct {
	Method, Path string // with the query
	Body         []byte // JSON; nil: none
	As           string // a kept login, Nobody, or empty for the operator of the scenario
	Language     string // "en" or "ja"; empty: none is asked for
}

// APIAnswer is its answer.
type APIAnswer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Attachment is where the directory has a UE.
type Attachment struct {
	UPF     string     `json:"upf"`
	Address netip.Addr `json:"address"`
}

// AccessRequest is what travels with POST /v1/port_mappings.
type AccessRequest struct {
	IMSI     ident.IMSI
	Port     uint16
	Duration time.Duration  // whole seconds; 0 leaves it out
	Ranges   []netip.Prefix // nil leaves it out
	TLS      bool           // clients speak TLS to the relay
}

// Access is a granted access.
type Access struct {
	Relay   netip.AddrPort `json:"relay"`
	IMSI    ident.IMSI     `json:"imsi"`
	Port    uint16         `json:"port"`
	Expires time.Time      `json:"expires"`
	Host    string         `json:"host"` // the relay's name, for TLS
}

// APIError is an error answer of the manager's API.
type APIError struct {
	Status        int
	Code, Message string
}

// Error implements error.
func (e *APIError) Error() string {
	return fmt.Sprintf("manager answered %d %s: %s", e.Status, e.Code, e.Message)
}

// Node is one host of the topology.
type Node interface {
	Name() string
	// Address is the node's address on the network its role is met on (a client's
	// or outer relay's public address, a UE's private one); invalid if it has none.
	Address() netip.Addr
	// Exec starts a program on the node.
	Exec(ctx context.Context, c Command) (Process, error)
	// Kill ends the node's process with SIGKILL, or as abruptly as the backend
	// can; Start starts it again and returns when it is ready.
	// ErrNoProcess says that the node has none.
	Kill(ctx context.Context) error
	Start(ctx context.Context) error
}

// Command is a program to run.
type Command struct {
	Args   []string // Args[0] is looked up on PATH
	Env    []string // added to the runner's environment
	Stdin  io.Reader
	Stdout io.Writer // nil discards
	Stderr io.Writer
}

// Process is a program that was started. Wait must be called.
type Process interface {
	// Wait returns the exit code; -1 with an error when it did not exit by itself.
	Wait() (int, error)
	// Stop ends the program and its children (SIGTERM, then SIGKILL).
	Stop() error
}
