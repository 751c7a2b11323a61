package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/orchestrator/controlplane"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/memory"
	"github.com/toolshed-cloud/shed/scripts/internal/site"
)

const (
	machines = 1000
	// The cloud takes so many creations at once, and so many a second.
	burst = 20
	rate  = 200.0
	// keepsUp is how much of the rate the control plane has to use.
	keepsUp = 0.95
	// createWithin is when it has failed.
	createWithin = time.Minute
)

// cloud notes when machines were made.
type cloud struct {
	*memory.Provider

	mu sync.Mutex
	// mu guards made, the times, and asked, the calls of Create.
	made  []time.Time
	asked int
	done  chan struct{}
}

func (c *cloud) Create(ctx context.Context, req providers.CreateRequest) (providers.Machine, error) {
	m, err := c.Provider.Create(ctx, req)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if err == nil {
		if c.made = append(c.made, time.Now()); len(c.made) == machines {
			close(c.done)
		}
	}
	return m, err
}

// createMany is how many machines a second the whole control plane makes out of
// signups that wait, at a cloud whose bucket limits it.
func createMany(ctx context.Context) (r ratio, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, createWithin)
	defer cancel()
	dir, err := os.MkdirTemp("", "shbp-")
	if err != nil {
		return r, false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := site.Make(ctx, dir, machines, nil); err != nil {
		return r, false, err
	}
	c := &cloud{Provider: memory.New(time.Now), done: make(chan struct{})}
	if err := serveUntil(ctx, dir, c); err != nil {
		return r, false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.Machines()); n != machines {
		return r, false, fmt.Errorf("%d machines, want %d", n, machines)
	}
	// The burst comes for nothing.
	took := c.made[machines-1].Sub(c.made[0])
	reached := float64(machines-burst) / took.Seconds()
	fmt.Printf("create_1000: %d machines in %s, of %d calls\n", machines, took.Round(time.Millisecond), c.asked)
	r = ratio{Value: reached, Floor: rate, Ratio: reached / rate}
	return r, r.Ratio >= keepsUp, nil
}

// serveUntil runs the control plane until the last machine is made.
func serveUntil(ctx context.Context, dir string, c *cloud) (err error) {
	settings := fmt.Sprintf(`{"burst":%d,"rate":%g}`, burst, rate)
	conf, err := site.Config(dir, fmt.Sprintf("limits.machines=%d", machines), "provider.settings="+settings, "timeouts.booting=10m")
	if err != nil {
		return err
	}
	p, err := controlplane.Open(ctx, controlplane.Options{
		Dir: dir, Config: conf, Clock: time.Now, Random: rand.Reader, Logger: zap.NewNop(),
		Provider: func(context.Context, string) (providers.Provider, error) { return c, nil },
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(run) }()
	select {
	case <-c.done:
	case <-ctx.Done():
		err = fmt.Errorf("%d machines were made: %w", len(c.Machines()), ctx.Err())
	}
	stop()
	return errors.Join(err, <-ended)
}
