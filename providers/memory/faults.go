package memory

import (
	"context"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/providertest"
)

var _ providertest.Injector = (*Provider)(nil)

// throttleFor is how long providertest.FaultThrottle lasts.
const throttleFor = time.Second

// trouble is what is wrong with the cloud besides single calls.
type trouble struct {
	throttledUntil time.Time
	unavailable    bool
	partial        bool
	partialDelete  bool
	hang           bool
	// refused are the credentials that are not known any more.
	refused *string
	// lagUntil hides what is made before it; late are those machines.
	lagUntil time.Time
	late     map[providers.MachineID]bool
}

func (t *trouble) made(id providers.MachineID, now time.Time) {
	if now.Before(t.lagUntil) {
		t.late[id] = true
	}
}

func (t *trouble) hidden(id providers.MachineID, now time.Time) bool {
	return t.late[id] && now.Before(t.lagUntil)
}

// Inject brings one fault about.
func (p *Provider) Inject(_ context.Context, f providertest.Fault) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch f.Kind {
	case providertest.FaultLostAnswer:
		p.add(CallCreate, LostAnswer())
	case providertest.FaultCapacity:
		p.add(CallCreate, Fault{Err: requested(providers.CodeCapacity, "the region is full").In(providers.ScopeRegion)})
	case providertest.FaultQuota:
		p.add(CallCreate, Fault{Err: requested(providers.CodeQuota, "the account has as many machines as it may").In(providers.ScopeAccount)})
	case providertest.FaultDenied:
		e := requested(providers.CodeDenied, "the credentials may not make machines").In(providers.ScopeAccount)
		e.Hint = "allow Create"
		p.add(CallCreate, Fault{Err: e})
	case providertest.FaultPartial:
		p.trouble.partial = true
	case providertest.FaultPartialDelete:
		p.trouble.partialDelete = true
	case providertest.FaultHang:
		p.trouble.hang = true
	case providertest.FaultUnavailable:
		p.trouble.unavailable = true
	case providertest.FaultThrottle:
		p.trouble.throttledUntil = p.now().Add(throttleFor)
	case providertest.FaultUnauthenticated:
		if p.settings != nil {
			known := p.settings.Credentials
			p.trouble.refused = &known
		}
	case providertest.FaultLag:
		p.trouble.lagUntil, p.trouble.late = p.now().Add(f.For), map[providers.MachineID]bool{}
	case providertest.FaultDrift, providertest.FaultCrash:
		return p.happen(f)
	default:
		return fmt.Errorf("%w: %s", providertest.ErrNoSuchFault, f.Kind)
	}
	return nil
}

// happen lets something happen to a machine. The caller holds p.mu.
func (p *Provider) happen(f providertest.Fault) error {
	m, ok := p.machines[f.Machine]
	if !ok {
		return notFound(f.Machine)
	}
	if f.Kind == providertest.FaultDrift {
		m.Drift = "somebody has changed a tag"
	} else {
		m.Power, m.Reason = providers.PowerCrashed, "the machine was made to end"
	}
	p.changed(m)
	return nil
}

// Clear ends every fault that is left.
func (p *Provider) Clear(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.faults)
	p.trouble = trouble{}
	return nil
}

func (p *Provider) add(call Call, f Fault) { p.faults[call] = append(p.faults[call], f) }

func requested(code providers.Code, message string) *providers.Error {
	return &providers.Error{Code: code, Message: message, RequestID: "memory-request"}
}

// refusal is why no call is answered now; nil where they are. The caller holds
// p.mu.
func (p *Provider) refusal() error {
	t := &p.trouble
	switch left := t.throttledUntil.Sub(p.now()); {
	case t.refused != nil && *t.refused == p.settings.Credentials:
		e := requested(providers.CodeUnauthenticated, "the credentials are not known").In(providers.ScopeAccount)
		e.Hint = "configure other credentials"
		return e
	case t.unavailable:
		t.unavailable = false
		return requested(providers.CodeUnavailable, "the cloud has an outage").In(providers.ScopeRegion)
	case left > 0:
		return throttled(left)
	}
	return nil
}

// hang keeps a Create for as long as its caller waits, where that was asked
// for.
func (p *Provider) hang(ctx context.Context) error {
	p.mu.Lock()
	hang := p.trouble.hang
	p.trouble.hang = false
	p.mu.Unlock()
	if !hang {
		return nil
	}
	<-ctx.Done()
	return fmt.Errorf("%w: %w", providers.Errorf(providers.CodeUnavailable, "calling %s", CallCreate), ctx.Err())
}

// slow takes as long as a call of this cloud takes.
func (p *Provider) slow(ctx context.Context, call Call) error {
	p.mu.Lock()
	var latency time.Duration
	if p.settings != nil && call != CallConfigure {
		latency = time.Duration(p.settings.Latency)
	}
	p.mu.Unlock()
	if latency == 0 {
		return nil
	}
	wait := time.NewTimer(latency)
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", providers.Errorf(providers.CodeUnavailable, "calling %s", call), ctx.Err())
	}
}
