package ngap

import (
	"fmt"

	"github.com/free5gc/ngap/ngapType"

	"github.com/simreach/simreach/internal/ident"
)

// IEs that several messages have.

const maxAMFUENGAPID = 1<<40 - 1

// checkAMFID is for both directions: the library decodes up to eight octets.
func checkAMFID(id int64) error {
	if id < 0 || id > maxAMFUENGAPID {
		return fmt.Errorf("%w: AMF UE NGAP ID %d", errSyntax, id)
	}
	return nil
}

func (w *writer) amfID(id int64) {
	if err := checkAMFID(id); err != nil {
		w.fail(err)
		return
	}
	w.put(idAMFUENGAPID, ngapType.AMFUENGAPID{Value: id}, "")
}

func (w *writer) ranID(id uint32) {
	w.put(idRANUENGAPID, ngapType.RANUENGAPID{Value: int64(id)}, "")
}

func (w *writer) ids(id UEIDs) {
	w.amfID(id.AMF)
	w.ranID(id.RAN)
}

func (r *reader) amfID() (id int64, ok bool) {
	var v ngapType.AMFUENGAPID
	if !r.get(idAMFUENGAPID, &v, "") {
		return 0, false
	}
	if err := checkAMFID(v.Value); err != nil {
		r.fail(ProtocolTransferSyntax, err)
	}
	return v.Value, true
}

func (r *reader) ranID() (id uint32, ok bool) {
	var v ngapType.RANUENGAPID
	ok = r.get(idRANUENGAPID, &v, "")
	return uint32(v.Value), ok
}

func (r *reader) ids() (id UEIDs) {
	id.AMF, _ = r.amfID()
	id.RAN, _ = r.ranID()
	return id
}

// nas writes the NAS-PDU IE unless b is nil.
func (w *writer) nas(b []byte) {
	if b != nil {
		w.put(idNASPDU, ngapType.NASPDU{Value: b}, "")
	}
}

// mustNAS is nas for messages that are nothing without one.
func (w *writer) mustNAS(b []byte) {
	if len(b) == 0 {
		w.fail(fmt.Errorf("no NAS message"))
	}
	w.nas(b)
}

func (r *reader) nas() []byte {
	var v ngapType.NASPDU
	r.get(idNASPDU, &v, "")
	return v.Value
}

// mustNAS refuses a NAS-PDU without octets; one that is missing was dealt with
// by its criticality.
func (r *reader) mustNAS() []byte {
	b := r.nas()
	if _, there := r.raw(idNASPDU); there && len(b) == 0 {
		r.check(idNASPDU, fmt.Errorf("no NAS message"))
	}
	return b
}

func (w *writer) cause(c Cause) {
	v, err := fromCause(c)
	if err != nil {
		w.fail(err)
		return
	}
	w.put(idCause, v, choiceCause)
}

// causeOrUnspecified reads a missing cause as "misc: unspecified".
func (r *reader) causeOrUnspecified() Cause {
	if c := r.cause(); c != nil {
		return *c
	}
	return MiscUnspecified
}

func (r *reader) cause() *Cause {
	var v ngapType.Cause
	if !r.get(idCause, &v, choiceCause) {
		return nil
	}
	c := toCause(v)
	return &c
}

func (w *writer) location(l ident.Location) {
	v, err := fromLocation(l)
	if err != nil {
		w.fail(err)
		return
	}
	w.put(idUserLocation, v, choiceUserLocation)
}

func (r *reader) location() (l ident.Location) {
	var v ngapType.UserLocationInformation
	if r.get(idUserLocation, &v, choiceUserLocation) {
		var err error
		l, err = toLocation(v)
		r.check(idUserLocation, err)
	}
	return l
}

func (w *writer) ueAMBR(a *ident.AMBR) {
	if a != nil {
		w.put(idUEAMBR, ngapType.UEAggregateMaximumBitRate{
			UEAggregateMaximumBitRateDL: fromRate(a.Downlink),
			UEAggregateMaximumBitRateUL: fromRate(a.Uplink),
		}, sequence)
	}
}

func (r *reader) ueAMBR() *ident.AMBR {
	var v ngapType.UEAggregateMaximumBitRate
	if !r.get(idUEAMBR, &v, sequence) {
		return nil
	}
	return &ident.AMBR{
		Uplink:   toRate(v.UEAggregateMaximumBitRateUL),
		Downlink: toRate(v.UEAggregateMaximumBitRateDL),
	}
}
