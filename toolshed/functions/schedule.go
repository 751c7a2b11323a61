package functions

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/robfig/cron/v3"
	"go.uber.org/zap"
)

// next is when a schedule comes after a time: five fields, in UTC.
func next(schedule string, after time.Time) (time.Time, error) {
	if len(strings.Fields(schedule)) != 5 || strings.Contains(schedule, "=") {
		return time.Time{}, errors.New("want five fields: minute, hour, day of the month, month, day of the week")
	}
	s, err := cron.ParseStandard(schedule)
	if err != nil {
		return time.Time{}, fmt.Errorf("want five fields as cron has them: %w", err)
	}
	at := s.Next(after.UTC())
	if at.IsZero() {
		return time.Time{}, errors.New("it never comes")
	}
	return at, nil
}

// Scheduler says when a minute begins, until the context ends.
type Scheduler interface {
	// Each calls run at the beginning of each minute, and not while it runs: a
	// minute that is missed is not made up for.
	Each(ctx context.Context, run func(minute time.Time))
}

// Minutes is a Scheduler by a clock.
type Minutes struct {
	Now func() time.Time
}

var _ Scheduler = Minutes{}

// Each is as the interface says.
func (m Minutes) Each(ctx context.Context, run func(time.Time)) {
	for {
		now := m.Now()
		minute := now.Truncate(time.Minute).Add(time.Minute)
		timer := time.NewTimer(minute.Sub(now))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		// The clock may have been set meanwhile, or go slower than timers: a
		// minute that has not come yet is waited for again.
		if late := m.Now().Sub(minute); late >= 0 && late < time.Minute {
			run(minute)
		}
	}
}

// Schedule runs what is due, until the context ends and what it began is over.
func (s *Service) Schedule(ctx context.Context, by Scheduler) {
	var running sync.WaitGroup
	defer running.Wait()
	by.Each(ctx, func(minute time.Time) { s.due(ctx, minute, &running) })
}

// due begins what is to run in a minute. What is still running of an earlier
// one counts against the function's limits, and so does not pile up.
func (s *Service) due(ctx context.Context, minute time.Time, running *sync.WaitGroup) {
	s.programs.sweep(maxLoaded, minute.Add(-idleFor))
	s.tellChanged()
	all, err := s.shelf.list(ctx)
	if err != nil {
		s.Log.Error("reading schedules", zap.Error(err))
		return
	}
	for _, f := range all {
		if f.Settings.Schedule == "" {
			continue
		}
		if at, err := next(f.Settings.Schedule, minute.Add(-time.Second)); err != nil || !at.Equal(minute) {
			continue
		}
		running.Go(func() {
			_, err := s.Invoke(ctx, f.Name, TriggerSchedule, []string{"SHED_TIME=" + minute.UTC().Format(time.RFC3339)}, nil)
			if errors.Is(err, ErrBusy) {
				// The function's log has the others.
				s.Log.Warn("a scheduled function was not called", zap.Error(err))
			}
		})
	}
}
