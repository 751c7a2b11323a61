package sqlite_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
	"github.com/toolshed-cloud/shed/providers"
)

var now = time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)

func open(t *testing.T, dir string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func update(t *testing.T, s *sqlite.Store, f func(store.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func view[T any](t *testing.T, s *sqlite.Store, f func(store.Reader) (T, error)) (out T) {
	t.Helper()
	if err := s.View(t.Context(), func(v store.Reader) (err error) {
		out, err = f(v)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func instance(id, user string) orchestrator.Instance {
	return orchestrator.Instance{
		ID: orchestrator.InstanceID(id), User: orchestrator.UserID(user), Desired: orchestrator.Present,
		State: orchestrator.StateWaiting, CreatedAt: now,
	}
}

func TestInstanceComesBackAsItWas(t *testing.T) {
	s := open(t, t.TempDir())
	i := instance("a", "amara")
	i.Machine, i.Generation, i.Reason = "m", 3, "because"
	i.Plan = orchestrator.Plan{Config: []byte{1, 2}, DataBytes: 7, TokenHash: attest.Digest{9}}
	i.Enrolment = orchestrator.Enrolment{EK: attest.Digest{5}, AK: []byte{6}, Judged: true, LastSeen: now}
	update(t, s, func(tx store.Tx) error { return tx.Insert(i) })
	i.Version = 1
	got := view(t, s, func(v store.Reader) (orchestrator.Instance, error) { return v.Instance("a") })
	if !reflect.DeepEqual(got, i) {
		t.Errorf("got  %+v\nwant %+v", got, i)
	}
}

func TestReplaceIsACompareAndSwap(t *testing.T) {
	s := open(t, t.TempDir())
	update(t, s, func(tx store.Tx) error { return tx.Insert(instance("a", "amara")) })
	read := func() orchestrator.Instance {
		return view(t, s, func(v store.Reader) (orchestrator.Instance, error) { return v.Instance("a") })
	}
	mine, theirs := read(), read()
	theirs.Reason = "theirs"
	update(t, s, func(tx store.Tx) error { return tx.Replace(&theirs) })
	mine.Reason = "mine"
	err := s.Update(t.Context(), func(tx store.Tx) error { return tx.Replace(&mine) })
	if !errors.Is(err, orchestrator.ErrStale) {
		t.Errorf("%v", err)
	}
	if got := read(); got.Reason != "theirs" || got.Version != 2 {
		t.Errorf("%+v", got)
	}
}

func TestOneInstancePerUserWhileItIsWished(t *testing.T) {
	s := open(t, t.TempDir())
	update(t, s, func(tx store.Tx) error { return tx.Insert(instance("a", "amara")) })
	err := s.Update(t.Context(), func(tx store.Tx) error { return tx.Insert(instance("b", "amara")) })
	if !errors.Is(err, orchestrator.ErrConflict) {
		t.Errorf("%v", err)
	}
	update(t, s, func(tx store.Tx) error {
		i, err := tx.Instance("a")
		if err != nil {
			return err
		}
		i.SetDesired(orchestrator.Absent)
		return errors.Join(tx.Replace(&i), tx.Insert(instance("b", "amara")))
	})
}

// What fails leaves nothing: neither row, nor event, nor hint.
func TestUpdateIsAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	broken := errors.New("broken")
	err := s.Update(t.Context(), func(tx store.Tx) error {
		return errors.Join(tx.Insert(instance("a", "amara")), tx.Note(orchestrator.Event{Instance: "a", At: now}),
			tx.Enqueue("a"), tx.PutTombstone("amara", now), broken)
	})
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
	left := view(t, s, func(v store.Reader) (int, error) {
		all, err := v.Instances(store.Filter{Deleted: true})
		events, err2 := v.Events(0, "", 10)
		return len(all) + len(events), errors.Join(err, err2)
	})
	if left != 0 {
		t.Errorf("%d rows are left", left)
	}
	// Only the hint of a transaction that holds may come.
	update(t, s, func(tx store.Tx) error { return tx.Enqueue("b") })
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if err := s.Work(ctx, func(_ context.Context, id orchestrator.InstanceID) (time.Duration, error) {
		if id != "b" {
			t.Errorf("hint for %s", id)
		}
		stop()
		return store.Never, nil
	}); err != nil {
		t.Error(err)
	}
}

func TestSecondOpenIsRefusedAndNamesTheHolder(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	_, err := sqlite.Open(t.Context(), dir)
	var locked *sqlite.LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Fatalf("%v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second close: %v", err)
	}
	open(t, dir)
}

func TestTombstonesOnlyRise(t *testing.T) {
	s := open(t, t.TempDir())
	read := func() time.Time {
		return view(t, s, func(v store.Reader) (time.Time, error) { return v.Tombstone("amara") })
	}
	if !read().IsZero() {
		t.Error("a tombstone from the start")
	}
	for _, at := range []time.Time{now, now.Add(-time.Hour), now.Add(time.Hour)} {
		update(t, s, func(tx store.Tx) error { return tx.PutTombstone("amara", at) })
	}
	if got := read(); !got.Equal(now.Add(time.Hour)) {
		t.Errorf("%s", got)
	}
}

// What a deletion wiped is not in the files any more.
func TestTombstoneAndWipeLeaveNoUserOnTheDisk(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	const user, secret = "someone-very-unusual", "config-with-a-token"
	i := instance("a", user)
	i.Plan.Config = []byte(secret)
	update(t, s, func(tx store.Tx) error { return tx.Insert(i) })
	update(t, s, func(tx store.Tx) error {
		i, err := tx.Instance("a")
		if err != nil {
			return err
		}
		i.SetDesired(orchestrator.Absent)
		i.User, i.Plan.Config, i.State = "", nil, orchestrator.StateDeleted
		return errors.Join(tx.PutTombstone(user, now), tx.Replace(&i))
	})
	// Closing checkpoints the journal into the database and removes it.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(user)) {
			t.Errorf("%s still holds the user", name)
		}
		if bytes.Contains(b, []byte(base64.StdEncoding.EncodeToString([]byte(secret)))) {
			t.Errorf("%s still holds the token", name)
		}
	}
}

// Whoever has something to be done is looked at after a restart, and whoever
// only waits is not: there may be many.
func TestUnfinished(t *testing.T) {
	s := open(t, t.TempDir())
	for id, c := range map[string]struct {
		state   orchestrator.State
		desired orchestrator.Desired
	}{
		"waits": {orchestrator.StateWaiting, orchestrator.Present}, "leaves": {orchestrator.StateWaiting, orchestrator.Absent},
		"boots": {orchestrator.StateBooting, orchestrator.Present}, "deletes": {orchestrator.StateDeleting, orchestrator.Absent},
		"gone": {orchestrator.StateDeleted, orchestrator.Absent},
	} {
		i := instance(id, id)
		i.State, i.Desired = c.state, c.desired
		update(t, s, func(tx store.Tx) error { return tx.Insert(i) })
	}
	got := view(t, s, func(v store.Reader) ([]orchestrator.InstanceID, error) { return v.Unfinished() })
	slices.Sort(got)
	if want := []orchestrator.InstanceID{"boots", "deletes", "leaves"}; !slices.Equal(got, want) {
		t.Errorf("unfinished are %v, want %v", got, want)
	}
}

func TestPagesAndFilters(t *testing.T) {
	s := open(t, t.TempDir())
	update(t, s, func(tx store.Tx) error {
		for n := range 5 {
			i := instance(fmt.Sprint(n), fmt.Sprint("user", n))
			if n == 4 {
				i.State = orchestrator.StateDeleted
			}
			if err := tx.Insert(i); err != nil {
				return err
			}
		}
		return nil
	})
	for _, c := range []struct {
		name   string
		filter store.Filter
		want   string
	}{
		{"all that are there", store.Filter{}, "0123"},
		{"with the deleted", store.Filter{Deleted: true}, "01234"},
		{"first page", store.Filter{Limit: 2}, "01"},
		{"next page", store.Filter{Limit: 2, After: "1"}, "23"},
		{"a user's", store.Filter{User: "user2"}, "2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := view(t, s, func(v store.Reader) ([]orchestrator.Instance, error) { return v.Instances(c.filter) })
			got := ""
			for _, i := range found {
				got += string(i.ID)
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestSeenDoesNotRaiseTheVersion(t *testing.T) {
	s := open(t, t.TempDir())
	i := instance("a", "amara")
	i.Machine = "m"
	update(t, s, func(tx store.Tx) error { return tx.Insert(i) })
	update(t, s, func(tx store.Tx) error {
		return tx.Seen(map[providers.MachineID]time.Time{"m": now.Add(time.Second), "unknown": now})
	})
	got := view(t, s, func(v store.Reader) (orchestrator.Instance, error) { return v.InstanceOfMachine("m") })
	if !got.Enrolment.LastSeen.Equal(now.Add(time.Second)) || got.Version != 1 {
		t.Errorf("%+v", got)
	}
	id := view(t, s, func(v store.Reader) (orchestrator.InstanceID, error) { return v.Machine("m") })
	if id != "a" {
		t.Errorf("machine is remembered for %q", id)
	}
}

func TestReleasesNewestEpochFirst(t *testing.T) {
	s := open(t, t.TempDir())
	update(t, s, func(tx store.Tx) error {
		for n, epoch := range []uint64{1, 3, 2, 3} {
			r := orchestrator.Release{
				Digest: attest.ReleaseDigest{byte(n)}, Version: fmt.Sprint(n), Epoch: epoch, AddedAt: now.Add(time.Duration(n) * time.Second),
				Manifest: []byte{1}, Bundle: []byte{2}, DiskSHA256: attest.Digest{3},
			}
			if err := tx.PutRelease(r); err != nil {
				return err
			}
		}
		return nil
	})
	got := ""
	for _, r := range view(t, s, func(v store.Reader) ([]orchestrator.Release, error) { return v.Releases() }) {
		got += r.Version
	}
	if got != "3120" {
		t.Errorf("order %s", got)
	}
}

func TestChangedTellsOfCommitsAlone(t *testing.T) {
	s := open(t, t.TempDir())
	before := s.Changed()
	if err := s.Update(t.Context(), func(store.Tx) error { return errors.New("no") }); err == nil {
		t.Fatal("no error")
	}
	select {
	case <-before:
		t.Error("told of a transaction that did not hold")
	default:
	}
	update(t, s, func(tx store.Tx) error { return tx.PutMeta("k", "v") })
	<-before
}
