package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivertype"

	"github.com/toolshed-cloud/shed/orchestrator"
)

const (
	// workers is how many instances are looked at side by side. They wait for
	// the provider far more than they compute.
	workers = 16
	// jobTimeout leaves room for the upload of an image.
	jobTimeout = 30 * time.Minute
	// softStop is how long a stop waits for the calls under way.
	softStop = 3 * time.Second
	retryMax = 30 * time.Second
	// fetchCooldown is how soon after each other hints are handed out; an
	// inserter tells of a hint only if it told of none within that time.
	fetchCooldown = 2 * time.Millisecond
	fetchPoll     = 100 * time.Millisecond
)

// hint says to look at an instance. It carries nothing that could be out of
// date: the row decides.
type hint struct {
	Instance orchestrator.InstanceID `json:"instance"`
}

func (hint) Kind() string { return "reconcile" }

func newInserter(db *sql.DB, logger *slog.Logger) (*river.Client[*sql.Tx], error) {
	client, err := river.NewClient(riversqlite.New(db), &river.Config{
		Logger: logger, SkipUnknownJobCheck: true, FetchCooldown: fetchCooldown,
	})
	if err != nil {
		return nil, fmt.Errorf("opening the queue: %w", err)
	}
	return client, nil
}

// Work implements store.Queue.
func (s *Store) Work(ctx context.Context, handle func(context.Context, orchestrator.InstanceID) error) error {
	all := river.NewWorkers()
	work := func(ctx context.Context, job *river.Job[hint]) error { return handle(ctx, job.Args.Instance) }
	if err := river.AddWorkerSafely(all, river.WorkFunc(work)); err != nil {
		return fmt.Errorf("registering the worker: %w", err)
	}
	client, err := river.NewClient(riversqlite.New(s.writer), &river.Config{
		Logger:                      s.logger,
		Queues:                      map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}},
		Workers:                     all,
		FetchCooldown:               fetchCooldown,
		FetchPollInterval:           fetchPoll,
		JobTimeout:                  jobTimeout,
		RescueStuckJobsAfter:        2 * jobTimeout,
		RetryPolicy:                 retryPolicy{},
		CompletedJobRetentionPeriod: time.Hour,
		SoftStopTimeout:             softStop,
	})
	if err != nil {
		return fmt.Errorf("opening the queue: %w", err)
	}
	if err := s.abdicate(ctx); err != nil {
		return err
	}
	if err := client.Start(ctx); err != nil {
		return fmt.Errorf("starting the queue: %w", err)
	}
	<-client.Stopped()
	return nil
}

// abdicate forgets which client led the queue: it is a process that is gone,
// since this one holds the lock, and waiting for its term to end would take
// seconds.
func (s *Store) abdicate(ctx context.Context) error {
	if _, err := s.writer.ExecContext(ctx, "DELETE FROM river_leader"); err != nil {
		return fmt.Errorf("taking the queue over: %w", translate(err))
	}
	return nil
}

// retryPolicy is short because the rows say when something is due, whatever
// happens to a hint.
type retryPolicy struct{}

func (retryPolicy) NextRetry(job *rivertype.JobRow) time.Time {
	return time.Now().Add(min(time.Second<<min(len(job.Errors), 10), retryMax))
}
