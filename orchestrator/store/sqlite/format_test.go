package sqlite_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
)

// edit runs statements on the database of a store that is closed.
func edit(t *testing.T, dir string, statements string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "control.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statements); err != nil {
		t.Fatal(err)
	}
}

// earlier makes a state directory with the database that a program of an
// earlier schema left.
func earlier(t *testing.T, schema string) (dir string) {
	t.Helper()
	dump, err := os.ReadFile(filepath.Join("testdata", schema+".sql"))
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	edit(t, dir, string(dump))
	return dir
}

// Every state of an instance, as the first schema's program wrote it, with a
// queue beside the rows, is read back whole, and again after a reopen.
func TestDatabaseOfTheFirstSchemaOpens(t *testing.T) {
	dir := earlier(t, "schema-1")
	for range 2 {
		s := open(t, dir)
		all := view(t, s, func(v store.Reader) ([]orchestrator.Instance, error) { return v.Instances(store.Filter{Deleted: true}) })
		states := map[orchestrator.State]orchestrator.Instance{}
		for _, i := range all {
			states[i.State] = i
		}
		// Two states are newer: replacing and awaiting-owner.
		if want := len(orchestrator.States) - 2; len(all) != want || len(states) != want {
			t.Fatalf("%d instances in %d states, want one in each of %d", len(all), len(states), want)
		}
		checkReady(t, states[orchestrator.StateReady])
		checkEarlier(t, states)
		checkRest(t, s, len(all))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func checkReady(t *testing.T, got orchestrator.Instance) {
	t.Helper()
	digest := func(text string) (d attest.Digest) {
		if err := d.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		return d
	}
	at := func(second int) time.Time { return time.Date(2026, 3, 1, 12, 0, second, 0, time.UTC) }
	want := orchestrator.Instance{
		ID: "vgi4ycxw6ybwzq3mza6mrjdpqi", User: "ready", SignedUp: at(0), Desired: orchestrator.Present, Generation: 1,
		Version: got.Version, State: orchestrator.StateReady, Reason: "accepted", Since: at(3), Entries: 1,
		Machine: "mf7sum7reoyfujegmremsftnom",
		Plan: orchestrator.Plan{
			Release: attest.ReleaseDigest{1}, Region: "local", Size: "standard", DataBytes: 1 << 20,
			ConfigDigest: digest("584a41b289ac30b08f29f9fa6705b144478c95059169791dda611a229dd31e60"),
			TokenHash:    digest("14c8bf8978d2cbe02999a1b7faf3170d35047851aa83856d202556923b4d825f"),
		},
		Created: true, Endpoint: "127.0.0.1:4430", CreatedAt: at(0),
		Enrolment: orchestrator.Enrolment{
			EK: digest("73f112566def2594c45d460edc24db2d89334dec9b793507eb7c77f2d5bd5b79"), AK: []byte{0, 11, 1, 2, 3},
			ChallengedAt: at(0), Session: attest.Digest{7}, Judged: true, Accepted: true, Verdict: "accepted",
			AttestationResult: []byte(`{"tiers":{"memory":"software"}}`), LastSeen: at(26), Running: true, Healthy: true,
		},
	}
	if !reflect.DeepEqual(got, want) || got.Version == 0 {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// checkEarlier checks what sets each of the other states apart.
func checkEarlier(t *testing.T, states map[orchestrator.State]orchestrator.Instance) {
	t.Helper()
	for state, holds := range map[orchestrator.State]func(orchestrator.Instance) bool{
		orchestrator.StateWaiting:   func(i orchestrator.Instance) bool { return i.User == "waiting" && i.Machine == "" },
		orchestrator.StateRequested: func(i orchestrator.Instance) bool { return i.Attempts > 0 && i.Limit == time.Hour },
		orchestrator.StateCreating: func(i orchestrator.Instance) bool {
			return i.Uncertain && !i.Created && len(i.Plan.Config) > 0 && i.Limit == 10*time.Minute
		},
		orchestrator.StateBooting:     func(i orchestrator.Instance) bool { return i.Created && i.Limit == 5*time.Minute },
		orchestrator.StateEnrolling:   func(i orchestrator.Instance) bool { return !i.Enrolment.ChallengedAt.IsZero() },
		orchestrator.StateQuarantined: func(i orchestrator.Instance) bool { return i.Enrolment.Judged && !i.Enrolment.Accepted },
		orchestrator.StateFailed:      func(i orchestrator.Instance) bool { return strings.Contains(i.Reason, "size is unknown") },
		orchestrator.StateStopped:     func(i orchestrator.Instance) bool { return !i.Enrolment.EK.IsZero() && !i.Enrolment.Judged },
		orchestrator.StateDeleting:    func(i orchestrator.Instance) bool { return i.Desired == orchestrator.Absent && i.User != "" },
		orchestrator.StateDeleted:     func(i orchestrator.Instance) bool { return i.User == "" && i.Machine != "" },
	} {
		if i := states[state]; !holds(i) {
			t.Errorf("%s came back as %+v", state, i)
		}
	}
}

// checkRest reads what is not instances, and what follows from all of it.
func checkRest(t *testing.T, s *sqlite.Store, instances int) {
	t.Helper()
	if err := s.View(t.Context(), func(v store.Reader) error {
		if _, err := v.Receipt("msg_1"); err != nil {
			t.Error(err)
		}
		if name, err := v.TokenName(attest.Digest{3}); name != "admin" || err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if r, err := v.Release(attest.ReleaseDigest{1}); r.Version != "1.0.0" || err != nil {
			t.Errorf("%+v: %v", r, err)
		}
		if at, err := v.Tombstone("deleted"); at.IsZero() || err != nil {
			t.Errorf("%s: %v", at, err)
		}
		if events, err := v.Events(0, "", 1000); len(events) < instances || err != nil {
			t.Errorf("%d events: %v", len(events), err)
		}
		if line, err := v.Admissible(10); len(line) != 1 || line[0].User != "waiting" || err != nil {
			t.Errorf("%v stand in line: %v", line, err)
		}
		if unfinished, err := v.Unfinished(); len(unfinished) != instances-2 || err != nil {
			t.Errorf("%v are unfinished: %v", unfinished, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// fill sets every field that a row keeps to something that is not zero.
func fill(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = now
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for n := range v.NumField() {
			f := v.Type().Field(n)
			if _, tagged := f.Tag.Lookup("json"); !tagged {
				t.Errorf("%s%s has no name in a row", path, f.Name)
			}
			fill(t, v.Field(n), path+f.Name+".")
		}
	case reflect.String:
		v.SetString("present")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint64:
		v.SetUint(1)
	case reflect.Slice:
		v.SetBytes([]byte{1, 2})
	case reflect.Array:
		v.Index(0).SetUint(9)
	default:
		t.Fatalf("%s is a %s, which this test cannot fill", path, v.Kind())
	}
}

// Nothing that an instance knows is lost between two looks.
func TestEveryFieldHasANameAndComesBack(t *testing.T) {
	var i orchestrator.Instance
	fill(t, reflect.ValueOf(&i).Elem(), "")
	s := open(t, t.TempDir())
	update(t, s, func(tx store.Tx) error { return tx.Insert(i) })
	got := view(t, s, func(v store.Reader) (orchestrator.Instance, error) { return v.Instance(i.ID) })
	if !reflect.DeepEqual(got, i) {
		t.Errorf("got  %+v\nwant %+v", got, i)
	}
}

// A row that this program does not know is refused, and neither read by
// halves nor written over.
func TestUnknownRowsAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"a later format":   {`"format":5`, `"format":6`, "format 6"},
		"no format":        {`"format":5,`, ``, "format 0"},
		"an unknown field": {`"format":5`, `"format":5,"colour":"red"`, "colour"},
		"two documents":    {`"format":5`, `"format":5}{"format":5`, "follows"},
		"not JSON":         {`"format":5`, `format`, "format"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			update(t, s, func(tx store.Tx) error { return tx.Insert(instance("a", "amara")) })
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			edit(t, dir, "UPDATE instances SET document = replace(document, '"+c.from+"', '"+c.to+"')")
			err := open(t, dir).View(t.Context(), func(v store.Reader) error {
				_, err := v.Instance("a")
				return err
			})
			if err == nil || !strings.Contains(fmt.Sprint(err), c.want) || !strings.Contains(fmt.Sprint(err), "instance a") {
				t.Errorf("%v", err)
			}
		})
	}
}

// A first-format row that is not what its program wrote keeps the migration
// from half-reading it; nothing is changed.
func TestMigrationRefusesWhatItDoesNotKnow(t *testing.T) {
	dir := earlier(t, "schema-1")
	edit(t, dir, `UPDATE instances SET document = replace(document, '"Reason"', '"Colour"') WHERE state = 'ready'`)
	for range 2 {
		s, err := sqlite.Open(t.Context(), dir)
		if err == nil {
			t.Fatal(s.Close())
		}
		if !strings.Contains(fmt.Sprint(err), "Colour") || !strings.Contains(fmt.Sprint(err), "0002_rows.sql") {
			t.Errorf("%v", err)
		}
	}
	edit(t, dir, `UPDATE instances SET document = replace(document, '"Colour"', '"Reason"')`)
	open(t, dir)
}

// The rows of a schema whose format only lacks fields of this one are read as they
// are.
func TestDatabaseOfTheFifthSchemaOpens(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	update(t, s, func(tx store.Tx) error { return tx.Insert(instance("a", "amara")) })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, dir, `UPDATE instances SET document = replace(document, '"format":5', '"format":2'); PRAGMA user_version = 5`)
	got := view(t, open(t, dir), func(v store.Reader) (orchestrator.Instance, error) { return v.Instance("a") })
	if got.User != "amara" || got.Wish != (orchestrator.Wish{}) || got.Plan.Provider != "" {
		t.Errorf("%+v", got)
	}
}

// A row in which the program before updates in place filled every field comes back
// whole, and runs what its machine was made from.
func TestDatabaseOfTheSeventhSchemaOpens(t *testing.T) {
	s := open(t, earlier(t, "schema-7"))
	got := view(t, s, func(v store.Reader) (orchestrator.Instance, error) { return v.InstanceOfUser("amara") })
	var want orchestrator.Instance
	fill(t, reflect.ValueOf(&want).Elem(), "")
	want.ID, want.User, want.State, want.Machine = got.ID, "amara", orchestrator.StateReady, "mf7sum7reoyfujegmremsftnom"
	want.DataOf, want.Restoring, want.Cycling = "", "", false
	want.Updated, want.Update, want.Enrolment.Release = attest.ReleaseDigest{}, orchestrator.Update{}, attest.ReleaseDigest{}
	if !reflect.DeepEqual(got, want) || got.Runs() != want.Plan.Release || got.Proven() != want.Plan.Release {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestSchemaOfALaterProgramIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := open(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	edit(t, dir, "PRAGMA user_version = 99")
	if s, err := sqlite.Open(t.Context(), dir); err == nil || !strings.Contains(fmt.Sprint(err), "99") {
		t.Errorf("%v %v", s, err)
	}
}
