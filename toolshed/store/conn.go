package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strconv"
)

// maxStatements bounds the statements that a connection keeps prepared. Text
// that is made for one request must not push out what each request uses, and
// is prepared anew.
const maxStatements = 64

// conn is one connection with its prepared statements. One goroutine at a time
// uses it.
type conn struct {
	pool       *sql.DB
	raw        *sql.Conn
	statements map[string]*sql.Stmt
	// broken says that it is in a state that nobody knows.
	broken bool
}

func cacheSize(kib int) string { return "cache_size(-" + strconv.Itoa(kib) + ")" }

func connect(ctx context.Context, path string, pragmas ...string) (*conn, error) {
	query := url.Values{"_pragma": append([]string{"busy_timeout(5000)"}, pragmas...)}
	pool, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	raw, err := pool.Conn(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connecting: %w", err), pool.Close())
	}
	return &conn{pool: pool, raw: raw, statements: map[string]*sql.Stmt{}}, nil
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.statements {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, c.raw.Close(), c.pool.Close())...)
}

// statement is the prepared one, or nil where there is no place for it.
func (c *conn) statement(query string) (*sql.Stmt, error) {
	if s, ok := c.statements[query]; ok || len(c.statements) == maxStatements {
		return s, nil
	}
	s, err := c.raw.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	c.statements[query] = s
	return s, nil
}

// keep takes a statement back that was lent, or closes it where another has its
// place.
func (c *conn) keep(query string, s *sql.Stmt) error {
	if _, ok := c.statements[query]; ok || len(c.statements) == maxStatements {
		return s.Close()
	}
	c.statements[query] = s
	return nil
}

func (c *conn) exec(query string) error {
	_, err := (&Tx{conn: c, ctx: context.Background()}).Exec(query)
	return err
}

// Tx is one transaction, for as long as the function that it was given to runs.
type Tx struct {
	conn *conn
	// ctx ends what a reader asks. A writer's does not end: SQLite would take
	// back the whole transaction, which others share.
	ctx context.Context
}

// Exec runs one statement.
func (t *Tx) Exec(query string, args ...any) (sql.Result, error) {
	s, err := t.conn.statement(query)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return t.conn.raw.ExecContext(t.ctx, query, args...)
	}
	return s.ExecContext(t.ctx, args...)
}

// Each calls scan for each row of a query, until one fails.
func (t *Tx) Each(scan func(*sql.Rows) error, query string, args ...any) (err error) {
	rows, err := t.rows(query, args)
	if err != nil {
		return err
	}
	// Its rows are a prepared statement's one state: who asks the same while
	// they are open gets another.
	s := t.conn.statements[query]
	delete(t.conn.statements, query)
	defer func() {
		err = errors.Join(err, rows.Close())
		if s != nil {
			err = errors.Join(err, t.conn.keep(query, s))
		}
	}()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (t *Tx) rows(query string, args []any) (*sql.Rows, error) {
	s, err := t.conn.statement(query)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return t.conn.raw.QueryContext(t.ctx, query, args...)
	}
	return s.QueryContext(t.ctx, args...)
}

// QueryRow asks for one row, which is scanned before anything else is asked; its
// Scan answers the error.
func (t *Tx) QueryRow(query string, args ...any) *sql.Row {
	if s, err := t.conn.statement(query); err == nil && s != nil {
		return s.QueryRowContext(t.ctx, args...)
	}
	return t.conn.raw.QueryRowContext(t.ctx, query, args...)
}

// script runs statements that are not used again.
func (t *Tx) script(text string) error {
	_, err := t.conn.raw.ExecContext(t.ctx, text)
	return err
}

func migrate(c *conn, migrations []Migration) error {
	var have int
	t := &Tx{conn: c, ctx: context.Background()}
	if err := t.QueryRow("PRAGMA user_version").Scan(&have); err != nil {
		return fmt.Errorf("reading the format: %w", err)
	}
	if have > len(migrations) {
		return fmt.Errorf("%w: %d, this program knows %d", ErrNewer, have, len(migrations))
	}
	for n, m := range migrations[have:] {
		err := transact(c, func(t *Tx) error {
			if err := m(t); err != nil {
				return err
			}
			// A pragma takes no parameters.
			return t.script("PRAGMA user_version = " + strconv.Itoa(have+n+1))
		})
		if err != nil {
			return fmt.Errorf("migration %d: %w", have+n+1, err)
		}
	}
	return nil
}

// transact runs f in a transaction of its own.
func transact(c *conn, f func(*Tx) error) (err error) {
	if err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	whole := false
	defer func() {
		if !whole {
			// SQLite may have taken it back already.
			_ = c.exec("ROLLBACK")
		}
	}()
	if err := f(&Tx{conn: c, ctx: context.Background()}); err != nil {
		return err
	}
	if err := c.exec("COMMIT"); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	whole = true
	return nil
}

// checkpoint moves the log into the database and empties it. Where it cannot,
// nothing is lost: the log is as durable, and the next one tries again.
func checkpoint(c *conn) {
	_, _ = c.raw.ExecContext(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)")
}
