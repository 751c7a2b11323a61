package functions

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/toolshed/functions/sandbox"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// The ways that a function is called.
const (
	TriggerHTTP     = "http"
	TriggerSchedule = "schedule"
	TriggerQueue    = "queue"
)

// Options is what the functions run on.
type Options struct {
	DB *store.DB
	// Folder is where machine code is kept; it can be made anew.
	Folder string
	Fetch  Doer
	Now    func() time.Time
	Random io.Reader
	// Concurrent bounds the calls at once, Quota the bytes of all modules.
	Concurrent int
	Quota      int64
	// Software names the server to functions.
	Software string
	Log      *zap.Logger
	// Publish passes on that a function was called; nil for nobody.
	Publish func(any)
}

// waiting is how many requests there may be for each call that there may be.
const waiting = 4

// Service keeps functions and calls them.
type Service struct {
	Options
	shelf    shelf
	ledger   *ledger
	programs *programs
	gate     *gate
	// visitors holds a place for each request on functions' own origins, whose
	// bodies are in memory before their calls are counted.
	visitors chan struct{}
	// changed says that what queues are followed may have.
	changed chan struct{}
}

var _ mount.Reporter = (*Service)(nil)

// New opens the functions. What it answers has to be closed.
func New(ctx context.Context, o Options) (*Service, error) {
	s := &Service{
		Options:  o,
		shelf:    shelf{db: o.DB, now: o.Now, quota: o.Quota, known: map[string]callable{}},
		ledger:   &ledger{db: o.DB},
		programs: newPrograms(o.Folder, sandbox.Environment{Now: o.Now, Random: o.Random}),
		gate:     &gate{most: o.Concurrent, doors: map[string]*door{}},
		visitors: make(chan struct{}, waiting*o.Concurrent),
		changed:  make(chan struct{}, 1),
	}
	kept, err := s.shelf.hashes(ctx)
	if err != nil {
		return nil, err
	}
	return s, s.programs.tidy(kept)
}

// Close writes what is not written yet. No call may be under way.
func (s *Service) Close() error {
	return errors.Join(s.ledger.flush(context.Background()), s.programs.close())
}

// Deploy keeps a module as a function's next version. Errors are a *FieldError,
// sandbox.ErrModule, ErrTooMany, ErrQuota and store.ErrFull.
func (s *Service) Deploy(ctx context.Context, name string, module []byte) (version int64, isNew bool, err error) {
	if err := checkName(name); err != nil {
		return 0, false, err
	}
	hash := Hash(sha256.Sum256(module))
	program, release, err := s.programs.use(ctx, hash, func() ([]byte, error) { return module, nil })
	if err == nil {
		err = program.Try(ctx)
		release()
	}
	// Compiling takes tens of megabytes, which a small machine is not to be
	// without until the runtime gives them back by itself.
	debug.FreeOSMemory()
	var dropped []Hash
	if err == nil {
		version, isNew, dropped, err = s.shelf.put(ctx, name, module)
	}
	if err != nil {
		return 0, false, errors.Join(err, s.forgetUnkept(ctx, hash))
	}
	if err := s.programs.remove(dropped...); err != nil {
		// The version is kept all the same; a start tidies up.
		s.Log.Warn("removing what was compiled", zap.Error(err))
	}
	return version, isNew, nil
}

// forgetUnkept removes what was compiled for a module that is not kept.
func (s *Service) forgetUnkept(ctx context.Context, hash Hash) error {
	kept, err := s.shelf.hashes(context.WithoutCancel(ctx))
	if err != nil || kept[hash] {
		return err
	}
	return s.programs.remove(hash)
}

// Set replaces a function's settings. Errors are ErrNotFound and a *FieldError.
func (s *Service) Set(ctx context.Context, name string, settings Settings) error {
	defer s.tellChanged()
	return s.shelf.set(ctx, name, settings)
}

// Logs are of a function's calls after one, the oldest first; where after is 0,
// of the latest. The error is ErrNotFound.
func (s *Service) Logs(ctx context.Context, name string, after int64, limit int) ([]Entry, error) {
	return s.ledger.entries(ctx, name, after, limit)
}

// Remove forgets a function with its keys, secrets and log.
func (s *Service) Remove(ctx context.Context, name string) error {
	gone, err := s.shelf.remove(ctx, name)
	if err != nil {
		return err
	}
	s.gate.forget(name)
	s.tellChanged()
	return s.programs.remove(gone...)
}

