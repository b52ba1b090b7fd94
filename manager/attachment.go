package manager

import (
	"context"
	"errors"
	"time"

	"github.com/simreach/simreach/internal/ident"
)

// ownerTimeout bounds how long the store may take to say whose a device is.
const ownerTimeout = 5 * time.Second

// AwaitAttachment returns where a device of the operator is attached, as soon as it
// is attached (or, with attached false, as soon as it is not), and otherwise what
// is so when ctx ends: ok says whether it is attached. A device that is unknown to
// the operator gives CodeUnknownSubscriber.
func (s *Service) AwaitAttachment(ctx context.Context, op OperatorID, imsi ident.IMSI, attached bool) (at Attachment, ok bool, err error) {
	// Whose device it is is looked up also when there is no time to wait.
	looking, cancel := context.WithTimeout(context.WithoutCancel(ctx), ownerTimeout)
	sub, err := s.subscriberByIMSI(looking, imsi)
	cancel()
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
