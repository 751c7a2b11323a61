package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Readers wait for no writer, and more would only hold more memory. Of those
// that are open few stay so.
const (
	maxReaders  = 8
	idleReaders = 2
)

// The page caches, in KiB: one for what writes, one for each that reads. They
// are small because the machine is, and the kernel keeps the pages anyway.
const (
	writerCacheKiB = 1024
	readerCacheKiB = 256
)

// DB is an open database.
type DB struct {
	path   string
	schema Schema
	writer *writer
	// readers holds a token for each reading connection in use, idle those that
	// wait for the next View.
	readers chan struct{}
	idle    chan *conn
	// unseen is how many writes need not look at the quota. Only functions that
	// Update runs touch it, which run one after another.
	unseen int64
}

// log is the file of the write-ahead log.
func (db *DB) log() string { return db.path + "-wal" }

func (db *DB) open(ctx context.Context, s Schema, r *room) error {
	if err := forOwnerAlone(db.path); err != nil {
		return err
	}
	pragmas := []string{
		"journal_mode(wal)", "synchronous(full)", "foreign_keys(1)",
		"wal_autocheckpoint(" + strconv.Itoa(checkpointPages) + ")", cacheSize(writerCacheKiB),
	}
	if s.SecureDelete {
		pragmas = append(pragmas, "secure_delete(1)")
	}
	c, err := connect(ctx, db.path, pragmas...)
	if err != nil {
		return err
	}
	if err := migrate(c, s.Migrations); err != nil {
		return errors.Join(err, c.close())
	}
	checkpoint(c)
	db.writer = newWriter(c, r, db.log())
	return nil
}

// forOwnerAlone makes the file before SQLite does, whose other files then have
// its mode.
func forOwnerAlone(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("making the file: %w", err)
	}
	return f.Close()
}

// Close closes the database. Nothing may be under way.
func (db *DB) Close() error {
	var errs []error
	for range len(db.idle) {
		errs = append(errs, (<-db.idle).close())
	}
	if w := db.writer; w != nil {
		// The last connection empties the log into the database.
		errs = append(errs, w.room.spare(db.log(), w.conn.close))
		db.writer = nil
	}
	return errors.Join(errs...)
}

// Update runs f in a transaction and returns once what it did is on the disk.
// The error is f's, or ErrFull where there is no room. Others may share the
// commit, so f must be short; it must not call this or another store, and must
// leave nothing behind outside of the transaction: it may run twice. A
// transaction that has begun does not notice the end of ctx.
func (db *DB) Update(ctx context.Context, f func(*Tx) error) error {
	return db.writer.update(ctx, f, true, true)
}

// UpdateUnsynced is an Update that returns before the disk is synced, for what
// may be lost with the power, and is not when the process is killed. The next
// Update syncs it too.
func (db *DB) UpdateUnsynced(ctx context.Context, f func(*Tx) error) error {
	return db.writer.update(ctx, f, true, false)
}

// Free is an Update that makes room, by deleting, and so is let into the room
// that is kept for that on a full disk.
func (db *DB) Free(ctx context.Context, f func(*Tx) error) error {
	return db.writer.update(ctx, f, false, true)
}

// View runs f on one state of the database. What f asks ends with ctx.
func (db *DB) View(ctx context.Context, f func(*Tx) error) (err error) {
	c, err := db.reader(ctx)
	if err != nil {
		return err
	}
	defer db.release(c)
	if err := c.exec("BEGIN"); err != nil {
		return fmt.Errorf("beginning to read: %w", err)
	}
	defer func() {
		if ended := c.exec("ROLLBACK"); ended != nil {
			c.broken = true
			err = errors.Join(err, ended)
		}
	}()
	return f(&Tx{conn: c, ctx: ctx})
}

// reader is a reading connection that nobody else uses.
func (db *DB) reader(ctx context.Context) (*conn, error) {
	select {
	case db.readers <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting to read: %w", ctx.Err())
	}
	select {
	case c := <-db.idle:
		return c, nil
	default:
	}
	c, err := connect(context.WithoutCancel(ctx), db.path, "query_only(1)", cacheSize(readerCacheKiB))
	if err != nil {
		<-db.readers
		return nil, err
	}
	return c, nil
}

func (db *DB) release(c *conn) {
	defer func() { <-db.readers }()
	if !c.broken {
		select {
		case db.idle <- c:
			return
		default:
		}
	}
	// It only ever read.
	_ = c.close()
}

// Erase rewrites the database from what it holds and empties its log: what was
// deleted or overwritten before is in none of its files then. SecureDelete alone
// leaves pieces in pages that are still in use. It takes as long as copying the
// database, while which others read and wait to write, and room on the disk for
// two copies. The error is ErrFull, or ErrBusy where somebody goes on reading an
// earlier state.
func (db *DB) Erase(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("erasing what was deleted: %w", err)
	}
	if err := db.writer.erase(); isFull(err) {
		return ErrFull
	} else if err != nil {
		return fmt.Errorf("erasing what was deleted: %w", err)
	}
	return nil
}

// Bytes is what the database takes of the disk, its log included.
func (db *DB) Bytes() (int64, error) {
	var sum int64
	for _, path := range []string{db.path, db.log()} {
		info, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("reading the database's size: %w", err)
		}
		sum += info.Size()
	}
	return sum, nil
}

// Backup writes one state of the database into a new file, while others read
// and write. A file that is there already is an error.
func (db *DB) Backup(ctx context.Context, path string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("backing up: %w", err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	// A connection of its own: VACUUM INTO is a write to those that only read.
	c, err := connect(context.WithoutCancel(ctx), db.path, cacheSize(readerCacheKiB))
	if err != nil {
		return err
	}
	defer c.close() //nolint:errcheck // it only read
	if _, err := c.raw.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return fmt.Errorf("backing up %s: %w", filepath.Base(db.path), err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("backing up: %w", err)
	}
	return nil
}
