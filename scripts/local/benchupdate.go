package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// benchUpdate measures from an offer to a running machine, whose owner has a
// standing policy, to the next release being healthy and kept, beside what a cold
// boot takes from the webhook.
func (l *local) benchUpdate(ctx context.Context) (ratio, error) {
	var updates, boots []time.Duration
	for n := range benchRounds {
		took, err := l.coldBoot(ctx, fmt.Sprintf("cold-%d", n))
		if err != nil {
			return ratio{}, err
		}
		boots = append(boots, took)
		if err := l.place.shed(ctx, nil, "instance", "delete", "--wait", l.instance.ID); err != nil {
			return ratio{}, err
		}
	}
	if _, err := l.coldBoot(ctx, demoUser); err != nil {
		return ratio{}, err
	}
	if _, err := l.place.owner(ctx, "claim", "--standing-updates", "--update-delay", "0s", l.instance.URL); err != nil {
		return ratio{}, err
	}
	for n := range benchRounds {
		took, err := l.update(ctx, n+1)
		if err != nil {
			return ratio{}, err
		}
		updates = append(updates, took)
	}
	return compare(updates, boots), nil
}

// coldBoot is from the webhook to a machine that is ready.
func (l *local) coldBoot(ctx context.Context, user string) (time.Duration, error) {
	began := time.Now()
	if err := l.control.signUp(ctx, user); err != nil {
		return 0, err
	}
	var err error
	l.instance, err = l.control.waitInstance(ctx, user)
	return time.Since(began), err
}

// update makes the next release, and is from its offer to the end of the trial.
func (l *local) update(ctx context.Context, n int) (time.Duration, error) {
	version, p := fmt.Sprintf("1.%d.0", n), l.place
	dir, keys := p.in("releases", version), []string{"--secure-boot-keys", p.secureBootKeys()}
	err := p.shed(ctx, nil, append([]string{"image", "build", "--output", dir, "--cache", p.cache, "--shapes", p.machineShape().String(),
		"--version", version, "--epoch", "2", "--agent", p.measured("shed-agent"), "--toolshed", p.measured("toolshed")}, keys...)...)
	if err == nil {
		err = p.shed(ctx, nil, append([]string{"image", "sign", "--key", p.releaseKey(), dir}, keys...)...)
	}
	var added struct {
		Digest string `json:"digest"`
	}
	if err == nil {
		err = p.shed(ctx, &added, "release", "add", dir)
	}
	if err != nil {
		return 0, err
	}
	return l.offer(ctx, added.Digest)
}

// offer offers a release to the one machine until it is kept, and is how long that
// took. Where the kernel crashed another offer is measured.
func (l *local) offer(ctx context.Context, digest string) (took time.Duration, err error) {
	m, err := l.place.copyMachine()
	if err != nil {
		return 0, err
	}
	err = untilBooted("offering it", func() error {
		before, err := m.console()
		if err != nil {
			return err
		}
		began := time.Now()
		updated := l.place.shed(ctx, nil, "instance", "update", "--wait", "--timeout", "3m", l.instance.ID, "--release", digest)
		took = time.Since(began)
		if updated == nil {
			return nil
		}
		after, err := m.console()
		return errors.Join(updated, err, crashed(after[min(len(before), len(after)):]))
	})
	if err != nil {
		return 0, err
	}
	return took, nil
}
