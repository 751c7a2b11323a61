package enrol

import (
	"context"
	"errors"
	"time"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest/channel"
)

// heartbeats are those from one verdict on.
type heartbeats struct {
	*Enroller
	conn *channel.Conn
	// holds says that the control plane holds answers.
	holds    bool
	interval time.Duration
}

func (h *heartbeats) close() { h.conn.Close() }

// run reports every interval, and at once what is new.
func (h *heartbeats) run(ctx context.Context) error {
	ticker := time.NewTicker(h.interval)
	defer ticker.Stop()
	for {
		said := h.state()
		answer, err := h.report(ctx, said)
		if errors.Is(err, errNews) {
			continue
		}
		if err != nil {
			return err
		}
		if len(answer.Proof) > 0 {
			h.Refreshed(answer.Proof)
		}
		if answer.TakenBack && said.Update != nil {
			h.Updates.TakenBack(api.Offer{Release: said.Update.Release, Attempt: said.Update.Attempt})
		}
		if answer.Offer != nil {
			h.Updates.Offered(*answer.Offer)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		case <-h.Payload.Changed():
		case <-h.Updates.Changed():
		}
	}
}

// state is what there is to report. Where nothing is under way the answer may wait
// for something to hear; else the machine will soon have something to say.
func (h *heartbeats) state() api.Heartbeat {
	// What was signalled before is in what is read now.
	for _, c := range []<-chan struct{}{h.Payload.Changed(), h.Updates.Changed()} {
		select {
		case <-c:
		default:
		}
	}
	b := api.Heartbeat{
		Machine: h.Config.Machine, Running: h.Payload.Running(), Healthy: h.Payload.Healthy(), AwaitingOwner: h.Machine.Awaiting(),
		Update: h.Updates.Status(),
	}
	b.Waits = h.holds && b.Running && b.Healthy && !b.AwaitingOwner && (b.Update == nil || b.Update.Step.Ended())
	return b
}

// errNews says that there was something to report before the answer came.
var errNews = errors.New("something is new")

// report sends a heartbeat. Something new ends the wait for an answer that is held,
// and its connection: there is another then, and the error is errNews.
func (h *heartbeats) report(ctx context.Context, b api.Heartbeat) (answer api.HeartbeatAnswer, err error) {
	if !b.Waits {
		return answer, call(ctx, h.conn, callTimeout, api.HeartbeatPath, b, &answer)
	}
	waiting, give := context.WithCancel(ctx)
	defer give()
	answered := make(chan error, 1)
	go func() { answered <- call(waiting, h.conn, h.interval+callTimeout, api.HeartbeatPath, b, &answer) }()
	select {
	case err := <-answered:
		return answer, err
	case <-h.Payload.Changed():
	case <-h.Updates.Changed():
	}
	give()
	<-answered //nolint:errcheck // it was given up
	if err := h.redial(ctx); err != nil {
		return api.HeartbeatAnswer{}, err
	}
	return api.HeartbeatAnswer{}, errNews
}

// redial goes on on a connection that has not enrolled, and need not: its key has.
func (h *heartbeats) redial(ctx context.Context) error {
	h.conn.Close()
	conn, err := h.dial(ctx)
	if err == nil {
		h.conn = conn
	}
	return err
}
