package ngap

import "fmt"

// causeText has the names of TS 38.413 clause 9.4.5, by group and value.
var causeText = map[CauseGroup][]string{
	CauseRadioNetwork: {
		"unspecified",
		"txnrelocoverall-expiry",
		"successful-handover",
		"release-due-to-ngran-generated-reason",
		"release-due-to-5gc-generated-reason",
		"handover-cancelled",
		"partial-handover",
		"ho-failure-in-target-5GC-ngran-node-or-target-system",
		"ho-target-not-allowed",
		"tngrelocoverall-expiry",
		"tngrelocprep-expiry",
		"cell-not-available",
		"unknown-targetID",
		"no-radio-resources-available-in-target-cell",
		"unknown-local-UE-NGAP-ID",
		"inconsistent-remote-UE-NGAP-ID",
		"handover-desirable-for-radio-reason",
		"time-critical-handover",
		"resource-optimisation-handover",
		"reduce-load-in-serving-cell",
		"user-inactivity",
		"radio-connection-with-ue-lost",
		"radio-resources-not-available",
		"invalid-qos-combination",
		"failure-in-radio-interface-procedure",
		"interaction-with-other-procedure",
		"unknown-PDU-session-ID",
		"unkown-qos-flow-ID",
		"multiple-PDU-session-ID-instances",
		"multiple-qos-flow-ID-instances",
		"encryption-and-or-integrity-protection-algorithms-not-supported",
		"ng-intra-system-handover-triggered",
		"ng-inter-system-handover-triggered",
		"xn-handover-triggered",
		"not-supported-5QI-value",
		"ue-context-transfer",
		"ims-voice-eps-fallback-or-rat-fallback-triggered",
		"up-integrity-protection-not-possible",
		"up-confidentiality-protection-not-possible",
		"slice-not-supported",
		"ue-in-rrc-inactive-state-not-reachable",
		"redirection",
		"resources-not-available-for-the-slice",
		"ue-max-integrity-protected-data-rate-reason",
		"release-due-to-cn-detected-mobility",
		"n26-interface-not-available",
		"release-due-to-pre-emption",
	},
	CauseTransport: {
		"transport-resource-unavailable",
		"unspecified",
	},
	CauseNAS: {
		"normal-release",
		"authentication-failure",
		"deregister",
		"unspecified",
	},
	CauseProtocol: {
		"transfer-syntax-error",
		"abstract-syntax-error-reject",
		"abstract-syntax-error-ignore-and-notify",
		"message-not-compatible-with-receiver-state",
		"semantic-error",
		"abstract-syntax-error-falsely-constructed-message",
		"unspecified",
	},
	CauseMisc: {
		"control-processing-overload",
		"not-enough-user-plane-processing-resources",
		"hardware-failure",
		"om-intervention",
		"unknown-PLMN-or-SNPN",
		"unspecified",
	},
}

var groupText = map[CauseGroup]string{
	CauseRadioNetwork: "radioNetwork", CauseTransport: "transport", CauseNAS: "nas",
	CauseProtocol: "protocol", CauseMisc: "misc",
}

// String returns group and name, such as "radioNetwork: user-inactivity"; the
// number stands for a name we do not know, and "no cause" for 0.
func (c Cause) String() string {
	group, ok := groupText[c.Group()]
	switch names := causeText[c.Group()]; {
	case c == 0:
		return "no cause"
	case !ok:
		return fmt.Sprintf("cause group %d: %d", c.Group(), c.Value())
	case int(c.Value()) < len(names):
		return group + ": " + names[c.Value()]
	}
	return fmt.Sprintf("%s: %d", group, c.Value())
}

var procedureText = map[ProcedureCode]string{
	ProcDownlinkNASTransport:      "DownlinkNASTransport",
	ProcErrorIndication:           "ErrorIndication",
	ProcInitialContextSetup:       "InitialContextSetup",
	ProcInitialUEMessage:          "InitialUEMessage",
	ProcNASNonDeliveryIndication:  "NASNonDeliveryIndication",
	ProcNGReset:                   "NGReset",
	ProcNGSetup:                   "NGSetup",
	ProcPDUSessionResourceModify:  "PDUSessionResourceModify",
	ProcPDUSessionResourceRelease: "PDUSessionResourceRelease",
	ProcPDUSessionResourceSetup:   "PDUSessionResourceSetup",
	ProcUEContextRelease:          "UEContextRelease",
	ProcUEContextReleaseRequest:   "UEContextReleaseRequest",
	ProcUplinkNASTransport:        "UplinkNASTransport",
}

// String returns the procedure's name in the ASN.1, or the number of one that
// the testbed does not use.
func (p ProcedureCode) String() string {
	if s, ok := procedureText[p]; ok {
		return s
	}
	return fmt.Sprintf("procedure %d", uint8(p))
}

// pduName names a message, known or not.
func pduName(p ProcedureCode, triggering uint8) string {
	if s, ok := pduSpecs[pduKey{p, triggering}]; ok {
		return s.name
	}
	return fmt.Sprintf("%s, message %d", p, triggering)
}
