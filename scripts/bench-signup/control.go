package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/controlplane"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/memory"
	"github.com/toolshed-cloud/shed/scripts/internal/site"
)

// readyMachine is the id of the machine that heartbeats.
const readyMachine = "aaaaaaaaaaaaaaaaaaaaaaaaaa"

// seed makes a state directory with a release, instances that wait, and, where
// session is set, a ready one that heartbeats with that key.
func seed(ctx context.Context, dir string, waiting int, session attest.Digest) error {
	return site.Make(ctx, dir, waiting, func(tx store.Tx) error {
		if session.IsZero() {
			return nil
		}
		return tx.Insert(readyInstance(session))
	})
}

func readyInstance(session attest.Digest) orchestrator.Instance {
	now := time.Now()
	i := orchestrator.Instance{
		ID: readyMachine, User: "ready", SignedUp: now, CreatedAt: now, Desired: orchestrator.Present, Generation: 1,
		Machine: readyMachine, Created: true, Endpoint: "127.0.0.1:1", Plan: orchestrator.Plan{Release: attest.ReleaseDigest{1}},
		Enrolment: orchestrator.Enrolment{
			Session: session, Judged: true, Accepted: true, Verdict: "accepted", Running: true, Healthy: true, LastSeen: now,
		},
	}
	i.Enter(orchestrator.StateReady, "accepted", now, orchestrator.Limits{})
	return i
}

// serveControl is the control plane as `shed serve` runs it, over a provider
// in memory.
func serveControl(ctx context.Context, dir string, machines int) (err error) {
	c, err := site.Config(dir, fmt.Sprintf("limits.machines=%d", machines))
	if err != nil {
		return err
	}
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	p, err := controlplane.Open(ctx, controlplane.Options{
		Dir: dir, Config: c, Clock: time.Now, Random: rand.Reader,
		Logger:   zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), zapcore.InfoLevel)),
		Provider: func(ctx context.Context, _ string) (providers.Provider, error) { return provider(ctx, dir) },
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	at := p.Addresses()
	err = answer(greeting{Admin: at.Admin, Webhooks: at.Webhooks, Agents: at.Agents})
	stop()
	return errors.Join(err, <-ended)
}

// provider has the machine of the ready instance, whether or not there is one.
func provider(ctx context.Context, dir string) (providers.Provider, error) {
	p := memory.New(time.Now)
	if err := p.Configure(ctx, []byte("{}")); err != nil {
		return nil, err
	}
	rel, err := site.Release(dir)
	if err != nil {
		return nil, err
	}
	image, err := rel.Image()
	if err != nil {
		return nil, err
	}
	if err := p.EnsureImage(ctx, image, func(int64, int64) {}); err != nil {
		return nil, err
	}
	_, err = p.Create(ctx, providers.CreateRequest{
		Installation: site.Installation, Machine: readyMachine,
		Spec: providers.Spec{Release: image.Release, Region: "local", Size: "standard", DataBytes: 1, Config: []byte("config")},
	})
	return p, err
}
