package netnsrun

import (
	"fmt"
	"testing"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/netns/netnstest"
	"github.com/simreach/simreach/scenarios/plan"
	"github.com/simreach/simreach/scenarios/scenariotest"
)

// ours tells tshark what is on the ports that are not registered for it, and to
// verify the checksums that our own code computes. It cannot verify those of TCP and
// UDP: between namespaces the kernel leaves them out.
var ours = []string{
	"-d", fmt.Sprintf("tcp.port==%d,http2", plan.PortSBI), "-d", fmt.Sprintf("tcp.port==%d,http2", portNotify),
	"-d", fmt.Sprintf("tcp.port==%d,tls", plan.PortRPC), "-d", fmt.Sprintf("tcp.port==%d,http", plan.PortInner),
	"-d", fmt.Sprintf("tcp.port==%d,data", plan.PortAir),
	"-o", "ip.check_checksum:TRUE", "-o", "sctp.checksum:CRC-32c",
}

// kernelTCP accepts what the kernel's TCP does on a busy machine: it sends again
// what was only late, and the receiver says so.
func kernelTCP(r scenariotest.Remark) bool {
	return !r.Error && (r.Text == "D-SACK Sequence" || r.Text == "This frame is a (suspected) out-of-order segment")
}

// cut is kernelTCP and accepts a reset TCP connection too.
func cut(r scenariotest.Remark) bool {
	return kernelTCP(r) || !r.Error && r.Text == "Connection reset (RST)"
}

// TestRootTsharkFindsNothingWrong has Wireshark dissect the Ethernet capture of
// every link of the main job, with NAS ciphered as by default and without.
func TestRootTsharkFindsNothingWrong(t *testing.T) {
	netnstest.Require(t)
	testenv.Program(t, "tshark", "tshark")
	testenv.Program(t, "programs", "curl")
	b := New(scenariotest.Binary(t))
	relayed := []string{"http.request", "http.response.code == 200", "echo"}
	for _, tt := range []struct {
		name, fields string
		options      []string
		nas          []string
	}{
		{"ciphered", "", nil, []string{"nas_5gs.security_header_type == 2", "nas_5gs.mm.message_type == 0x5d"}},
		{"plain", "security: {ciphering: [0]}", []string{"-o", "nas-5gs.null_decipher:TRUE"}, []string{
			"nas_5gs.mm.message_type == 0x42", "nas_5gs.mm.message_type == 0x46", "nas_5gs.sm.message_type == 0xc2",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			scenariotest.Run(t, scenariotest.Library(t, "attach-and-connect", tt.fields), b, dir)
			scenariotest.Tshark{Options: append(tt.options, ours...)}.Check(t, dir, []scenariotest.Expectation{
				{File: "air.pcap", Filters: []string{"tcp", "udp"}, Accept: kernelTCP},
				{File: "n2.pcap", Filters: append([]string{
					"ngap.procedureCode == 21", "ngap.procedureCode == 29", "nas-5gs", "sctp.chunk_type == 8", "sctp.chunk_type == 14",
				}, tt.nas...)},
				{File: "n3.pcap", Filters: append([]string{
					"gtp.ext_hdr.pdu_ses_con.pdu_type == 0", "gtp.ext_hdr.pdu_ses_con.pdu_type == 1",
				}, relayed...), Accept: kernelTCP},
				{File: "n4.pcap", Filters: []string{
					"pfcp.msg_type == 5", "pfcp.msg_type == 50", "pfcp.msg_type == 51", "pfcp.msg_type == 52", "pfcp.msg_type == 54",
				}},
				{File: "n6-upf1.pcap", Filters: relayed[:2], Accept: kernelTCP},
				// The relays cut the echo connection, which is open when its UE deregisters.
				{File: "n6-upf2.pcap", Filters: relayed, Accept: cut},
				{File: "core.pcap", Filters: []string{"http.request.method == CONNECT", "tls.handshake.type == 1"}, Accept: cut},
				{File: "public.pcap", Filters: append([]string{"http.request.uri == \"/v1/port_mappings\""}, relayed[:2]...), Accept: cut},
				// The network functions end together: one may call another that has ended.
				{File: "sbi.pcap", Filters: []string{
					"http2.headers.path matches \"^/nudm-sdm\"", "http2.headers.path matches \"^/nausf-auth\"",
					"http2.headers.path matches \"^/nsmf-pdusession\"", "http2.headers.path matches \"^/namf-comm\"",
				}, Accept: cut},
			})
		})
	}
}
