package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var things = Schema{Name: "things", Migrations: []Migration{
	Statements("CREATE TABLE things (name TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT"),
}}

func openAt(t *testing.T, dir string) *DB {
	t.Helper()
	d, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	db, err := d.Open(t.Context(), things)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(db.Close(), d.Close()); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return db
}

func insert(db *DB, name string, n int) error {
	return db.Update(context.Background(), func(tx *Tx) error {
		_, err := tx.Exec("INSERT INTO things VALUES (?, ?)", name, n)
		return err
	})
}

func count(t *testing.T, db *DB) (n int) {
	t.Helper()
	err := db.View(t.Context(), func(tx *Tx) error { return tx.QueryRow("SELECT count(*) FROM things").Scan(&n) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A commit is answered when it is on the disk, in the log: SQLite calls that
// synchronous = 2 in WAL mode.
func TestCommitsAreSynced(t *testing.T) {
	db := openAt(t, t.TempDir())
	var synchronous int
	var journal string
	err := db.Update(t.Context(), func(tx *Tx) error {
		return tx.QueryRow("SELECT synchronous, journal_mode FROM pragma_synchronous, pragma_journal_mode").Scan(&synchronous, &journal)
	})
	if err != nil || synchronous != 2 || journal != "wal" {
		t.Errorf("synchronous %d, journal %s, error %v", synchronous, journal, err)
	}
	err = db.View(t.Context(), func(tx *Tx) error {
		_, err := tx.Exec("DELETE FROM things")
		return err
	})
	if err == nil {
		t.Error("a reader writes")
	}
}

// Transactions that share a commit stand or fall by themselves, also where one
// panics.
func TestSharedCommit(t *testing.T) {
	db := openAt(t, t.TempDir())
	refused := errors.New("refused")
	const writers = 96
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			defer func() {
				if p := recover(); (p != nil) != (i%3 == 2) {
					t.Errorf("writer %d: panic %v", i, p)
				}
			}()
			err := db.Update(context.Background(), func(tx *Tx) error {
				if _, err := tx.Exec("INSERT INTO things VALUES (?, ?)", fmt.Sprint(i), i); err != nil {
					return err
				}
				switch i % 3 {
				case 1:
					return refused
				case 2:
					panic(i)
				}
				return nil
			})
			if want := i%3 == 1; errors.Is(err, refused) != want || (err != nil) != want {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	all.Wait()
	if n := count(t, db); n != writers/3 {
		t.Errorf("%d rows, want %d", n, writers/3)
	}
}

// Whoever comes while one has its turn shares a commit with the others.
func TestWaitersShareACommit(t *testing.T) {
	db := openAt(t, t.TempDir())
	commits := func() (n int) {
		// Each commit ends with a frame that says so; each of these writes the
		// same page, once a commit.
		if err := db.View(t.Context(), func(tx *Tx) error { return tx.QueryRow("PRAGMA data_version").Scan(&n) }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := commits()
	var all sync.WaitGroup
	const writers = 32
	err := db.Update(t.Context(), func(*Tx) error {
		for i := range writers {
			all.Go(func() {
				if err := insert(db, fmt.Sprint(i), i); err != nil {
					t.Error(err)
				}
			})
		}
		for db.writer.waiting.Load() < writers {
			if err := t.Context().Err(); err != nil {
				return err
			}
		}
		return nil
	})
	all.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if n := count(t, db); n != writers {
		t.Errorf("%d rows", n)
	}
	info, err := os.Stat(db.log())
	if err != nil {
		t.Fatal(err)
	}
	// One commit writes a page or two; each for itself would write 32 times.
	if pages := info.Size() / 4096; pages > 12 || commits() == before {
		t.Errorf("the log has %d pages", pages)
	}
}

func TestReaderSeesOneState(t *testing.T) {
	db := openAt(t, t.TempDir())
	if err := insert(db, "a", 1); err != nil {
		t.Fatal(err)
	}
	err := db.View(t.Context(), func(tx *Tx) error {
		for i := range 3 {
			var n int
			if err := tx.QueryRow("SELECT count(*) FROM things").Scan(&n); err != nil || n != 1 {
				t.Errorf("look %d: %d, error %v", i, n, err)
			}
			if err := insert(db, fmt.Sprint(i), i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || count(t, db) != 4 {
		t.Errorf("%v, %d rows", err, count(t, db))
	}
}

// Statements can be asked again while their rows are open, and there may be
// any number of them.
func TestStatements(t *testing.T) {
	db := openAt(t, t.TempDir())
	for i := range 3 {
		if err := insert(db, fmt.Sprint(i), i); err != nil {
			t.Fatal(err)
		}
	}
	pairs := 0
	const all = "SELECT name FROM things ORDER BY name"
	each := func(tx *Tx, f func() error) error {
		return tx.Each(func(*sql.Rows) error { return f() }, all)
	}
	err := db.View(t.Context(), func(tx *Tx) error {
		return each(tx, func() error { return each(tx, func() error { pairs++; return nil }) })
	})
	if err != nil || pairs != 9 {
		t.Errorf("%d pairs, error %v", pairs, err)
	}
	err = db.View(t.Context(), func(tx *Tx) error {
		for i := range 3 * maxStatements {
			var n int
			if err := tx.QueryRow(fmt.Sprintf("SELECT %d", i)).Scan(&n); err != nil || n != i {
				return fmt.Errorf("%d: %d, %w", i, n, err)
			}
		}
		if n := len(tx.conn.statements); n > maxStatements {
			t.Errorf("%d statements are kept", n)
		}
		return tx.QueryRow("SELECT nothing").Scan(new(int))
	})
	if err == nil || !strings.Contains(fmt.Sprint(err), "nothing") {
		t.Errorf("a wrong statement: %v", err)
	}
}

func TestReaderEndsWithItsContext(t *testing.T) {
	db := openAt(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	err := db.View(ctx, func(tx *Tx) error {
		return tx.Each(func(*sql.Rows) error { cancel(); return nil },
			"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT i FROM n")
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if n := count(t, db); n != 0 {
		t.Errorf("%d rows", n)
	}
	if err := db.Update(ctx, func(*Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a transaction begins after its context: %v", err)
	}
}

func TestMigrations(t *testing.T) {
	dir := t.TempDir()
	failing := errors.New("failing")
	open := func(migrations ...Migration) error {
		d, err := OpenDirectory(dir)
		if err != nil {
			t.Fatal(err)
		}
		db, err := d.Open(t.Context(), Schema{Name: "things", Migrations: migrations})
		if err == nil {
			err = db.Close()
		}
		return errors.Join(err, d.Close())
	}
	table := things.Migrations[0]
	row := Statements("INSERT INTO things VALUES ('a', 1)")
	for _, step := range []struct {
		migrations []Migration
		want       error
	}{
		{[]Migration{table}, nil},
		{[]Migration{table, func(tx *Tx) error { return errors.Join(row(tx), failing) }}, failing},
		{[]Migration{table, row}, nil},
		{[]Migration{table, row}, nil},
		{[]Migration{table}, ErrNewer},
	} {
		if err := open(step.migrations...); !errors.Is(err, step.want) {
			t.Errorf("%d migrations: %v, want %v", len(step.migrations), err, step.want)
		}
	}
	if err := open(table, row, Statements("INSERT INTO things SELECT 'b', count(*) FROM things")); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Open(t.Context(), Schema{Name: "../things"}); err == nil {
		t.Error("a name leads out of the directory")
	}
	db, err := d.Open(t.Context(), Schema{Name: "things", Migrations: []Migration{table, row, row}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var n int
	err = db.View(t.Context(), func(tx *Tx) error { return tx.QueryRow("SELECT n FROM things WHERE name = 'b'").Scan(&n) })
	if err != nil || n != 1 {
		t.Errorf("%d, error %v", n, err)
	}
}

func TestDirectoryIsOneProcesss(t *testing.T) {
	dir := t.TempDir()
	openAt(t, dir)
	if _, err := OpenDirectory(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("a second time: %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, "things.db"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
}

// A backup is one state of the database, taken while others write.
func TestBackup(t *testing.T) {
	db := openAt(t, t.TempDir())
	stop := make(chan struct{})
	started := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			// Both or neither.
			err := db.Update(context.Background(), func(tx *Tx) error {
				_, err := tx.Exec("INSERT INTO things VALUES (?, 0), (?, 0)", fmt.Sprint("a", i), fmt.Sprint("b", i))
				return err
			})
			if err != nil {
				t.Error(err)
			}
			if i == 0 {
				close(started)
			}
		}
	})
	<-started
	path := filepath.Join(t.TempDir(), "things.db")
	if err := db.Backup(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	close(stop)
	writing.Wait()
	if err := db.Backup(t.Context(), path); !errors.Is(err, os.ErrExist) {
		t.Errorf("over another backup: %v", err)
	}
	copied := openAt(t, filepath.Dir(path))
	if n := count(t, copied); n < 2 || n%2 != 0 {
		t.Errorf("the backup has %d rows", n)
	}
	var whole string
	err := copied.View(t.Context(), func(tx *Tx) error { return tx.QueryRow("PRAGMA integrity_check").Scan(&whole) })
	if err != nil || whole != "ok" {
		t.Errorf("%s, error %v", whole, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	given := filepath.Join(t.TempDir(), "x.db")
	if err := db.Backup(ended, given); err == nil {
		t.Error("a backup that was given up is done")
	}
	if _, err := os.Stat(given); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a backup that was given up is left: %v", err)
	}
}

func TestBytes(t *testing.T) {
	db := openAt(t, t.TempDir())
	before, err := db.Bytes()
	if err != nil || before == 0 {
		t.Fatalf("%d bytes, error %v", before, err)
	}
	if err := insert(db, strings.Repeat("x", 1<<20), 1); err != nil {
		t.Fatal(err)
	}
	if after, err := db.Bytes(); err != nil || after < before+1<<20 {
		t.Errorf("%d bytes after %d, error %v", after, before, err)
	}
}

// A batch is ample where there is room for the log, and for what it adds.
func TestAmple(t *testing.T) {
	dir := t.TempDir()
	r, err := openRoom(filepath.Join(dir, roomFile))
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	log := filepath.Join(dir, "log")
	if ample, err := r.ample(log); err != nil || !ample {
		t.Fatalf("no log: %t, error %v", ample, err)
	}
	free, err := r.space()
	if err != nil {
		t.Fatal(err)
	}
	// A file with a hole has the size and takes no room.
	if err := errors.Join(os.WriteFile(log, nil, 0o600), os.Truncate(log, free/4*5)); err != nil {
		t.Fatal(err)
	}
	if ample, err := r.ample(log); err != nil || ample {
		t.Errorf("with a log larger than the disk: %t, error %v", ample, err)
	}
}

// A commit that need not wait for the disk does not, and one that must does,
// whichever came before it.
func TestUnsynced(t *testing.T) {
	db := openAt(t, t.TempDir())
	mode := func(update func(context.Context, func(*Tx) error) error) (n int) {
		t.Helper()
		err := update(t.Context(), func(tx *Tx) error { return tx.QueryRow("SELECT synchronous FROM pragma_synchronous").Scan(&n) })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const normal, full = 1, 2
	for range 3 {
		if n := mode(db.UpdateUnsynced); n != normal {
			t.Errorf("unsynced: %d", n)
		}
		if n := mode(db.Update); n != full {
			t.Errorf("synced: %d", n)
		}
		if n := mode(db.Free); n != full {
			t.Errorf("freeing: %d", n)
		}
	}
	var all sync.WaitGroup
	// One that must wait for the disk joins none that need not, though it waits
	// behind it.
	err := db.UpdateUnsynced(t.Context(), func(*Tx) error {
		all.Go(func() {
			if n := mode(db.Update); n != full {
				t.Errorf("synced behind one that is not: %d", n)
			}
		})
		for db.writer.waiting.Load() == 0 {
			if err := t.Context().Err(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		all.Go(func() {
			update, want := db.Update, full
			if i%2 == 0 {
				update, want = db.UpdateUnsynced, normal
			}
			// One that need not wait may share the commit of one that must.
			if n := mode(update); n != want && n != full {
				t.Errorf("%d: %d, want %d", i, n, want)
			}
		})
	}
	all.Wait()
}
