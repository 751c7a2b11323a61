package libvirt

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/toolshed-cloud/shed/providers"
)

// keyed lets one caller at a time have a key.
type keyed struct {
	mu sync.Mutex
	// mu guards held and the waiters of each turn.
	held map[string]*turn
}

type turn struct {
	// free holds one token while nobody has the key.
	free    chan struct{}
	waiters int
}

// take waits for the key until ctx ends. give gives it back.
func (k *keyed) take(ctx context.Context, key string) (give func(), err error) {
	k.mu.Lock()
	t, ok := k.held[key]
	if !ok {
		t = &turn{free: make(chan struct{}, 1)}
		t.free <- struct{}{}
		k.held[key] = t
	}
	t.waiters++
	k.mu.Unlock()
	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if t.waiters--; t.waiters == 0 {
			delete(k.held, key)
		}
	}
	select {
	case <-t.free:
		return func() { t.free <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// alonePatience is how long work on one machine may take, whoever waits for it.
const alonePatience = 2 * time.Minute

// alone runs f with nothing else being done to what key names. A caller who
// gives up does not end f: what libvirt was asked for, it does.
func (p *Provider) alone(ctx context.Context, key, doing string, f func(ctx context.Context) error) error {
	give, err := p.keys.take(ctx, key)
	if err != nil {
		return fmt.Errorf("%w: %w", providers.Errorf(providers.CodeUnavailable, "%s was given up before it began", doing), err)
	}
	if err := p.begin(); err != nil {
		give()
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer p.work.Done()
		ctx, cancel := context.WithTimeout(p.life, alonePatience)
		defer cancel()
		err := f(ctx)
		give()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", providers.Errorf(providers.CodeOutcomeUnknown, "%s was not waited for", doing), ctx.Err())
	}
}

// begin counts work, unless the provider is closed. The caller ends it with
// p.work.Done.
func (p *Provider) begin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life.Err() != nil {
		return providers.Errorf(providers.CodeUnavailable, "the provider is closed")
	}
	p.work.Add(1)
	return nil
}

// background does something to a machine that nobody waits for, once at a time.
func (p *Provider) background(id providers.MachineID, f func(ctx context.Context)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, begun := p.begun[id]; begun || p.life.Err() != nil {
		return
	}
	p.begun[id] = struct{}{}
	p.work.Go(func() {
		defer func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.begun, id)
		}()
		f(p.life)
	})
}
