// Package amf is the access and mobility management function: it terminates N2
// (NGAP over SCTP, TS 38.413) and the 5GMM part of N1 (NAS, TS 24.501), keeps one
// context per UE, and carries 5GSM messages and N2 transfers between UE, gNB and
// SMF (TS 23.502 clause 4.2 and 4.3, Release 17).
//
// Run owns every goroutine: one reader per gNB association, short-lived workers
// that empty a UE's mailbox and end, and a bounded number of calls to other
// network functions. A UE context belongs to whichever worker is emptying its
// mailbox; everything else reaches it by posting. An idle UE costs no goroutine.
//
// Which 5GMM message is legal in which state is the literal table of
// gmm_table.go; what happens is one file per procedure. Procedures only change
// the UE's state and list actions (send, call, arm a timer); the worker performs
// them afterwards.
//
// Not here: handover, paging, idle-mode downlink data, emergency services, SMS,
// non-3GPP access. An AMF that stops forgets its UEs; they register again.
package amf
