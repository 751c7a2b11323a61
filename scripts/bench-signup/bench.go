package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/signup"
)

const (
	// waiting is how many instances wait for room while signups come in.
	waiting = 10_000
	// rounds is how often each side of the intake is measured. They are many
	// and short because others use the disk too.
	rounds       = 9
	intakeWindow = 800 * time.Millisecond
	// machines is how many are started.
	machines     = 1_000
	startClients = 8
	startsWithin = 2 * time.Minute
	shareWindow  = 10 * time.Second
	settle       = 2 * time.Second
	heartbeat    = 5 * time.Second
	pollStarts   = 50 * time.Millisecond
	// firstWaiting is the user who is let in while the others wait.
	firstWaiting = "waiting-0"
)

// bench runs every measurement, each on a state of its own.
func bench(ctx context.Context, profile string) (err error) {
	dir, err := os.MkdirTemp("", "bench-signup-")
	if err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r := &report{ratios: make(map[string]ratio)}
	b := &measurement{dir: dir, report: r, profile: profile}
	for _, part := range []func(context.Context) error{b.ready, b.starts, b.intake} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return r.end()
}

// measurement is one run of the benchmark.
type measurement struct {
	*report
	dir     string
	profile string
}

// control starts a control plane on a fresh state.
func (b *measurement) control(ctx context.Context, name string, machines, waiting int, session attest.Digest) (*child, *source, error) {
	dir := filepath.Join(b.dir, name)
	if err := seed(ctx, dir, waiting, session); err != nil {
		return nil, nil, fmt.Errorf("seeding %s: %w", name, err)
	}
	args := []string{"-machines", strconv.Itoa(machines)}
	if b.profile != "" {
		args = append(args, "-cpuprofile", b.profile+"."+name)
	}
	c, err := start(ctx, partControl, dir, args...)
	if err != nil {
		return nil, nil, err
	}
	secret, err := readSecret(dir)
	if err != nil {
		return nil, nil, errors.Join(err, c.stop())
	}
	return c, &source{secret: secret}, nil
}

// ready measures a control plane that has one ready machine and nothing to do.
func (b *measurement) ready(ctx context.Context) (err error) {
	a, err := newAgent()
	if err != nil {
		return err
	}
	c, _, err := b.control(ctx, "ready", 10, 0, a.session)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	ctx, cancel := context.WithCancel(ctx)
	beats := make(chan error, 1)
	go func() { beats <- a.beat(ctx, c.Agents, heartbeat) }()
	if err := wait(ctx, settle); err != nil {
		cancel()
		return err
	}
	share, resident, err := c.share(ctx, shareWindow)
	cancel()
	if err := errors.Join(err, <-beats); err != nil {
		return err
	}
	b.line("one ready", fmt.Sprintf("%.2f %% of a core with one ready machine (bound %.1f %%)", 100*share, 100*readyAtMost), share <= readyAtMost)
	b.line("resident", fmt.Sprintf("%.1f MiB with one ready machine (bound %d MiB)", resident, residentMiB), resident <= residentMiB)
	return nil
}

// starts measures signups that become machines, and then what those cost.
func (b *measurement) starts(ctx context.Context) (err error) {
	c, s, err := b.control(ctx, "starts", 2*machines, 0, attest.Digest{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	began := time.Now()
	intake, err := s.send(ctx, c.Webhooks, startClients, machines, 0)
	if err != nil {
		return err
	}
	if err := allBooting(ctx, c.Admin); err != nil {
		return err
	}
	rate := machines / time.Since(began).Seconds()
	b.ratios["starts"] = over(rate, startsPeer)
	b.line("starts", fmt.Sprintf("%.0f machines/s from first webhook (%.0f webhooks/s) to booting (bound %d; a durable peer's no-op jobs: %d)",
		rate, intake, startsAtLeast, startsPeer), rate >= startsAtLeast)
	if err := wait(ctx, settle); err != nil {
		return err
	}
	share, resident, err := c.share(ctx, shareWindow)
	if err != nil {
		return err
	}
	b.ratios["idle"] = over(share, idleAtMost)
	b.line("idle", fmt.Sprintf("%.2f %% of a core for %d booting machines, %.1f MiB (bound, printed as the floor: %.0f %%)",
		100*share, machines, resident, 100*idleAtMost), share <= idleAtMost)
	return nil
}

// allBooting returns when every machine is.
func allBooting(ctx context.Context, admin string) error {
	ctx, cancel := context.WithTimeout(ctx, startsWithin)
	defer cancel()
	for {
		n, err := count(ctx, admin, orchestrator.StateBooting)
		if err != nil {
			return err
		}
		if n == machines {
			return nil
		}
		if err := wait(ctx, pollStarts); err != nil {
			return fmt.Errorf("waiting for %d machines, %d are booting: %w", machines, n, err)
		}
	}
}

// count reads the number of instances in a state off the metrics.
func count(ctx context.Context, admin string, state orchestrator.State) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		return 0, fmt.Errorf("asking for the metrics: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("asking for the metrics: %w", err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), fmt.Sprintf("shed_instances{state=%q} ", state)); ok {
			return strconv.Atoi(text)
		}
	}
	return 0, fmt.Errorf("the metrics do not count %s instances", state)
}

