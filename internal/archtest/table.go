// Package archtest holds the rules of ARCHITECTURE.md as data, and ordinary tests
// that enforce them: who may import whom, which third-party module belongs where,
// and what no package may do. It has nothing to run.
package archtest

// rule is one row of the import table. A package matches the longest row whose
// pkg is a prefix of its path.
type rule struct {
	pkg string   // a folder, with all below it
	may []string // ours that it may import; "x/." is x without the folders below
	any bool     // may import everything of ours
	why string
}

var wires = []string{"internal/wire/nas", "internal/wire/ngap", "internal/wire/pfcp", "internal/wire/gtpu"}

// nfMay is what every network function may import.
var nfMay = append([]string{"internal/ident", "internal/aka", "internal/sctp", "internal/tun/.", "internal/dgram", "nf/sbi"}, wires...)

// ueMay is what the simulated UE may import; the gNB adds ue.
var ueMay = append([]string{"internal/ident", "internal/aka", "internal/sctp", "internal/tun/.", "internal/dgram"}, wires...)

var table = []rule{
	{pkg: "internal/archtest", why: "rules stand alone"},
	{pkg: "internal/ident", why: "identities stand at the bottom"},
	{pkg: "internal/testenv", why: "what tests ask of a machine"},
	{pkg: "internal/umltest", may: []string{"internal/sctp", "internal/testenv"}, why: "a test peer knows nothing of what it is a peer of"},
	{pkg: "internal/httpserve", why: "a transport knows no network function"},
	{pkg: "internal/telemetry", may: []string{"internal/telemetry", "internal/httpserve"}, why: "what is watched is not its concern"},
	{pkg: "internal/telemetry/observe", why: "what components are watched with stands at the bottom"},
	{pkg: "internal/pki", why: "certificates know nobody who shows them"},
	{pkg: "internal/workers", why: "goroutines know no task"},
	{pkg: "internal/sctp", why: "a transport knows no network function"},
	{pkg: "internal/dgram", why: "a transport knows no network function"},
	{pkg: "internal/memnet", may: []string{"internal/dgram"}, why: "a transport knows no network function"},
	{pkg: "netns/netnstest", may: []string{"netns/.", "internal/testenv"}, why: "a test helper"},
	{pkg: "netns", why: "namespaces know nothing of what runs in them"},
	{pkg: "internal/aka", may: []string{"internal/ident"}, why: "cryptography works on identities only"},
	{pkg: "internal/wire", may: []string{"internal/ident", "internal/aka"}, why: "codecs do no I/O"},
	{pkg: "internal/tun", may: []string{"internal/tun"}, why: "packets in, packets out"},
	{pkg: "nf/sbi", may: []string{"internal/ident", "internal/httpserve"}, why: "what the network functions promise each other"},
	{pkg: "nf/amf", may: nfMay, why: "network functions meet in nf/sbi only"},
	{pkg: "nf/smf", may: nfMay, why: "network functions meet in nf/sbi only"},
	{pkg: "nf/udm", may: nfMay, why: "network functions meet in nf/sbi only"},
	{pkg: "nf/upf", may: append([]string{"nf/upf/datapath"}, nfMay...), why: "network functions meet in nf/sbi only"},
	{pkg: "nf/upf/datapath", may: []string{"internal/wire/gtpu", "internal/tun/.", "internal/dgram", "internal/ident"}, why: "the datapath knows no PFCP"},
	{pkg: "ue", may: ueMay, why: "a UE knows no network function"},
	{pkg: "ue/airlink", may: append([]string{"ue/."}, ueMay...), why: "a link between UE and gNB"},
	{pkg: "ue/device", may: []string{"internal/ident"}, why: "a device knows no network"},
	{pkg: "ue/gnb", may: append([]string{"ue/."}, ueMay...), why: "a gNB knows no network function"},
	{pkg: "manager", may: []string{"internal/ident", "nf/sbi", "internal/telemetry/observe"}, why: "the domain knows no adapter"},
	{pkg: "manager/store/pgtest", may: []string{"internal/testenv", "internal/pgserver"}, why: "a test helper"},
	{pkg: "manager/faulttest", any: true, why: "tests of managers and relays together"},
	{pkg: "manager/store", may: []string{"manager/.", "internal/ident", "internal/telemetry/observe"}, why: "adapters know the domain, never each other"},
	{pkg: "manager/webhook", may: []string{"manager/."}, why: "adapters know the domain, never each other"},
	{pkg: "manager/api", may: []string{"manager/.", "internal/ident", "internal/httpserve", "internal/pki", "internal/telemetry/observe"}, why: "adapters know the domain, never each other"},
	{pkg: "manager/rpc", may: []string{"manager/.", "internal/ident", "internal/httpserve", "internal/workers", "internal/pki", "internal/telemetry/observe"}, why: "adapters know the domain, never each other"},
	{pkg: "relay", may: []string{"internal/ident"}, why: "relays copy bytes"},
	{pkg: "relay/inner", may: []string{"relay/.", "internal/ident", "internal/workers", "internal/telemetry/observe"}, why: "the inner relay knows tickets, not the manager"},
	{pkg: "relay/relaytest", may: []string{"internal/tun/."}, why: "a test of relays of any make"},
	{pkg: "relay/ports", may: []string{"relay/."}, why: "sockets know no entries"},
	{pkg: "relay/outer", may: []string{"relay/.", "relay/ports", "manager/.", "internal/ident", "internal/workers", "internal/pki", "internal/telemetry/observe"}, why: "the outer relay knows the manager's domain only"},
	{pkg: "relay/audit", may: []string{"manager/.", "internal/ident", "internal/telemetry/observe"}, why: "the spool knows records, not who makes them"},
	{pkg: "internal/strictyaml", why: "it knows files, not what they say"},
	{pkg: "scenarios/spec", may: []string{"internal/ident", "internal/strictyaml"}, why: "a description knows nothing that runs"},
	{pkg: "scenarios/lab", may: []string{"scenarios/spec", "internal/ident"}, why: "steps know no network function"},
	{pkg: "scenarios/steps", may: []string{"scenarios/spec", "scenarios/lab", "internal/ident", "internal/pki", "relay/outer/manyclient"}, why: "steps know no network function"},
	{pkg: "scenarios/report", may: []string{"scenarios/spec", "scenarios/lab", "internal/ident"}, why: "reports know no network function"},
	{pkg: "scenarios/scratch", may: []string{}, why: "directories know no scenario"},
	{pkg: "scenarios", may: []string{"scenarios/spec", "scenarios/lab", "scenarios/steps", "scenarios/report", "scenarios/scratch"}, why: "the runner knows no network function"},
	{pkg: "scenarios/plan", any: true, why: "turns a Spec into every component's Config"},
	{pkg: "scenarios/inproc", any: true, why: "it wires every component in one process"},
	{pkg: "scenarios/netnsrun", may: []string{"netns", "scenarios/spec", "scenarios/lab", "scenarios/plan", "internal/node", "internal/capture", "internal/program", "internal/ident"}, why: "it starts our own binary"},
	{pkg: "internal/node", any: true, why: "it wires one role per process"},
	{pkg: "internal/program", why: "it runs programs of others"},
	{pkg: "internal/pgserver", why: "it runs a program of others"},
	{pkg: "internal/capture", why: "capture files know addresses only"},
	{pkg: "cmd", any: true, why: "the program"},
	{pkg: "bench/result", why: "results know nothing of what was measured"},
	{pkg: "bench", any: true, why: "load drivers"},
}

