package inproc

import (
	"testing"

	"github.com/simreach/simreach/internal/testenv"
	"github.com/simreach/simreach/scenarios/scenariotest"
)

// checksums has tshark verify what our own code computes.
var checksums = []string{
	"-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "sctp.checksum:CRC-32c",
}

// cut accepts a reset TCP connection.
func cut(r scenariotest.Remark) bool { return !r.Error && r.Text == "Connection reset (RST)" }

// TestTsharkFindsNothingWrong has Wireshark dissect every capture of the main job:
// it knows nothing of our codecs. The default security ciphers NAS, so a second run
// without shows the NAS messages inside to it as well.
func TestTsharkFindsNothingWrong(t *testing.T) {
	testenv.Program(t, "tshark", "tshark")
	testenv.Program(t, "programs", "curl")
	relayed := []string{"http.request", "http.response.code == 200", "echo"}
	for _, tt := range []struct {
		name, fields string
		options      []string
		nas          []string // what must be seen of NAS
	}{
		{"ciphered", "", nil, []string{
			"nas_5gs.security_header_type == 2", // integrity protected and ciphered
			"nas_5gs.mm.message_type == 0x5d",   // SECURITY MODE COMMAND, which is not ciphered
		}},
		{"plain", "security: {ciphering: [0]}", []string{"-o", "nas-5gs.null_decipher:TRUE"}, []string{
			"nas_5gs.mm.message_type == 0x42", // REGISTRATION ACCEPT
			"nas_5gs.mm.message_type == 0x46", // DEREGISTRATION ACCEPT
			"nas_5gs.sm.message_type == 0xc2", // PDU SESSION ESTABLISHMENT ACCEPT
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			scenariotest.Run(t, scenariotest.Library(t, "attach-and-connect", tt.fields), New(), dir)
			scenariotest.Tshark{Options: append(tt.options, checksums...)}.Check(t, dir, []scenariotest.Expectation{
				{File: "n2.pcap", Filters: append([]string{
					"ngap.procedureCode == 21", // NG SETUP
					"ngap.procedureCode == 29", // PDU SESSION RESOURCE SETUP
					"nas-5gs",
					"sctp.chunk_type == 8", "sctp.chunk_type == 14", // associations end in order: SHUTDOWN to SHUTDOWN COMPLETE
				}, tt.nas...)},
				{File: "n3.pcap", Filters: append([]string{
					"gtp.ext_hdr.pdu_ses_con.pdu_type == 0", "gtp.ext_hdr.pdu_ses_con.pdu_type == 1", // PDU session container, both ways
				}, relayed...)},
				{File: "n4.pcap", Filters: []string{
					"pfcp.msg_type == 5", "pfcp.msg_type == 50", "pfcp.msg_type == 51", "pfcp.msg_type == 52", "pfcp.msg_type == 54",
				}},
				{File: "n6-upf1.pcap", Filters: relayed[:2]},
				// The relay cuts the echo connection, which is open when its UE deregisters.
				{File: "n6-upf2.pcap", Filters: relayed, Accept: cut},
			})
		})
	}
}