// Usage says what is kept.
func (s *Service) Usage(ctx context.Context) (mount.Usage, error) {
	u := mount.Usage{Of: "functions", Quota: s.Quota}
	err := s.DB.View(ctx, func(tx *store.Tx) error { return tx.QueryRow(`SELECT count(*) FROM functions`).Scan(&u.Count) })
	if err != nil {
		return u, wrap("counting functions", err)
	}
	u.Bytes, err = s.DB.Bytes()
	return u, err
}

// Invoke calls the version of a function that is to be called. Errors are
// ErrNotFound, ErrBusy, and those of a sandbox's Run, with which the outcome
// is what there was until then.
func (s *Service) Invoke(ctx context.Context, name, trigger string, variables []string, input []byte) (sandbox.Outcome, error) {
	f, err := s.shelf.callable(ctx, name)
	if err != nil {
		return sandbox.Outcome{}, err
	}
	return s.call(ctx, f, trigger, variables, input)
}

func (s *Service) call(ctx context.Context, f callable, trigger string, variables []string, input []byte) (sandbox.Outcome, error) {
	l := f.Settings.Limits.withDefaults()
	leave, err := s.gate.enter(f.Name, l, s.Now())
	if err != nil {
		return sandbox.Outcome{}, err
	}
	defer leave()
	program, release, err := s.programs.use(ctx, f.hash, func() ([]byte, error) { return s.shelf.module(ctx, f.hash) })
	if err != nil {
		return sandbox.Outcome{}, err
	}
	defer release()
	began := s.Now()
	outcome, err := program.Run(ctx, sandbox.Call{
		Args: []string{f.Name}, Variables: environment(f, trigger, variables), Input: input,
		Time: time.Duration(l.TimeMS) * time.Millisecond, Memory: l.MemoryBytes, Output: l.OutputBytes, Log: maxLogBytes,
		Host: &host{keys: keys{s.DB, f.Name}, fetcher: s.Fetch, kv: f.Settings.KV, allowed: f.Settings.Fetch}, HostCalls: l.HostCalls,
	})
	e := Entry{
		name: f.Name, Version: f.Version, Trigger: trigger, At: began, TimeUS: outcome.Took.Microseconds(),
		PeakBytes: outcome.Peak, HostCalls: outcome.HostCalls, Text: text(outcome.Log),
	}
	if err != nil {
		e.Failure = err.Error()
	}
	s.ledger.add(e)
	if s.Publish != nil {
		s.Publish(called{f.Name, f.Version, trigger, began.UTC(), e.TimeUS, e.Failure})
	}
	return outcome, err
}

// called is what the feed tells of a call.
type called struct {
	Name    string    `json:"name"`
	Version int64     `json:"version"`
	Trigger string    `json:"trigger"`
	At      time.Time `json:"at"`
	TimeUS  int64     `json:"time_us"`
	Failure string    `json:"failure,omitempty"`
}

// environment is what a function sees: its owner's variables, then what says
// how it is called, which they cannot change.
func environment(f callable, trigger string, variables []string) (all []string) {
	for _, given := range []map[string]string{f.Settings.Environment, f.secrets} {
		for name, value := range given {
			all = append(all, name+"="+value)
		}
	}
	slices.Sort(all)
	all = append(all, "SHED_TRIGGER="+trigger, "SHED_FUNCTION="+f.Name, fmt.Sprintf("SHED_VERSION=%d", f.Version))
	return append(all, variables...)
}

// Deliver gives a message to every function that takes those of a queue; the
// error joins theirs, with which the message is to be given again.
func (s *Service) Deliver(ctx context.Context, queue, id string, message []byte) error {
	all, err := s.shelf.list(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range all {
		if f.Settings.Queue == queue {
			_, err := s.Invoke(ctx, f.Name, TriggerQueue, []string{"SHED_QUEUE=" + queue, "SHED_MESSAGE=" + id}, message)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Queues are those that functions take messages of.
func (s *Service) Queues(ctx context.Context) (names []string, err error) {
	all, err := s.shelf.list(ctx)
	for _, f := range all {
		if f.Settings.Queue != "" {
			names = append(names, f.Settings.Queue)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), err
}