// home is where a third-party module may be imported.
type home struct {
	pkgs  []string
	tests bool // tests may import it anywhere
}

var confined = map[string]home{
	"github.com/pires/go-proxyproto":     {pkgs: []string{"relay/outer"}},
	"github.com/free5gc/nas":             {pkgs: []string{"internal/wire/nas"}},
	"github.com/free5gc/ngap":            {pkgs: []string{"internal/wire/ngap"}},
	"github.com/free5gc/aper":            {pkgs: []string{"internal/wire/ngap"}},
	"github.com/wmnsk/go-pfcp":           {pkgs: []string{"internal/wire/pfcp"}},
	"github.com/wmnsk/go-gtp":            {pkgs: []string{"internal/wire/gtpu"}},
	"github.com/wmnsk/milenage":          {pkgs: []string{"internal/aka"}},
	"github.com/pion/sctp":               {pkgs: []string{"internal/sctp"}},
	"github.com/songgao/water":           {pkgs: []string{"internal/tun"}},
	"gvisor.dev/gvisor":                  {pkgs: []string{"internal/tun/netstack"}},
	"github.com/cilium/ebpf":             {pkgs: []string{"relay/ports"}},
	"github.com/vishvananda/netns":       {pkgs: []string{"netns"}},
	"github.com/vishvananda/netlink":     {pkgs: []string{"netns", "internal/umltest/gtppeer"}}, // gtppeer sets up the GTP driver of a guest's kernel
	"github.com/google/gopacket":         {pkgs: []string{"internal/capture", "internal/testenv"}, tests: true},
	"modernc.org/sqlite":                 {pkgs: []string{"manager/store"}},
	"github.com/pressly/goose":           {pkgs: []string{"manager/store"}},
	"github.com/jackc/pgx":               {pkgs: []string{"manager/store"}},
	"pgregory.net/rapid":                 {pkgs: []string{"manager/faulttest"}, tests: true},
	"connectrpc.com/connect":             {pkgs: []string{"manager/rpc"}},
	"github.com/goccy/go-yaml":           {pkgs: []string{"internal/strictyaml", "scenarios/spec", "internal/node", "manager/api"}, tests: true},
	"github.com/pquerna/otp":             {pkgs: []string{"manager/."}, tests: true},
	"github.com/getkin/kin-openapi":      {tests: true}, // checks that the REST interface is as it is described
	"go.opentelemetry.io/otel/sdk":       {pkgs: []string{"internal/telemetry"}, tests: true},
	"go.opentelemetry.io/otel/exporters": {pkgs: []string{"internal/telemetry"}},
	"go.opentelemetry.io/proto/otlp":     {pkgs: []string{"internal/telemetry"}},
	"github.com/spf13/cobra":             {pkgs: []string{"cmd"}},
	"github.com/tidwall/wal":             {pkgs: []string{"relay/audit"}},
	"github.com/tidwall/gjson":           {pkgs: []string{"scenarios/steps"}},
	"gonum.org/v1/plot":                  {pkgs: []string{"bench/result"}},
	"github.com/HdrHistogram":            {pkgs: []string{"bench"}},
}