// intake measures webhooks beside their floor while many instances wait.
func (b *measurement) intake(ctx context.Context) (err error) {
	// One of those who wait is let in.
	c, s, err := b.control(ctx, "intake", 1, waiting+1, attest.Digest{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if err := wait(ctx, settle); err != nil {
		return err
	}
	share, resident, err := c.share(ctx, shareWindow)
	if err != nil {
		return err
	}
	b.line("waiting", fmt.Sprintf("%.2f %% of a core for %d waiting instances, %.1f MiB (bound %.0f %%)",
		100*share, waiting, resident, 100*waitingAtMost), share <= waitingAtMost)
	floor, err := start(ctx, partFloor, filepath.Join(b.dir, "intake"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, floor.stop()) }()
	for _, clients := range []int{1, 8, 64} {
		if err := b.beside(ctx, s, clients, c.Webhooks, floor.Webhooks); err != nil {
			return err
		}
	}
	return b.deletion(ctx, s, c)
}

// deletion measures how long one takes while signups come in from 64 clients
// and all the others wait.
func (b *measurement) deletion(ctx context.Context, s *source, c *child) error {
	load, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// It ends in the middle of a request.
		_, _ = s.send(load, c.Webhooks, 64, 0, startsWithin)
	}()
	defer func() {
		stop()
		<-ended
	}()
	if err := wait(ctx, settle); err != nil {
		return err
	}
	began := time.Now()
	if err := s.post(ctx, http.DefaultClient, c.Webhooks, signup.UserDeleted, firstWaiting); err != nil {
		return err
	}
	for {
		n, err := count(ctx, c.Admin, orchestrator.StateDeleted)
		if err != nil {
			return err
		}
		if n > 0 {
			break
		}
	}
	took := time.Since(began)
	b.line("deletion", fmt.Sprintf("%.0f ms from webhook to deleted, beside 64 clients and all who wait (bound %d ms)",
		took.Seconds()*1000, deletionWithin.Milliseconds()), took <= deletionWithin)
	return nil
}

// beside measures the control plane and the floor in turn. The round whose
// ratio is the median counts: whatever else the machine does meanwhile, it does
// to both sides of a round.
func (b *measurement) beside(ctx context.Context, s *source, clients int, control, floor string) error {
	var all []ratio
	for range rounds {
		rates := make(map[string]float64)
		for _, n := range rand.Perm(2) {
			address := []string{control, floor}[n]
			rate, err := s.send(ctx, address, clients, 0, intakeWindow)
			if err != nil {
				return err
			}
			rates[address] = rate
		}
		all = append(all, over(rates[control], rates[floor]))
	}
	slices.SortFunc(all, func(x, y ratio) int { return cmp.Compare(x.Ratio, y.Ratio) })
	name, r := fmt.Sprintf("sqlite_%d", clients), all[len(all)/2]
	b.ratios[name] = r
	b.line(name, fmt.Sprintf("%.0f webhooks/s, one INSERT each %.0f/s, ratio %.2f (bound %.1f)", r.Value, r.Floor, r.Ratio, intakeAtLeast),
		r.Ratio >= intakeAtLeast)
	return nil
}
