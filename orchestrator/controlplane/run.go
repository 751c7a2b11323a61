package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/toolshed-cloud/shed/orchestrator/api"
	"github.com/toolshed-cloud/shed/orchestrator/internal/failpoint"
	"github.com/toolshed-cloud/shed/orchestrator/signup"
	"github.com/toolshed-cloud/shed/orchestrator/store"
)

const (
	headerTimeout = 10 * time.Second
	bodyTimeout   = 20 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeaders    = 16 << 10
	// closeAfter is how long a stop waits for answers under way.
	closeAfter   = time.Second
	readyTimeout = 3 * time.Second
)

// Run works until ctx ends and everything has stopped. Errors are a
// listener's.
func (p *ControlPlane) Run(outer context.Context) error {
	group, ctx := errgroup.WithContext(outer)
	group.Go(func() error { return p.rec.Run(ctx) })
	group.Go(func() error { return p.enrol.Serve(ctx, p.listeners.agents) })
	group.Go(func() error { return p.serve(ctx, p.listeners.webhooks, p.webhooks(), bodyTimeout) })
	// The admin API streams: it has no time by which an answer must end.
	group.Go(func() error { return p.serve(ctx, p.listeners.admin, p.admin(), 0) })
	if p.log != nil {
		group.Go(func() error { return p.log.Run(ctx) })
		group.Go(func() error { return p.publishHeads(ctx) })
		group.Go(func() error { return p.serve(ctx, p.listeners.transparency, p.log.Handler(), bodyTimeout) })
	}
	p.Logger.Info("control plane runs", zap.Any("addresses", p.Addresses()))
	err := group.Wait()
	if outer.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (p *ControlPlane) signups() signup.Service {
	return signup.Service{Clock: p.Clock, Random: p.Random}
}

func (p *ControlPlane) webhooks() http.Handler {
	h := &signup.Handler{
		Service: p.signups(), Store: p.store, Secret: p.secret, Logger: p.Logger.Named("signup"),
		Trap: failpoint.Here, Count: p.metrics.Webhook,
	}
	return h.Routes()
}

func (p *ControlPlane) admin() http.Handler {
	return api.New(api.Parts{
		Store: p.store, Watch: p.store, SignUps: p.signups(), Limits: p.Config.Limits, Provider: p.abilities, Providers: p.providerNames(), Obstacle: p.rec.Obstacle, Offered: p.enrol.Wake,
		ReleaseKey: p.key, DefaultRelease: p.Config.DefaultRelease, Log: p.log, ResultKey: p.resultKey.Public(), Ready: p.ready,
		Metrics: p.metrics.Handler(), Clock: p.Clock, Logger: p.Logger.Named("admin"),
	})
}

// readyKey is the meta key that ready writes to, and readyBytes how much: more
// than fits into what is left of a page, as a webhook's rows may need.
const (
	readyKey   = "ready"
	readyBytes = 8 << 10
)

// readyEvery is how long an answer to whether all is well is good for: anyone
// who reaches the admin listener may ask, and looking costs a sync of the disk.
const readyEvery = time.Second

// ready says what keeps signups from becoming machines.
func (p *ControlPlane) ready(ctx context.Context) error {
	p.looking.Lock()
	defer p.looking.Unlock()
	if p.lookedAt.IsZero() || time.Since(p.lookedAt) >= readyEvery {
		p.found, p.lookedAt = p.look(ctx), time.Now()
	}
	return p.found
}

// look finds out whether webhooks can be stored, machines made of a release,
// and the provider asked.
func (p *ControlPlane) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	mark := fmt.Sprintf("%-*s", readyBytes, p.Clock().UTC().Format(time.RFC3339Nano))
	if err := p.store.Update(ctx, func(tx store.Tx) error { return tx.PutMeta(readyKey, mark) }); err != nil {
		return fmt.Errorf("storing a mark: %w", err)
	}
	err := p.store.View(ctx, func(v store.Reader) error {
		releases, err := v.Releases()
		if err == nil && len(releases) == 0 {
			err = errors.New("no release has been added")
		}
		return err
	})
	if err != nil {
		return err
	}
	for name, provider := range p.providers {
		if _, err := provider.Info(ctx); err != nil {
			return fmt.Errorf("asking the provider %s who it is: %w", name, err)
		}
	}
	return nil
}

func (p *ControlPlane) serve(ctx context.Context, l net.Listener, h http.Handler, writeTimeout time.Duration) error {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaders,
		ErrorLog: log.New(zapWriter{p.Logger}, "", 0),
		// A stream's request ends with ctx.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeAfter)
		defer cancel()
		if server.Shutdown(soon) != nil {
			_ = server.Close()
		}
	}()
	err := server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return fmt.Errorf("serving on %s: %w", l.Addr(), err)
}
