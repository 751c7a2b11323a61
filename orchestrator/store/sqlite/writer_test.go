package sqlite_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
)

// together runs the functions in transactions that share one commit, in their
// order: each but the last finds the next one waiting for its turn.
func together(t *testing.T, s *sqlite.Store, all ...func(store.Tx) error) []error {
	t.Helper()
	errs := make([]error, len(all))
	var done sync.WaitGroup
	var run func(n int)
	run = func(n int) {
		done.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					errs[n] = fmt.Errorf("panicked: %v", r)
				}
			}()
			errs[n] = s.Update(t.Context(), func(tx store.Tx) error {
				if n+1 < len(all) {
					run(n + 1)
					s.AwaitWaiting(t.Context())
				}
				return all[n](tx)
			})
		})
	}
	run(0)
	done.Wait()
	return errs
}

func insert(id string) func(store.Tx) error {
	return func(tx store.Tx) error {
		return errors.Join(tx.Insert(instance(id, "user of "+id)), tx.Enqueue(orchestrator.InstanceID(id)))
	}
}

func ids(t *testing.T, s *sqlite.Store) []string {
	t.Helper()
	return view(t, s, func(v store.Reader) (out []string, err error) {
		all, err := v.Instances(store.Filter{})
		for _, i := range all {
			out = append(out, string(i.ID))
		}
		return out, err
	})
}

var errBroken = errors.New("broken")

// A failure, a conflict and a panic each undo their own part of a shared
// commit, wherever in it they stand.
func TestTransactionsShareACommitAndFailAlone(t *testing.T) {
	bad := map[string]func(store.Tx) error{
		"failure":  func(tx store.Tx) error { return errors.Join(insert("bad")(tx), errBroken) },
		"conflict": func(tx store.Tx) error { return errors.Join(insert("bad")(tx), insert("a")(tx), insert("a")(tx)) },
		"panic":    func(tx store.Tx) error { _ = insert("bad")(tx); panic("a bug") },
	}
	for name, f := range bad {
		for at := range 3 {
			t.Run(fmt.Sprintf("%s at %d", name, at), func(t *testing.T) {
				s := open(t, t.TempDir())
				parts := []func(store.Tx) error{insert("a"), insert("b"), insert("c")}
				parts[at] = f
				want := slices.Delete([]string{"a", "b", "c"}, at, at+1)
				before := s.Commits()
				errs := together(t, s, parts...)
				for n, err := range errs {
					if (err != nil) != (n == at) {
						t.Errorf("transaction %d: %v", n, err)
					}
				}
				if got := ids(t, s); !slices.Equal(got, want) {
					t.Errorf("rows %v, want %v", got, want)
				}
				// A first that fails leaves the two after it one commit too.
				if n := s.Commits() - before; n != 1 {
					t.Errorf("%d commits", n)
				}
				if got := s.Hinted(); !slices.Equal(got, want) {
					t.Errorf("hints %v, want %v", got, want)
				}
			})
		}
	}
}

// Nobody is told what became of their transaction before it is on the disk, nor
// of a failure that may follow from what is not.
func TestNobodyIsToldBeforeTheCommit(t *testing.T) {
	s := open(t, t.TempDir())
	var told atomic.Int32
	var others sync.WaitGroup
	run := func(f func(store.Tx) error) {
		others.Go(func() {
			_ = s.Update(t.Context(), f)
			told.Add(1)
		})
	}
	update(t, s, func(store.Tx) error {
		run(func(tx store.Tx) error {
			run(func(tx store.Tx) error {
				run(func(store.Tx) error {
					for range 1000 {
						runtime.Gosched()
					}
					if n := told.Load(); n != 0 {
						t.Errorf("%d were told", n)
					}
					return nil
				})
				s.AwaitWaiting(t.Context())
				return insert("a")(tx)
			})
			s.AwaitWaiting(t.Context())
			return insert("a")(tx)
		})
		s.AwaitWaiting(t.Context())
		return nil
	})
	others.Wait()
}

// The first of those who share a commit waits for so many others at the most.
func TestSharedCommitIsBounded(t *testing.T) {
	s := open(t, t.TempDir())
	all := make([]func(store.Tx) error, sqlite.MaxBatch+2)
	for n := range all {
		all[n] = insert(fmt.Sprint(n))
	}
	before := s.Commits()
	for n, err := range together(t, s, all...) {
		if err != nil {
			t.Errorf("transaction %d: %v", n, err)
		}
	}
	if n := s.Commits() - before; n != 2 {
		t.Errorf("%d commits of %d transactions", n, len(all))
	}
}

// A commit is on the disk when it is said to be.
func TestCommitsAreSynced(t *testing.T) {
	const full = 2
	if got := open(t, t.TempDir()).Synchronous(t.Context()); got != full {
		t.Errorf("synchronous is %d, want %d", got, full)
	}
}

func TestManyWritersLoseNothing(t *testing.T) {
	s := open(t, t.TempDir())
	before := s.Commits()
	const writers, each = 32, 8
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for n := range each {
				id := fmt.Sprintf("%d-%d", w, n)
				err := s.Update(t.Context(), func(tx store.Tx) error {
					if err := insert(id)(tx); err != nil || n%2 == 0 {
						return err
					}
					return errBroken
				})
				if (err != nil) != (n%2 != 0) {
					t.Errorf("%s: %v", id, err)
				}
			}
		})
	}
	all.Wait()
	if n := len(ids(t, s)); n != writers*each/2 {
		t.Errorf("%d rows, want %d", n, writers*each/2)
	}
	if n := s.Commits() - before; n >= writers*each/2 {
		t.Errorf("%d commits for %d transactions", n, writers*each/2)
	}
}
