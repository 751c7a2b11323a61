package translog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/backoff"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logtiles"
)

// Run asks the witnesses for what is new, and again before their cosignatures
// are old, until ctx ends.
func (l *Log) Run(ctx context.Context) error {
	// New entries get their checkpoint a moment after they are added.
	soon := time.NewTicker(l.Interval)
	defer soon.Stop()
	if err := l.announce(ctx); err != nil {
		return err
	}
	for failures := 0; ; {
		if l.due(ctx) {
			failures++
			if err := l.cosign(ctx); err == nil {
				failures = 0
			} else if ctx.Err() == nil {
				l.Logger.Warn("the log's checkpoint is not shown", zap.Error(err))
				if !pause(ctx, backoff.Pause(failures, l.Interval, lastPause)) {
					return nil
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-soon.C:
		case <-l.wake:
		}
	}
}

// lastPause is how long witnesses that do not answer are left alone at the most.
const lastPause = 5 * time.Second

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// due says whether there is a checkpoint that the witnesses have not seen, or
// one that they saw too long ago.
func (l *Log) due(ctx context.Context) bool {
	h := l.shown()
	if h.signed == nil || time.Since(h.at) >= l.Refresh {
		return true
	}
	signed, err := l.fetch(ctx, logtiles.CheckpointPath)
	if err != nil {
		return false
	}
	c, err := checkpoint.Parse(signed)
	return err == nil && c != h.Checkpoint
}

// cosign asks every witness at once, and shows the checkpoint once a quorum
// has answered. Errors are ErrUnwitnessed with what each said, and the disk's.
func (l *Log) cosign(ctx context.Context) error {
	l.rounds.Lock()
	defer l.rounds.Unlock()
	signed, err := l.fetch(ctx, logtiles.CheckpointPath)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w: it has no checkpoint yet", ErrUnwitnessed)
		}
		return fmt.Errorf("reading the log's checkpoint: %w", err)
	}
	opened, err := l.own(signed)
	if err != nil {
		return err
	}
	keys := l.signersNow()
	if signed, err = checkpoint.Sign(opened.Checkpoint, noteSigners(keys)...); err != nil {
		return err
	}
	lines, err := l.ask(ctx, opened.Checkpoint, keys[0].Key, signed)
	if len(lines) < l.Quorum {
		return fmt.Errorf("%w: %d of %d, want %d: %w", ErrUnwitnessed, len(lines), len(l.asked), l.Quorum, err)
	}
	if err != nil {
		l.Logger.Warn("a witness has not cosigned", zap.Error(err))
	}
	l.show(head{Checkpoint: opened.Checkpoint, signed: append(signed, bytes.Join(lines, nil)...), at: time.Now()})
	return nil
}

func noteSigners(keys []*checkpoint.Signer) []note.Signer {
	all := make([]note.Signer, len(keys))
	for n, key := range keys {
		all[n] = key
	}
	return all
}

func (l *Log) ask(ctx context.Context, c checkpoint.Checkpoint, key checkpoint.Key, signed []byte) (lines [][]byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, witnessTimeout)
	defer cancel()
	prove := func(ctx context.Context, from int64) (tlog.TreeProof, error) { return l.prove(ctx, c, from) }
	answers, errs := make([][]byte, len(l.asked)), make([]error, len(l.asked))
	var group sync.WaitGroup
	for n, w := range l.asked {
		group.Go(func() { answers[n], errs[n] = w.Cosign(ctx, key, signed, prove) })
	}
	group.Wait()
	for n, line := range answers {
		if errs[n] == nil {
			lines = append(lines, line)
		}
	}
	return lines, errors.Join(errs...)
}

func (l *Log) show(h head) {
	h.changed = make(chan struct{})
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.head.changed
	l.head, l.documents = h, map[attest.ReleaseDigest][]byte{}
	close(before)
}
