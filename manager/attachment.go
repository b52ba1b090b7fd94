package manager

import (
	"context"
	"errors"

	"github.com/simreach/simreach/internal/ident"
)

// AwaitAttachment returns where a device of the operator is attached, as soon as it
// is attached (or, with attached false, as soon as it is not), and otherwise what
// is so when ctx ends: ok says whether it is attached. A device that is unknown to
// the operator gives CodeUnknownSubscriber.
func (s *Service) AwaitAttachment(ctx context.Context, op OperatorID, imsi ident.IMSI, attached bool) (at Attachment, ok bool, err error) {
	sub, err := s.subscriberByIMSI(context.WithoutCancel(ctx), imsi) // also when there is no time to wait
	if err != nil {
		return Attachment{}, false, err
	}
	if sub.OperatorID != op {
		return Attachment{}, false, NewError(CodeUnknownSubscriber, string(imsi))
	}
	for {
		changed := s.dir.Changed() // before Lookup, so that no change is missed
		at, err = s.dir.Lookup(ctx, imsi)
		switch {
		case err == nil && attached:
			return at, true, nil
		case errors.Is(err, ErrNotAttached) && !attached:
			return Attachment{}, false, nil
		case err != nil && !errors.Is(err, ErrNotAttached):
			return Attachment{}, false, AsError(err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return at, err == nil, nil
		}
	}
}
