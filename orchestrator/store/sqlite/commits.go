package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// LostCommitsError says that the database is older than it was: a cut log,
// which SQLite reads as far as it goes and says nothing of, or an older copy.
type LostCommitsError struct {
	Dir string
	// Have is how many commits the database holds, Had how many it held.
	Have, Had uint64
}

func (e *LostCommitsError) Error() string {
	return fmt.Sprintf("%s in %s lacks the last %d of %d commits: it, or %s-wal, was cut or is an older copy",
		DatabaseFile, e.Dir, e.Had-e.Have, e.Had, DatabaseFile)
}

// commits counts the commits in the database and, after each, in a file beside
// it. The file is not synced: it only ever says less than the database, which
// is, and what it says outlives whatever ends the process.
type commits struct {
	n    uint64
	file *os.File
}

// countWidth is what the file holds: a number with leading zeros, so that each
// overwrites the one before.
const countWidth = 20

// openCommits compares the two counts. The error is a *LostCommitsError where
// the database holds less than it held. A file that is missing or empty, as
// after a loss of power, says nothing.
func openCommits(ctx context.Context, dir string, c *conn) (_ *commits, err error) {
	f, err := os.OpenFile(filepath.Join(dir, CommitsFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the count of commits: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	count := &commits{file: f}
	if err := c.raw.QueryRowContext(ctx, "SELECT n FROM commits").Scan(&count.n); err != nil {
		return nil, fmt.Errorf("reading the count of commits: %w", err)
	}
	b := make([]byte, countWidth)
	if _, err := f.ReadAt(b, 0); err == nil {
		had, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		if err == nil && had > count.n {
			return nil, &LostCommitsError{Dir: dir, Have: count.n, Had: had}
		}
	}
	return count, count.write()
}

// next is the statement that belongs to the commit that follows.
func (c *commits) next(on *conn) error {
	return on.exec("UPDATE commits SET n = ?", int64(c.n+1))
}

// done notes that the commit is on the disk. A file that cannot be written says
// less than there is, until the next commit writes it.
func (c *commits) done() {
	c.n++
	_ = c.write()
}

func (c *commits) write() error {
	if _, err := c.file.WriteAt(fmt.Appendf(nil, "%0*d\n", countWidth, c.n), 0); err != nil {
		return fmt.Errorf("writing the count of commits: %w", err)
	}
	return nil
}

func (c *commits) close() error { return c.file.Close() }
