package gnb

import (
	"fmt"
	"time"

	"github.com/simreach/simreach/internal/wire/ngap"
)

// enter changes the state of the NG interface and with it whether the cell is barred.
func (c *core) enter(s n2State) {
	c.n2 = s
	c.owner.serving.Store(s == n2Up)
}

// startDial sets up an association to the next AMF address.
func (c *core) startDial() {
	c.amfAddr = c.cfg.AMFs[c.next%len(c.cfg.AMFs)]
	c.next++
	c.enter(n2Dialing)
	c.act(actDial{c.amfAddr})
}

// retry waits before the next try, at least atLeast. The first failure after a
// success is retried after RetryMin.
func (c *core) retry(err error, atLeast time.Duration) {
	c.enter(n2Down)
	c.lastErr = err
	c.stop(tSetup, 0)
	c.pause = min(max(2*c.pause, c.cfg.Timers.RetryMin), c.cfg.Timers.RetryMax)
	c.start(tRetry, 0, max(c.pause, atLeast))
}

func (c *core) dialFailed(err error) {
	if c.n2 != n2Dialing {
		return
	}
	c.retry(fmt.Errorf("dial %s: %w", c.amfAddr, err), 0)
}

// dialed sends NG SETUP REQUEST, the first message of every association
// (TS 38.413 clause 8.7.1).
func (c *core) dialed() {
	if c.n2 != n2Dialing {
		return
	}
	c.enter(n2Setup)
	c.start(tSetup, 0, c.cfg.Timers.Setup)
	c.send(&ngap.NGSetupRequest{
		GNB:  c.cfg.ID,
		Name: c.cfg.Name,
		Supported: []ngap.SupportedTA{{
			TAC:       c.cfg.TAC,
			Broadcast: []ngap.BroadcastPLMN{{PLMN: c.cfg.ID.PLMN, Slices: c.cfg.Slices}},
		}},
	})
}

func (c *core) setupResponse(r *ngap.NGSetupResponse) {
	c.stop(tSetup, 0)
	c.enter(n2Up)
	c.amfName, c.lastErr, c.pause = r.AMFName, nil, 0
	c.next-- // this address again after a loss
	c.counters.Associations++
	c.log.Info("NG setup done", "amf", r.AMFName)
	c.act(actReady{})
}

func (c *core) setupFailure(f *ngap.NGSetupFailure) {
	c.act(actHangUp{})
	c.retry(&SetupRejected{Cause: f.Cause}, time.Duration(f.TimeToWait)*time.Second)
}

// setupTimeout gives up an AMF that does not answer.
func (c *core) setupTimeout() {
	if c.n2 == n2Setup {
		c.setupGone(fmt.Errorf("gnb: no answer to NG SETUP REQUEST from %s", c.amfAddr))
	}
}

func (c *core) setupGone(err error) {
	c.act(actHangUp{})
	c.retry(err, 0)
}

// associationLost releases every UE: without N2 there is nothing to serve them with
// and their identifiers mean nothing to the next association.
func (c *core) associationLost(err error) {
	if c.n2 == n2Up {
		c.log.Warn("N2 association lost", "error", err)
	}
	c.enter(n2Down) // before the UEs learn of it: they ask for the cell at once
	c.releaseAll(nil)
	c.endResets(ErrNotServing)
	c.retry(fmt.Errorf("association to %s: %w", c.amfAddr, err), 0)
}
