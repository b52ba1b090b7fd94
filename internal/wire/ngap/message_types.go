package ngap

// Procedure returns the procedure code.
func (*NGSetupRequest) Procedure() ProcedureCode { return ProcNGSetup }

func (*NGSetupRequest) triggering() uint8 { return initiatingMessage }

// Procedure returns the procedure code.
func (*NGSetupResponse) Procedure() ProcedureCode { return ProcNGSetup }

func (*NGSetupResponse) triggering() uint8 { return successfulOutcome }

// Procedure returns the procedure code.
func (*NGSetupFailure) Procedure() ProcedureCode { return ProcNGSetup }

func (*NGSetupFailure) triggering() uint8 { return unsuccessfulOutcome }

// Procedure returns the procedure code.
func (*InitialUEMessage) Procedure() ProcedureCode { return ProcInitialUEMessage }

func (*InitialUEMessage) triggering() uint8 { return initiatingMessage }

// Procedure returns the procedure code.
func (*DownlinkNASTransport) Procedure() ProcedureCode { return ProcDownlinkNASTransport }

func (*DownlinkNASTransport) triggering() uint8 { return initiatingMessage }

// Procedure returns the procedure code.
func (*UplinkNASTransport) Procedure() ProcedureCode { return ProcUplinkNASTransport }

func (*UplinkNASTransport) triggering() uint8 { return initiatingMessage }

// Procedure returns the procedure code.
func (*NASNonDeliveryIndication) Procedure() ProcedureCode { return ProcNASNonDeliveryIndication }

func (*NASNonDeliveryIndication) triggering() uint8 { return initiatingMessage }

// Procedure returns the procedure code.
func (*InitialContextSetupRequest) Procedure() ProcedureCode { return ProcInitialContextSetup }

func (*InitialContextSetupRequest) triggering() uint8 { return initiatingMessage }

// Procedure returns the procedure code.
func (*InitialContextSetupResponse) Procedure() ProcedureCode { return ProcInitialContextSetup }

func (*InitialContextSetupResponse) triggering() uint8 { return successfulOutcome }

// Procedure returns the procedure code.
func (*InitialContextSetupFailure) Procedure() ProcedureCode { return ProcInitialContextSetup }

func (*InitialContextSetupFailure) triggering() uint8 { return unsuccessfulOutcome }

// Procedure returns the procedure code.
func (*UEContextReleaseRequest) Procedure() ProcedureCode { return ProcUEContextReleaseRequest }

func (*UEContextReleaseRequest) triggering() uint8 { return initiatingMessage }

// Procedure returns the procedure code.
func (*UEContextReleaseCommand) Procedure() ProcedureCode { return ProcUEContextRelease }

func (*UEContextReleaseCommand) triggering() uint8 { return initiatingMessage }

// Procedure returns the procedure code.
func (*UEContextReleaseComplete) Procedure() ProcedureCode { return ProcUEContextRelease }

func (*UEContextReleaseComplete) triggering() uint8 { return successfulOutcome }

// Procedure returns the procedure code.
func (*PDUSessionResourceSetupRequest) Procedure() ProcedureCode { return ProcPDUSessionResourceSetup }

func (*PDUSessionResourceSetupRequest) triggering() uint8 { return initiatingMessage }

// Procedure returns the procedure code.
func (*PDUSessionResourceSetupResponse) Procedure() ProcedureCode { return ProcPDUSessionResourceSetup }

func (*PDUSessionResourceSetupResponse) triggering() uint8 { return successfulOutcome }

// Procedure returns the procedure code.
func (*PDUSessionResourceReleaseCommand) Procedure() ProcedureCode {
	return ProcPDUSessionResourceRelease
}

func (*PDUSessionResourceReleaseCommand) triggering() uint8 { return initiatingMessage }

// Procedure returns the procedure code.
func (*PDUSessionResourceReleaseResponse) Procedure() ProcedureCode {
	return ProcPDUSessionResourceRelease
}

func (*PDUSessionResourceReleaseResponse) triggering() uint8 { return successfulOutcome }

// Procedure returns the procedure code.
func (*PDUSessionResourceModifyRequest) Procedure() ProcedureCode {
	return ProcPDUSessionResourceModify
}

func (*PDUSessionResourceModifyRequest) triggering() uint8 { return initiatingMessage }

// Procedure returns the procedure code.
func (*PDUSessionResourceModifyResponse) Procedure() ProcedureCode {
	return ProcPDUSessionResourceModify
}

func (*PDUSessionResourceModifyResponse) triggering() uint8 { return successfulOutcome }

// Procedure returns the procedure code.
func (*NGReset) Procedure() ProcedureCode { return ProcNGReset }

func (*NGReset) triggering() uint8 { return initiatingMessage }

// Procedure returns the procedure code.
func (*NGResetAcknowledge) Procedure() ProcedureCode { return ProcNGReset }

func (*NGResetAcknowledge) triggering() uint8 { return successfulOutcome }

// Procedure returns the procedure code.
func (*ErrorIndication) Procedure() ProcedureCode { return ProcErrorIndication }

func (*ErrorIndication) triggering() uint8 { return initiatingMessage }
